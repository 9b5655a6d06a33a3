"""Formation energies by CHGNet 0.3.0 through ``formation`` against PBE, on crystals of the WBM set.

    python benchmarks/formation_dft.py ../shared/data/crystals/wbm_equilibrium.extxyz.gz --count 200

Wang, Botti and Marques, npj Comput. Mater. 7, 12 (2021). Crystals and elements are relaxed by the model; no
energy of another code enters. The mean absolute error carries its 95% bootstrap interval over crystals, and
is given apart for crystals that hold an element whose reference is molecular.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from machine import describe, limit_threads
from numpy.typing import NDArray


def main() -> None:
    """Parse, relax, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="wbm_equilibrium.extxyz.gz")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of crystals")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("ase", "pymatgen")
    from ase.io import read

    from atomml import load_model
    from atomml.data.elements import element_structure
    from atomml.workflows import formation

    covered = set(load_model("chgnet-0.3.0").info.elements)
    crystals = [atoms for atoms in read(told.data, ":") if covered.issuperset(atoms.numbers.tolist())]
    order = np.random.default_rng(told.seed).permutation(len(crystals))[: told.count]
    chosen = [crystals[k] for k in sorted(order)]
    start = time.perf_counter()
    rows = formation(chosen, "chgnet-0.3.0").rows
    seconds = time.perf_counter() - start
    values = [row.get("formation_energy_per_atom_eV") for row in rows]
    found = np.array([np.nan if value is None else value for value in values])
    truth = np.array([atoms.info["formation_energy_per_atom"] for atoms in chosen])
    molecular = np.array(
        [any(element_structure(symbol).molecule for symbol in set(atoms.symbols)) for atoms in chosen]
    )
    errors, whole = np.abs(found - truth), np.isfinite(found)
    print("| | crystals | MAE, meV/atom |\n|---|---|---|")
    for name, part in (("all", whole), ("solid", whole & ~molecular), ("molecular", whole & molecular)):
        print(f"| {name} | {part.sum()} | {_interval(1000 * errors[part])} |")
    print(f"\n{(~whole).sum()} failed; {seconds:.0f} s")


def _interval(values: NDArray[np.float64]) -> str:
    from atomml.data.bootstrap import interval_of_mean

    low, high = interval_of_mean(values)
    return f"{values.mean():.0f} [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    main()

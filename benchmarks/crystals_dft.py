"""CHGNet 0.3.0 through ``elastic`` and ``phonons`` against DFT.

    python benchmarks/crystals_dft.py ../shared/data/crystals --moduli 200 --heat 100 --out rows.jsonl

DFT is that of the data: moduli of Materials Project binaries (relaxed ions), heat capacities at 300 K of
Alexandria binaries, both PBE. Each row is appended to ``--out`` as it is done, and a run that is repeated
goes on there. ``beside_matcalc.py`` sets the same workflows beside a peer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

STRAIN = 0.005
FILES = {"moduli": "mp_binary_elasticity.extxyz.gz", "heat": "alexandria_binary_heat_capacity.extxyz.gz"}
QUANTITIES = {
    "moduli": (("bulk_modulus", "bulk_modulus_vrh", "GPa"), ("shear_modulus", "shear_modulus_vrh", "GPa")),
    "heat": (("heat_capacity", "heat_capacity", "J/K/mol of atoms"),),
}


def main() -> None:
    """Parse, compute what is missing, print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the two extxyz.gz files")
    parser.add_argument("--moduli", type=int, default=200, help="crystals for bulk and shear moduli")
    parser.add_argument("--heat", type=int, default=100, help="crystals for the heat capacity")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of crystals")
    parser.add_argument("--min-length", type=float, default=20.0, help="of the supercells of phonons, Å")
    parser.add_argument("--ions", default="relaxed", choices=("relaxed", "clamped"), help="in strained cells")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("crystals-dft.jsonl"))
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("ase", "phonopy", "pymatgen")
    for kind in ("moduli", "heat"):
        count = getattr(told, kind)
        if count:
            chosen = choose(told.data / FILES[kind], count, told.seed)
            rows = computed(kind, chosen, told)
            against_dft(kind, rows)


def choose(file: Path, count: int, seed: int) -> list[Any]:
    """``count`` crystals at random, the same for the same seed."""
    import numpy as np
    from ase.io import read

    frames = read(file, ":")
    assert isinstance(frames, list)
    order = np.random.default_rng(seed).permutation(len(frames))[:count]
    return [frames[n] for n in order]


def computed(kind: str, chosen: Sequence[Any], told: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each crystal; those of an earlier run come from the file, failures stay rows."""
    from atomml import load_model

    key = {"kind": kind, "ions": told.ions}
    key |= {"min_length": told.min_length, "threads": told.threads}
    known = {row["id"]: row for row in read_rows(told.out) if all(row.get(k) == v for k, v in key.items())}
    model = load_model("chgnet-0.3.0", dtype="float64", device="cpu")
    compute: Callable[..., dict[str, Any]] = {"moduli": our_moduli, "heat": our_heat}[kind]
    if any(atoms.info["id"] not in known for atoms in chosen):
        compute(chosen[0], model, told)  # not counted: the first call compiles or loads the kernels
    rows = []
    for number, atoms in enumerate(chosen, 1):
        identity = atoms.info["id"]
        if identity not in known:
            started = time.perf_counter()
            try:
                row = compute(atoms, model, told)
            except Exception as error:  # one crystal that fails is a row, and the rest goes on
                row = {"error": f"{type(error).__name__}: {error}"}
            known[identity] = key | {"id": identity, **row, "seconds": time.perf_counter() - started}
            append_row(told.out, known[identity])
        dft = {ours: float(atoms.info[theirs]) for ours, theirs, _ in QUANTITIES[kind]}
        if kind == "heat":  # per mole of primitive cells in the file
            dft["heat_capacity"] /= known[identity].get("n_primitive", len(atoms))
        rows.append(known[identity] | {"dft": dft, "formula": atoms.info["formula"]})
        sys.stderr.write(
            f"{kind} {number}/{len(chosen)} {atoms.info['formula']} {known[identity]['seconds']:.1f} s\n"
        )
    return rows


def our_moduli(atoms: Any, model: Any, told: argparse.Namespace) -> dict[str, Any]:
    """Hill's averages in GPa, and whether the crystal is stable by the model."""
    from atomml.workflows import elastic

    found = elastic(atoms, model, strain=STRAIN, ions=told.ions)
    return {
        "bulk_modulus": found.bulk_modulus,
        "shear_modulus": found.shear_modulus,
        "stable": found.stable,
        "converged": found.converged,
    }


def our_heat(atoms: Any, model: Any, told: argparse.Namespace) -> dict[str, Any]:
    """J/K per mole of atoms at 300 K."""
    from atomml.workflows import phonons

    found = phonons(atoms, model, min_length=told.min_length, temperature=300.0)
    return {
        "heat_capacity": found.heat_capacity,
        "n_primitive": len(found.phonopy.primitive),
        "stable": found.stable,
        "converged": found.converged,
    }


def against_dft(kind: str, rows: Sequence[dict[str, Any]]) -> None:
    """Mean absolute errors with 95% intervals over crystals: of all, and of those stable by the model."""
    good = [row for row in rows if "error" not in row]
    print(f"\n{kind}: {len(good)} of {len(rows)} crystals, {sum(row['seconds'] for row in rows):.0f} s")
    for row in rows:
        if "error" in row:
            print(f"  failed: {row['formula']} ({row['id']}): {row['error'][:160]}")
    print("\n| against DFT | crystals | mean absolute error | 95% interval | mean error | mean of DFT |")
    print("|---|---|---|---|---|---|")
    for name, _, unit in QUANTITIES[kind]:
        for label, some in (("all", good), ("stable", [row for row in good if row["stable"]])):
            if some:
                print(f"| {name}, {unit}, {label} | {len(some)} | {errors(name, some)} |")


def errors(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Cells of the table."""
    import numpy as np

    from atomml.data.bootstrap import interval_of_mean

    dft = np.array([row["dft"][name] for row in rows])
    off = np.array([row[name] for row in rows]) - dft
    low, high = interval_of_mean(np.abs(off), n_resamples=5000)
    return f"{np.abs(off).mean():.3g} | {low:.3g} to {high:.3g} | {off.mean():+.3g} | {dft.mean():.3g}"


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of an earlier run; a torn last line is passed over."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def append_row(file: Path, row: dict[str, Any]) -> None:
    """One line more."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()

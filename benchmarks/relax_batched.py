"""Many small crystals relaxed together, against one after another: throughput and where they end.

    python benchmarks/relax_batched.py [--structures N] [--threads 2] [--rounds 3] [--cell free] [--file F]
    python benchmarks/relax_batched.py --structures 256 --rounds 1 --ways screen alone

Crystals below 20 atoms, displaced by 0.05 Å and strained by 2%, or those of a file as they are. "One at a
time" is ``atomml.workflows.relax`` of each (no folder); "screen" is ``atomml.workflows.screen`` with as many
workers of one thread as there are threads, the start of the workers and its tables included; "ASE" is what
a user writes, ASE's LBFGS on its FrechetCellFilter with the defaults of both, around our calculator, to
0.01 eV/Å (its stress counts in its own way: the volume times it over the atoms), and the same with the
factor of the cell that ours have.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

NAMES = {
    "together": "together",
    "screen": "a screen",
    "alone": "one at a time",
    "ase": "ASE",
    "ase-factor": "ASE, our factor",
}


def _crystals(count: int) -> list[Any]:
    """Eight kinds in turn, 2 to 16 atoms, each displaced and strained in its own way."""
    import numpy as np
    from ase.build import bulk
    from crystals import lithium_cobalt_oxide, rattled, rutile

    kinds = [
        bulk("NiAl", "cesiumchloride", 2.88),
        bulk("Cu", cubic=True),
        rutile((1, 1, 1)),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", 5.64, cubic=True),
        bulk("MgO", "rocksalt", 4.25, cubic=True),
        lithium_cobalt_oxide((1, 1, 1)),
        bulk("Fe", cubic=True).repeat((2, 2, 2)),
    ]
    found = []
    for seed in range(count):
        atoms = rattled(kinds[seed % len(kinds)], 0.05, seed)
        strain = np.random.default_rng(seed).normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        found.append(atoms)
    return found


def _by_ase(cells: list[Any], model: Any, cell: str, ours: bool = False) -> int:
    """Steps of ASE's own way."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS

    from atomml import AtomMLCalculator
    from atomml.workflows.relaxing.relaxation_measures import cell_factor

    calculator, steps = AtomMLCalculator(model), 0
    for atoms in cells:
        moving = atoms.copy()
        moving.calc = calculator
        factor = cell_factor(len(atoms)) if ours else None
        target = moving if cell == "none" else FrechetCellFilter(moving, exp_cell_factor=factor)
        with LBFGS(target, logfile=None) as optimizer:
            optimizer.run(fmax=0.01, steps=1000)
            steps += optimizer.nsteps
    return steps


def main() -> None:
    """Parse, relax both ways in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--structures", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cell", default="free")
    parser.add_argument("--optimizer", default="lbfgs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ways", nargs="*", default=list(NAMES), choices=list(NAMES), help="what is timed")
    parser.add_argument("--file", help="structures of a file; those above 20 atoms are left out")
    told = parser.parse_args()
    limit_threads(told.threads)
    from atomml import load_model
    from atomml.workflows import relax
    from atomml.workflows.inputs import structures_of
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    describe("ase")
    model = load_model("chgnet-0.3.0", device=told.device)
    if told.file:
        read = (given.atoms for given in structures_of(told.file))
        cells = [atoms for atoms in read if len(atoms) < 20][: told.structures]
    else:
        cells = _crystals(told.structures)
    settings = {"cell": told.cell, "optimizer": told.optimizer}
    list(relax_batched(cells[:8], model, steps=2, **settings))
    for atoms in cells[:8]:
        relax(atoms, model, steps=2, **settings)
    ways: dict[str, Callable[[], Any]] = {
        "together": lambda: sorted(relax_batched(cells, model, **settings), key=lambda one: one.index),
        "screen": lambda: _by_screen(cells, told.threads, settings),
        "alone": lambda: [relax(atoms, model, **settings) for atoms in cells],
        "ase": lambda: _by_ase(cells, model, told.cell),
        "ase-factor": lambda: _by_ase(cells, model, told.cell, ours=True),
    }
    ways = {name: way for name, way in ways.items() if name in told.ways}
    print(f"\n{len(cells)} crystals of {min(map(len, cells))} to {max(map(len, cells))} atoms, {settings}\n")
    print("| round | " + ", s | ".join(NAMES[name] for name in ways) + ", s |\n|" + "---|" * (len(ways) + 1))
    spent: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for number in range(told.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way()
            spent[name].append(time.perf_counter() - started)
        cells_of_row = " | ".join(f"{spent[name][-1]:.1f}" for name in ways)
        print(f"| {number + 1} | {cells_of_row} |", flush=True)
    print()
    for fast in (name for name in ("together", "screen") if name in ways):
        for slow in (name for name in ("alone", "ase", "ase-factor") if name in ways):
            ratio = statistics.median(b / a for a, b in zip(spent[fast], spent[slow], strict=True))
            print(f"{NAMES[fast]}: {ratio:.2f} times the throughput of {NAMES[slow]}")
    _where_they_end(found)


def _where_they_end(found: dict[str, Any]) -> None:
    """Whether what relaxed together, or in a screen, ended where each alone did."""
    alone = found.get("alone")
    if alone and "together" in found:
        pairs = [(a.result, b) for a, b in zip(found["together"], alone, strict=True) if a.result is not None]
        apart = max(abs(one.energy_per_atom - other.energy_per_atom) for one, other in pairs)
        same = sum(one.n_steps == other.n_steps for one, other in pairs)
        print(
            f"steps: {sum(one.n_steps for one, _ in pairs)} together; {len(pairs)} of {len(alone)} relaxed,"
        )
        print(f"{sum(one.converged for one, _ in pairs)} converged, {same} in as many steps as alone;")
        print(f"energies differ by {1e3 * apart:.2g} meV/atom at most")
    if alone and "screen" in found:
        rows = found["screen"].rows
        energies = [row["energy_per_atom_eV"] for row in rows]
        apart = max(abs(a - b.energy_per_atom) for a, b in zip(energies, alone, strict=True))
        print(f"screen: {len(rows)} rows, energies differ by {1e3 * apart:.2g} meV/atom at most")


def _by_screen(cells: list[Any], workers: int, settings: dict[str, str]) -> Any:
    """What a user gets who screens: worker processes of one thread, batches of 32, tables in a folder."""
    from atomml.workflows import screen

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        return screen("relax", cells, "chgnet-0.3.0", out=out, workers=workers, **settings)


if __name__ == "__main__":
    main()

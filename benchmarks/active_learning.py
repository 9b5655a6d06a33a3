"""Labels that a loop needs against frames drawn at random, on a molecule and on a crystal.

    python benchmarks/active_learning.py [--systems molecule crystal] [--seeds 0] [--budget 60]

``molecule``: ethanol at 500 K, labels by GFN2-xTB. ``crystal``: copper (four atoms) at 1200 K, labels by
ASE's effective medium theory. A committee of three small MACE from nothing; ``atomml learn`` chooses frames
(``--choice uncertain``) or draws them at random from runs of the same length that nobody stops (``--choice
random``); everything else is alike. The fixed test set are 100 frames of dynamics with the labelling method
itself. Prints errors by labels, and the labels that each needs to reach given force errors (linear between
rounds). One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

SHAPE = """model:
  family: mace
  hidden: 16x0e+16x1o
  max_degree: 2
  cutoff: 4.5
  n_radial: 8
  radial_widths: [32, 32]
  correlations: [3, 3]
"""
SYSTEMS: dict[str, dict[str, Any]] = {
    "molecule": {
        "label": "gfn2", "temperature": 500, "timestep": 0.5, "uncertainty": 0.4, "stable_time": 1.0,
    },
    "crystal": {
        "label": "ase:ase.calculators.emt:EMT", "temperature": 1200, "timestep": 2.0, "uncertainty": 0.15,
        "stable_time": 2.0,
    },
}  # fmt: skip


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=(0,))
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--train-steps", type=int, default=250)
    parser.add_argument("--folder", type=Path, help="where to keep runs; a temporary one if not given")
    told = parser.parse_args()
    limit_threads(1)
    import torch

    torch.set_num_threads(1)
    describe("tblite")
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for system in told.systems:
            compare(system, folder, told)


def compare(system: str, folder: Path, told: argparse.Namespace) -> None:
    """Both choices, seed by seed."""
    from ase.io import write

    from atomml.workflows import learn

    known = SYSTEMS[system]
    start, test, shape = folder / f"{system}.extxyz", folder / f"{system}-test.extxyz", folder / "mace.yaml"
    shape.write_text(SHAPE)
    write(start, structure(system))
    if not test.exists():
        write(test, trajectory(system, known))
    print(
        f"\n| {system} | seed | labels | E, meV/atom | F MAE, meV/Å | F RMSE | runs stopped "
        "| largest spread, eV/Å |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    curves: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for seed in told.seeds:
        for choice in ("uncertain", "random"):
            out = folder / f"{system}-{choice}-{seed}"
            started = time.perf_counter()
            found = learn(
                start, shape, out=out, resume=out.exists(), device="cpu", seed=seed, test=(str(test),),
                budget=told.budget, initial=10, per_round=10, committee=3, runs=4, choice=choice,
                train_steps=told.train_steps, learning_rate=5e-3, every=10, forces_weight="10",
                **{**known, "temperature": str(known["temperature"])},
            )  # fmt: skip
            curves[choice, seed] = found.rows
            for row in found.rows:
                print(
                    f"| {choice} | {seed} | {row['labels']} | {row['shifted_energy_mae_meV_per_atom']:.2f} | "
                    f"{row['forces_mae_meV_per_A']:.0f} | {row['forces_rmse_meV_per_A']:.0f} "
                    f"| {row['runs_stopped']} of 4 | {row['largest_uncertainty_eV_per_A']:.2f} |"
                )
            print(f"<!-- {time.perf_counter() - started:.0f} s -->", flush=True)
    reached(curves)


def reached(curves: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    """Labels to reach force errors that both have passed."""
    import numpy as np

    ends = [min(row["forces_mae_meV_per_A"] for row in rows) for rows in curves.values()]
    starts = [rows[0]["forces_mae_meV_per_A"] for rows in curves.values()]
    print("\n| force MAE, meV/Å | choice | seed | labels |\n|---|---|---|---|")
    for goal in np.geomspace(min(starts), max(ends) * 1.001, 4)[1:]:
        for (choice, seed), rows in curves.items():
            labels = [row["labels"] for row in rows]
            errors = np.minimum.accumulate([row["forces_mae_meV_per_A"] for row in rows])
            needed = np.interp(-goal, -errors, labels)
            print(f"| {goal:.0f} | {choice} | {seed} | {needed:.0f} |", flush=True)


def structure(system: str) -> Any:
    """Where dynamics starts."""
    from ase.build import bulk, molecule

    return molecule("CH3CH2OH") if system == "molecule" else bulk("Cu", cubic=True)


def trajectory(system: str, known: dict[str, Any]) -> list[Any]:
    """A hundred labelled frames of Langevin dynamics with the labelling method, 20 steps apart."""
    import numpy as np
    from ase import units
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    atoms = structure(system)
    if system == "molecule":
        from tblite.ase import TBLite

        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    else:
        from ase.calculators.emt import EMT

        atoms.calc = EMT()
    random = np.random.default_rng(99)
    MaxwellBoltzmannDistribution(atoms, temperature_K=known["temperature"], rng=random)
    dynamics = Langevin(
        atoms,
        known["timestep"] * units.fs,
        temperature_K=known["temperature"],
        friction=0.01 / units.fs,
        rng=random,
    )
    frames = []
    for _ in range(110):
        dynamics.run(20)
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(
            frame, energy=float(atoms.get_potential_energy()), forces=np.array(atoms.get_forces())
        )
        frames.append(frame)
    return frames[10:]


if __name__ == "__main__":
    main()

"""A MACE taught acetylacetone from nothing in so many CPU minutes, then 100 ps with it.

    python benchmarks/mace_acac.py --minutes 30 --seeds 0 1 2

The 500 training and the test frames at 300 K of Kovács et al. (J. Chem. Theory Comput. 17, 7696, 2021);
energies start from the isolated atoms' of the data set, as published. The number of steps is that which fits
into ``--minutes`` of CPU time of one thread, by trainings of 20 and 120 steps before. Errors of the last
weights: energies of the whole molecule (meV), force components (meV/Å), MAE and RMSE, the RMSE with 95%
intervals over frames. Dynamics: Langevin, 300 K, from a test frame; a molecule is whole as long as its heavy
atoms keep their bonds and each hydrogen has a neighbour. Trainings that are done are kept in ``--folder``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

SHAPE: dict[str, Any] = {
    "family": "mace", "cutoff": 5.0, "hidden": "64x0e+64x1o", "max_degree": 3, "n_radial": 8,
    "radial_widths": [64, 64], "correlations": [3, 3],
}  # fmt: skip
LOOP: dict[str, Any] = {
    "batch_size": 8, "forces_weight": "10", "energy_weight": "1:40@0.7", "learning_rate": 5e-3,
    "valid_fraction": 0.0, "references": "isolated", "device": "cpu",
}  # fmt: skip


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--acac", type=Path, default=Path("../shared/data/acac"))
    parser.add_argument("--minutes", type=float, default=30.0, help="CPU time of a training")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--model", type=json.loads, default={}, help="hyperparameters as JSON")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the training as JSON")
    parser.add_argument("--picoseconds", type=float, default=100.0)
    parser.add_argument("--folder", type=Path, default=Path("mace-acac"))
    told = parser.parse_args()
    limit_threads(1)
    import torch

    torch.set_num_threads(1)
    describe("ase")
    told.folder.mkdir(parents=True, exist_ok=True)
    n_steps = steps_within(told)
    print("\n| seed | steps | CPU min | E MAE, meV | E RMSE | F MAE, meV/Å | F RMSE |")
    print("|---|---|---|---|---|---|---|")
    models = [row(told, seed, n_steps) for seed in told.seeds]
    for seed, model in zip(told.seeds, models, strict=True):
        if told.picoseconds:
            print(f"seed {seed}: {dynamics(told, model, seed)}", flush=True)


def trained(told: argparse.Namespace, name: str, seed: int, n_steps: int) -> tuple[str, float]:
    """The last model of a training, and the CPU seconds that it took; one that is done is not done again."""
    from atomml.workflows import train

    done = told.folder / f"{name}.json"
    if not done.exists():
        before = time.process_time()
        files = [told.acac / "train_300K.xyz", told.acac / "isolated_atoms.xyz"]
        options = {**LOOP, **told.options, "seed": seed, "max_steps": n_steps, "epochs": -(-n_steps // 63)}
        made = train({**SHAPE, **told.model}, files, out=told.folder / name, overwrite=True, **options)
        done.write_text(json.dumps([made.last_model, time.process_time() - before]))
    model, seconds = json.loads(done.read_text())
    return model, seconds


def steps_within(told: argparse.Namespace) -> int:
    """Steps of a training of so many CPU minutes, from short ones."""
    trained(told, "first", 0, 20)  # compiles
    few, more = (trained(told, f"try-{n}", 0, n)[1] for n in (20, 120))
    return int(100 * 60 * told.minutes / (more - few))


def row(told: argparse.Namespace, seed: int, n_steps: int) -> str:
    """Train, print a line, return the model."""
    import ase.io
    import numpy as np

    from atomml import AtomMLCalculator, load_model
    from atomml.data.bootstrap import interval_of_mean

    model, seconds = trained(told, f"seed{seed}", seed, n_steps)
    calculator = AtomMLCalculator(load_model(model))
    energies, forces = [], []
    for atoms in ase.io.read(told.acac / "test_MD_300K.xyz", ":"):
        asked = atoms.copy()
        asked.calc, asked.cell, asked.pbc = calculator, None, False
        energies.append(1e3 * (asked.get_potential_energy() - atoms.get_potential_energy()))
        forces.append(1e3 * (asked.get_forces() - atoms.get_forces()))
    cells = [str(seed), str(n_steps), f"{seconds / 60:.1f}"]
    for values in (np.array(energies), np.array(forces)):
        frames = values.reshape(len(energies), -1)
        absolute, square = np.abs(frames).mean(axis=1), np.square(frames).mean(axis=1)
        low, high = interval_of_mean(square)
        cells += [f"{absolute.mean():.2f}", f"{square.mean() ** 0.5:.2f} ({low**0.5:.2f} to {high**0.5:.2f})"]
    print(f"| {' | '.join(cells)} |", flush=True)
    return model


def dynamics(told: argparse.Namespace, model: str, seed: int) -> str:
    """What became of a molecule in so many picoseconds."""
    import ase.io

    from atomml.workflows import md

    start = ase.io.read(told.acac / "test_MD_300K.xyz", 0)
    start.calc, start.cell, start.pbc = None, None, False
    out = told.folder / f"md-seed{seed}"
    n_steps = int(1000 * told.picoseconds)
    md(
        start, model, out=out, resume=out.exists(), ensemble="nvt-langevin", friction=10.0, temperature="300",
        timestep=1.0, steps=n_steps, every=50, restart_every=5000, seed=seed,
    )  # fmt: skip
    frames = ase.io.read(out / "trajectory.extxyz", ":")
    bonds = [heavy_bonds(frame) for frame in frames]
    broken = next((n for n, found in enumerate(bonds) if found != bonds[0] or None in found), None)
    if broken is None:
        return f"whole for {told.picoseconds:g} ps, {len(frames)} frames looked at"
    return f"broken at {50 * broken / 1000:.2f} ps"


def nearness(atoms: Any) -> Any:
    """(n, n): pairs nearer than 1.4 times the sum of their covalent radii."""
    import numpy as np
    from ase.data import covalent_radii

    radii = covalent_radii[atoms.numbers]
    return np.asarray(atoms.get_all_distances() < 1.4 * (radii[:, None] + radii))


def heavy_bonds(atoms: Any) -> set[tuple[int, int] | None]:
    """Pairs of bound heavy atoms; None stands for a hydrogen that has no neighbour."""
    near = nearness(atoms)
    heavy = [n for n, z in enumerate(atoms.numbers) if z > 1]
    found: set[tuple[int, int] | None] = {(i, j) for i in heavy for j in heavy if i < j and near[i, j]}
    lost = any(near[n].sum() < 2 for n, z in enumerate(atoms.numbers) if z == 1)
    return found | {None} if lost else found


if __name__ == "__main__":
    main()

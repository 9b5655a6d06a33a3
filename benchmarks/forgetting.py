"""What fine-tuning on one element makes of CHGNet 0.3.0 elsewhere: naive, frozen and with replay.

Usage: ``python benchmarks/forgetting.py [--element Si] [--epochs 8] [--methods full frozen replay]``

The data are those of Zuo et al., J. Phys. Chem. A 124, 731 (2020), to train on, and 500 crystals of the WBM
set (Wang, Botti and Marques, npj Comput. Mater. 7, 12 (2021)) to forget.

Drift: mean absolute difference from the published weights' own energies and forces on crystals without the
element, displaced by 0.1 Å. Formation energy: mean absolute error against PBE at the published geometry, for
the crystals whose elements are all fcc, bcc or hcp; the element's own energy is the model's at the
experimental lattice constants (ASE's table). 95% intervals by bootstrap over crystals.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.model import Potential

    Floats = NDArray[np.float64]


@dataclass
class Elsewhere:
    """What a model says of the crystals.

    Attributes:
        energies: eV/atom.
        forces: eV/Å.
        formation: Formation energies, eV/atom; NaN where an element has no reference.
    """

    energies: Floats
    forces: list[Floats]
    formation: Floats


def main() -> int:
    """Fine-tune by each method, compare, print the table; 2 where the data are not there."""
    told = parse()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(told.threads)
    if not told.data.is_dir():
        sys.stderr.write(f"{told.data} is no folder: give --data.\n")
        return 2
    from atomml import load_model

    crystals, references = read(told.data, told.element)
    published = load_model("chgnet-0.3.0")
    before = look(published, crystals, references)
    print(
        f"{len(crystals)} crystals without {told.element}, {told.epochs} passes over the new data\n\n"
        "| method | test energy, meV/atom | test forces, meV/Å "
        "| drift of energy, meV/atom | drift of forces, meV/Å | formation energy, meV/atom |\n"
        "|---|---|---|---|---|---|"
    )
    row("published", {}, before, before, crystals)
    for method in told.methods:
        with tempfile.TemporaryDirectory() as folder:
            result = tune(method, told, Path(folder))
            after = look(load_model(result.model), crystals, references)
        row(method, result.test, before, after, crystals)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--element", default="Si", choices=("Si", "Mo", "Li"))
    parser.add_argument("--methods", nargs="+", default=["full", "frozen", "replay"])
    parser.add_argument("--epochs", type=int, default=8, help="passes over the new data, the same for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    return parser.parse_args()


def read(data: Path, element: str) -> tuple[list[Atoms], dict[str, Atoms]]:
    """Crystals without ``element`` that the model knows; those of their elements, where these are simple."""
    from ase.build import bulk
    from ase.data import atomic_numbers, reference_states
    from ase.io import read as read_frames

    from atomml import load_model

    known = {int(number) for number in load_model("chgnet-0.3.0").info.elements}
    crystals = [
        atoms
        for atoms in read_frames(data / "crystals" / "wbm_equilibrium.extxyz.gz", ":")
        if element not in atoms.symbols and known.issuperset(atoms.numbers)
    ]
    simple = {"fcc", "bcc", "hcp"}  # that selenium and tellurium are hcp there is a mistake
    used = sorted({symbol for atoms in crystals for symbol in atoms.symbols})
    states = {symbol: reference_states[atomic_numbers[symbol]] for symbol in used}
    return crystals, {
        symbol: bulk(symbol)
        for symbol, state in states.items()
        if state and state["symmetry"] in simple and symbol not in ("Se", "Te")
    }


def tune(method: str, told: argparse.Namespace, folder: Path) -> Any:
    """One fine-tuning on all training files of the element."""
    from atomml.workflows import finetune

    return finetune(
        "chgnet-0.3.0",
        told.data / "mlearn" / f"{told.element}_train.extxyz",
        test=told.data / "mlearn" / f"{told.element}_test.extxyz",
        method=method,
        out=folder / method,
        seed=told.seed,
        epochs=told.epochs,
        valid_fraction=0.0,
    )


def look(model: Potential, crystals: Sequence[Atoms], references: dict[str, Atoms]) -> Elsewhere:
    """Energies and forces of the displaced crystals, formation energies of the undisplaced ones."""
    import numpy as np

    random = np.random.default_rng(7)
    displaced = [atoms.copy() for atoms in crystals]
    for atoms in displaced:
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
    energies, forces = answers(model, displaced)
    still, _ = answers(model, list(crystals))
    of, _ = answers(model, list(references.values()))
    reference = dict(zip(references, of, strict=True))
    sums = [np.mean([reference.get(symbol, np.nan) for symbol in atoms.symbols]) for atoms in crystals]
    return Elsewhere(energies, forces, still - np.array(sums))


def answers(model: Potential, structures: list[Atoms]) -> tuple[Floats, list[Floats]]:
    """Energies per atom and forces by the model."""
    import numpy as np

    from atomml.data.dataset import ListDataset
    from atomml.data.entry import Entry
    from atomml.train.replay import label_by_model

    entries = ListDataset([Entry(atoms, source="crystals", frame=k) for k, atoms in enumerate(structures)])
    labels = [entry.labels for entry in label_by_model(model, entries)]
    sizes = np.array([len(atoms) for atoms in structures])
    return np.array([one.energy for one in labels]) / sizes, [np.asarray(one.forces) for one in labels]


def row(
    method: str, test: dict[str, float], before: Elsewhere, after: Elsewhere, crystals: list[Atoms]
) -> None:
    """Print what one method did."""
    import numpy as np

    truth = np.array([atoms.info["formation_energy_per_atom"] for atoms in crystals])
    forces = [np.abs(a - b).mean() for a, b in zip(before.forces, after.forces, strict=True)]
    cells = [
        f"{test.get('test_energy_mae_meV_per_atom', float('nan')):.1f}",
        f"{test.get('test_forces_mae_meV_per_A', float('nan')):.0f}",
        _interval(1000 * np.abs(after.energies - before.energies)),
        _interval(1000 * np.array(forces)),
        _interval(1000 * np.abs(after.formation - truth)[np.isfinite(after.formation)]),
    ]
    print(f"| {method} | {' | '.join(cells)} |", flush=True)


def _interval(values: Floats) -> str:
    """Mean and its 95% bootstrap interval over crystals."""
    from atomml.data.bootstrap import interval_of_mean

    low, high = interval_of_mean(values)
    return f"{values.mean():.0f} [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    raise SystemExit(main())

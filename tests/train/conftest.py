"""Small copper-aluminium crystals with the labels of ASE's EMT, and a CHGNet of a few hundred weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry, Labels
from atomml.potentials.chgnet import CHGNet
from atomml.registry import seeded_generator

SHAPE: dict[str, Any] = {
    "n_channels": 8,
    "n_radial": 5,
    "n_angular": 5,
    "n_layers": 2,
    "cutoff": 4.0,
    "bond_cutoff": 3.0,
    "readout_widths": [8],
}


def crystal(number: int) -> Atoms:
    """A strained and rattled cell of one to four atoms of Cu, Al or both."""
    random = np.random.default_rng(number)
    kinds = [("Cu", {}), ("Al", {}), ("CuAl", {"crystalstructure": "cesiumchloride", "a": 3.0})]
    name, more = kinds[number % 3]
    atoms = bulk(name, **more)
    if number % 3 < 2:
        atoms = atoms.repeat((2, 1, 1))
    strain = 0.03 * random.standard_normal((3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    atoms.rattle(0.08, rng=random)
    return atoms


def labelled(number: int, group: str = "", trajectory: str = "") -> Entry:
    """A crystal with its energy, forces and stress."""
    atoms = crystal(number)
    atoms.calc = EMT()
    labels = Labels(
        float(atoms.get_potential_energy()), atoms.get_forces(), atoms.get_stress(voigt=False), None
    )
    atoms.calc = None
    return Entry(atoms, labels, source="crystals", frame=number, group=group, trajectory=trajectory)


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    """Ten crystals with their labels."""
    return [labelled(number) for number in range(10)]


@pytest.fixture(scope="session")
def dataset(entries: list[Entry]) -> ListDataset:
    """The same as a data set."""
    return ListDataset(entries)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., CHGNet]:
    """Makes a small CHGNet in float64 with fresh weights."""

    def make(seed: int = 0, elements: tuple[int, ...] = (13, 29)) -> CHGNet:
        with seeded_generator(seed):
            return CHGNet.fresh("tiny", elements, SHAPE).double()

    return make


@pytest.fixture(scope="session")
def crystals_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten crystals in an extended-XYZ file, half of them with a stress."""
    path = tmp_path_factory.mktemp("crystals") / "crystals.extxyz"
    frames = []
    for number in range(10):
        atoms = crystal(number)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = None
        atoms.info["REF_energy"] = energy
        atoms.arrays["REF_forces"] = forces
        atoms.info["config_type"] = ("bulk", "strained")[number % 2]
        if number % 2:
            atoms.info["REF_stress"] = stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]]
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


@pytest.fixture(scope="session")
def tiny_file(tiny: Callable[..., CHGNet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CHGNet as a checkpoint."""
    from atomml.checkpoint import save_model

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(tiny(), path)
    return path


@pytest.fixture(scope="session")
def finetune_words(tiny_file: Path, crystals_file: Path) -> list[str]:
    """The command that fine-tunes the small CHGNet on the crystals, for options to be added."""
    return ["finetune", "--model", str(tiny_file), "--train", str(crystals_file)]

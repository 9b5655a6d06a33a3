"""Noble gases with labels of a known error: those of the Lennard-Jones model itself, changed on purpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from atomml.calculator import AtomMLCalculator
from atomml.data.entry import Entry, Labels
from atomml.model import Potential
from atomml.registry import load_model

Maker = Callable[..., list[Entry]]


@pytest.fixture(scope="session")
def lj() -> Potential:
    """Lennard-Jones in float64: cheap, exact, and knows Ne, Ar, Kr and Xe."""
    return load_model("lj-argon", dtype="float64")


def rattled(seed: int) -> Atoms:
    """A cell of four or eight atoms, argon and krypton in changing shares."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Ar", "fcc", a=5.3 + 0.2 * rng.random(), cubic=True)
    if seed % 3 == 0:
        atoms = atoms.repeat((2, 1, 1))
    atoms.rattle(0.1, seed=seed)
    numbers = np.full(len(atoms), 18)
    numbers[: seed % 4] = 36
    atoms.numbers = numbers
    return atoms


def labelled(atoms: Atoms, model: Potential, frame: int = 0, group: str = "") -> Entry:
    """An entry whose labels are what the model says, to the last bit that the batch leaves."""
    asked = atoms.copy()
    asked.calc = AtomMLCalculator(model, skin=0.0)
    energy, forces = float(asked.get_potential_energy()), np.array(asked.get_forces())
    stress = np.array(asked.get_stress(voigt=False)) if atoms.pbc.all() else None
    return Entry(atoms, Labels(energy, forces, stress), source="made", frame=frame, group=group)


@pytest.fixture(scope="session")
def exact_entries(lj: Potential) -> list[Entry]:
    """Twenty-four structures in three groups that the model predicts without error."""
    return [labelled(rattled(i), lj, i, ("hot", "cold", "")[i % 3]) for i in range(24)]

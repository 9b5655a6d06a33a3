"""Noble gases, and labels that are what a model says of them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

from atomml.calculator import AtomMLCalculator
from atomml.data.entry import Entry, Labels
from atomml.model import Potential


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

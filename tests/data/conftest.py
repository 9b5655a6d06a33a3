"""Labelled structures that cost nothing, from ASE's EMT; and files and sets of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from atomml.data.entry import Entry, Labels


def _frames(n: int, seed: int = 0, element: str = "Cu") -> list[Atoms]:
    """``n`` rattled cells of four atoms with energy, forces and stress of EMT."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk(element, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + generator.normal(0, 0.01, (3, 3))), scale_atoms=True)
        atoms.positions += generator.normal(0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="session")
def frames() -> Callable[..., list[Atoms]]:
    """``frames(n, seed, element)``: labelled structures."""
    return _frames


@pytest.fixture(scope="session")
def entries() -> Callable[..., list[Entry]]:
    """``entries(n, seed, element)``: the same as entries of a set."""

    def make(n: int, seed: int = 0, element: str = "Cu") -> list[Entry]:
        found = []
        for index, atoms in enumerate(_frames(n, seed, element)):
            labels = Labels(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))
            found.append(Entry(Atoms(atoms), labels, source=f"{element}.xyz", frame=index))
        return found

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """``write(name, text)``: a file in a folder of this test."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make

"""The crystals that benchmarks run on, made from published lattice parameters."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal

__all__ = ["garnet", "liquid_and_silicon", "lithium_cobalt_oxide", "named", "rattled", "water"]


def lithium_cobalt_oxide(repeat: tuple[int, int, int] = (3, 3, 1)) -> Atoms:
    """Layered LiCoO2, R-3m, a = 2.816 Å, c = 14.05 Å; 12 atoms, 108 with the default repeat."""
    cell = [2.8156, 2.8156, 14.0542, 90, 90, 120]
    sites = [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2605)]
    return crystal(["Li", "Co", "O"], sites, spacegroup=166, cellpar=cell).repeat(repeat)


def rutile(repeat: tuple[int, int, int]) -> Atoms:
    """TiO2, P4_2/mnm, a = 4.594 Å, c = 2.959 Å; 6 atoms."""
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    return crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell).repeat(repeat)


def garnet() -> Atoms:
    """Y3Al5O12, Ia-3d, a = 12.0 Å; 160 atoms."""
    sites = [(1 / 8, 0, 1 / 4), (0, 0, 0), (3 / 8, 0, 1 / 4), (-0.0306, 0.0512, 0.1500)]
    return crystal(["Y", "Al", "Al", "O"], sites, spacegroup=230, cellpar=[12.0] * 3 + [90] * 3)


def rattled(atoms: Atoms, amount: float, seed: int) -> Atoms:
    """A copy with normal displacements of ``amount`` Å."""
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0, amount, atoms.positions.shape)
    return atoms


def named() -> dict[str, Atoms]:
    """The four that speed is quoted for, thermally displaced by 0.05 Å."""
    found = {
        "LiCoO2-108": lithium_cobalt_oxide(),
        "Si-64": bulk("Si", cubic=True).repeat(2),
        "Si-216": bulk("Si", cubic=True).repeat(3),
        "TiO2-504": rutile((4, 3, 7)),
    }
    return {name: rattled(atoms, 0.05, 1) for name, atoms in found.items()}


def water(molecules: int) -> Atoms:
    """Turned molecules on a cubic grid of so many along each edge, at the density of the liquid."""
    generator = np.random.default_rng(0)
    made = Atoms(cell=[3.105 * molecules] * 3, pbc=True)
    for place in np.ndindex(molecules, molecules, molecules):
        one = molecule("H2O")
        one.rotate(generator.uniform(0, 360), generator.normal(size=3))
        one.translate(3.105 * np.array(place))
        made += one
    return made


def liquid_and_silicon() -> dict[str, Atoms]:
    """Water at its density, 192 atoms, and silicon, thermally displaced."""
    silicon = bulk("Si", cubic=True)
    return {
        "water-192": water(4),
        "Si-64": rattled(silicon * (2, 2, 2), 0.05, 1),
        "Si-216": rattled(silicon * (3, 3, 3), 0.05, 1),
    }

"""Structures on which the laws are tried, made of the elements that a model knows.

Small, of low symmetry, of every periodicity, and at distances that suit the model: a
crystal is first scaled to the nearest minimum of the model's own energy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import chemical_symbols, covalent_radii, reference_states

__all__ = ["contact_radius", "prototype", "sample_structures", "scaled_to_minimum"]

EnergyPerAtom = Callable[[Atoms], float]

_DEEPEST = 12.0  # eV an atom below atoms far apart; no solid is bound by more than 9
_PAIRS = ((12, 8), (11, 17), (3, 9), (14, 6), (31, 33), (22, 7), (8, 1), (6, 1))
_SINGLES = (29, 13, 28, 14, 47, 18, 26, 6)
_NEIGHBOURS_PER_LATTICE_CONSTANT = {"fcc": 2**-0.5, "bcc": 3**0.5 / 2, "diamond": 3**0.5 / 4}


def contact_radius(number: int) -> float:
    """Half the distance of nearest neighbours in the element's cubic crystal, else its covalent radius; Å."""
    state = reference_states[number] if number < len(reference_states) else None
    if state and state.get("symmetry") in _NEIGHBOURS_PER_LATTICE_CONSTANT and number not in (1, 6):
        return 0.5 * float(state["a"]) * _NEIGHBOURS_PER_LATTICE_CONSTANT[state["symmetry"]]
    return float(covalent_radii[number])


def _pair(elements: Collection[int]) -> tuple[int, int]:
    known = set(elements)
    found = next((pair for pair in _PAIRS if known.issuperset(pair)), None)
    return found or (min(known), max(known))


def _single(elements: Collection[int]) -> int:
    return next((number for number in _SINGLES if number in elements), min(elements))


def prototype(elements: Collection[int], structure: str) -> Atoms:
    """An ideal crystal of one or two of the elements.

    Args:
        elements: Atomic numbers to choose from.
        structure: ``rocksalt`` (two elements, two atoms) or ``fcc`` (one atom).
    """
    if structure == "rocksalt":
        first, second = _pair(elements)
        constant = 2.0 * (contact_radius(first) + contact_radius(second))
        crystal = bulk("NaCl", "rocksalt", a=constant)
        crystal.numbers[:] = (first, second)
        return crystal
    number = _single(elements)
    return bulk(chemical_symbols[number], "fcc", a=2.0 * 2**0.5 * contact_radius(number))


def _cluster(elements: Collection[int], energy: EnergyPerAtom) -> Atoms:
    """Ethanol or water if the model knows their elements; else five atoms of two, without symmetry."""
    known = set(elements)
    if known.issuperset((1, 6, 8)):
        return molecule("CH3CH2OH")
    if known.issuperset((1, 8)):
        return molecule("H2O")
    first, second = _pair(elements)
    bond = contact_radius(first) + contact_radius(second)
    shape = np.array([[0, 0, 0], [1, 0, 0.1], [0.1, 1, 0], [-0.1, 0.05, 1.1], [-0.8, -0.7, -0.6]])
    cluster = Atoms(numbers=[first, second, second, first, second], positions=bond * shape)
    return scaled_to_minimum(cluster, energy)


def scaled_to_minimum(atoms: Atoms, energy: EnergyPerAtom, step: float = 1.06, most: int = 10) -> Atoms:
    """Scale a structure by factors of ``step``, downhill in the model's energy, to the nearest minimum.

    A model whose energy is not finite leaves the structure as it is: the laws shall say so, not this. One of
    molecules may have a hole where atoms are packed like a metal's; then the lowest outside of it is taken.
    """

    def at(power: int) -> Atoms:
        """The structure scaled by this power of the step."""
        copy = atoms.copy()
        copy.set_cell(copy.cell.array * step**power)
        copy.positions *= step**power
        return copy

    floor = energy(at(2 * most)) - _DEEPEST
    best, here = 0, energy(at(0))
    for direction in (1, -1):
        while abs(best + direction) <= most and (there := energy(at(best + direction))) < here:
            best, here = best + direction, there
        if best:
            break
    if here < floor:
        hole = next(power for power in range(2 * most, best - 1, -1) if energy(at(power)) < floor)
        outside = range(hole + 1, 2 * most + 1)
        best = min(outside, key=lambda power: energy(at(power)))
    return at(best)


def _rattled(atoms: Atoms, rng: np.random.Generator, size: float = 0.04) -> Atoms:
    """Random displacements of some percent of the shortest distance; no symmetry is left."""
    bond = 2.0 * min(contact_radius(number) for number in atoms.numbers)
    copy = atoms.copy()
    copy.positions += rng.normal(scale=size * bond, size=copy.positions.shape)
    return copy


def _recut(atoms: Atoms, matrix: list[list[int]]) -> Atoms:
    """The same atoms with other cell vectors, integer combinations of the old (determinant ±1)."""
    copy = atoms.copy()
    copy.set_cell(np.array(matrix) @ copy.cell.array, scale_atoms=False)
    return copy


def _opened(atoms: Atoms, periodic: tuple[bool, bool, bool]) -> Atoms:
    """Periodicity taken away along some vectors, with room there."""
    copy = atoms.copy()
    copy.pbc = periodic
    stretch = np.where(periodic, 1.0, 3.0)
    copy.set_cell(copy.cell.array * stretch[:, None], scale_atoms=False)
    return copy


def sample_structures(elements: Collection[int], energy: EnergyPerAtom, quick: bool) -> dict[str, Atoms]:
    """Named structures of 1 to 12 atoms in every kind of periodicity, the same at every call.

    Args:
        elements: Atomic numbers that the model knows.
        energy: The model's energy per atom (eV), used to find distances that suit it.
        quick: Four structures rather than all.
    """
    rng = np.random.default_rng(20)
    salt = scaled_to_minimum(prototype(elements, "rocksalt"), energy)
    metal = scaled_to_minimum(prototype(elements, "fcc"), energy)
    skew = np.eye(3) + 0.03 * rng.normal(size=(3, 3))
    crystal = _rattled(salt.repeat((2, 2, 1)), rng)
    crystal.set_cell(crystal.cell.array @ skew, scale_atoms=True)
    samples = {
        "crystal": crystal,
        "left-handed": _rattled(_recut(salt.repeat((2, 1, 1)), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]), rng),
        "molecule": _rattled(_cluster(elements, energy), rng, 0.02),
        "slab": _rattled(_opened(metal.repeat((2, 1, 3)), (True, True, False)), rng),
    }
    if quick:
        return samples
    numbers = sorted(elements)
    mixture = metal.repeat((2, 2, 1))
    mixture.numbers[:] = rng.permutation(list(itertools.islice(itertools.cycle(numbers[::-1]), 4)))
    box = samples["molecule"].copy()
    box.set_cell([8.0, 9.0, 10.0])
    box.pbc = True
    return samples | {
        "small cell": _rattled(salt, rng),
        "one atom in a cell": _recut(metal, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        "skewed": _rattled(_recut(metal.repeat((1, 2, 2)), [[1, 0, 0], [2, 1, 0], [0, -1, 1]]), rng),
        "wire": _rattled(_opened(metal.repeat((1, 2, 2)), (True, False, False)), rng),
        "mixture": _rattled(scaled_to_minimum(mixture, energy), rng),
        "molecule in a box": box,
        "atom": Atoms(numbers=[_single(elements)], positions=[[0.3, -0.2, 0.1]]),
    }

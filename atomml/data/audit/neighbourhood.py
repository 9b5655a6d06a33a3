"""What the surroundings of the atoms say of one structure: fingerprint, contacts, symmetry, periodicity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomml.data.fingerprint import (
    REACH,
    NeighbourPairs,
    element_weights,
    fade,
    fingerprint_of_pairs,
    pairs_within,
)

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Neighbourhood", "neighbourhood"]

_BOND = 1.25  # of the sum of the covalent radii; a bond in a crystal at hand is 0.85 to 1.2
_FAR = 10.0  # Å; an atom without a neighbour within this is lost
_LONGEST = 2.0  # of the sum of the covalent radii; where that is longer than REACH (caesium)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbourhood:
    """The surroundings of the atoms of one structure.

    Attributes:
        fingerprint: ``(N_FEATURES,)``, of :mod:`atomml.data.fingerprint`.
        closest: Shortest distance over the sum of the two covalent radii; inf without neighbours.
        polarity: Largest length of an atom's sum of unit vectors to its neighbours, damped by
            distance. It's zero where symmetry forbids a force.
        n_lost: Atoms far away from all others.
        crossing: Fraction of atoms bonded to an image across a face that is not periodic.
    """

    fingerprint: Floats
    closest: float
    polarity: float
    n_lost: int
    crossing: float


def neighbourhood(atoms: Atoms) -> Neighbourhood:
    """Look at one structure.

    Raises:
        StructureError: A flat periodic cell.
    """
    positions = np.asarray(atoms.positions, dtype=np.float64)
    cell, pbc = np.asarray(atoms.cell.array, dtype=np.float64), np.asarray(atoms.pbc, dtype=bool)
    numbers = np.asarray(atoms.numbers)
    pairs = pairs_within(positions, cell, pbc, REACH)
    lengths = np.linalg.norm(pairs.vectors, axis=1)
    radii = _radii(numbers)
    ratio = lengths / (radii[pairs.centre] + radii[pairs.neighbour])
    return Neighbourhood(
        fingerprint_of_pairs(numbers, pairs, lengths),
        float(ratio.min()) if len(ratio) else np.inf,
        _polarity(numbers, pairs, lengths),
        _n_lost(positions, cell, pbc, radii, pairs.centre),
        _crossing(positions, cell, pbc, radii),
    )


def _radii(numbers: NDArray[np.int64]) -> Floats:
    from ase.data import covalent_radii

    return np.asarray(covalent_radii, dtype=np.float64)[numbers]


def _polarity(numbers: NDArray[np.int64], pairs: NeighbourPairs, lengths: Floats) -> float:
    if not len(lengths):
        return 0.0
    weights = element_weights(numbers)[pairs.neighbour]
    pull = (weights * fade(lengths) ** 2 / lengths)[:, None] * pairs.vectors
    sums = np.stack([np.bincount(pairs.centre, pull[:, k], minlength=len(numbers)) for k in range(3)], axis=1)
    return float(np.linalg.norm(sums, axis=1).max())


def _n_lost(
    positions: Floats, cell: Floats, pbc: NDArray[np.bool_], radii: Floats, centres: NDArray[np.int64]
) -> int:
    """Atoms of a larger structure that have no neighbour; two atoms may lie apart on purpose."""
    lonely = np.bincount(centres, minlength=len(positions)) == 0
    if len(positions) < 3 or not lonely.any() or lonely.all():
        return 0
    i, j, vectors, _ = pairs_within(positions, cell, pbc, _FAR)
    near = np.linalg.norm(vectors, axis=1) < _LONGEST * (radii[i] + radii[j])
    return int((lonely & (np.bincount(i[near], minlength=len(positions)) == 0)).sum())


def _crossing(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], radii: Floats) -> float:
    """Fraction of atoms that would be bonded through a face whose periodicity is off."""
    if pbc.all() or np.abs(np.linalg.det(cell)) < 1e-6 or len(positions) < 2:
        return 0.0
    longest = 2 * _BOND * float(radii.max())
    i, j, vectors, shift = pairs_within(positions, cell, np.ones(3, dtype=bool), longest)
    ratio = np.linalg.norm(vectors, axis=1) / (radii[i] + radii[j])
    through = (shift[:, ~pbc] != 0).any(axis=1)
    if not through.any() or ratio[through].min() < 0.7:  # images that overlap: the box means nothing
        return 0.0
    return len(np.unique(i[through & (ratio < _BOND)])) / len(positions)

"""What the surroundings of the atoms say of one structure: fingerprint, contacts, symmetry, periodicity.

The fingerprint is made of smooth radial sums in the manner of Behler's symmetry functions (J. Chem.
Phys. 134, 074106, 2011, eq. 6), averaged over the atoms. It doesn't change when the structure is
rotated, moved, its atoms are renumbered or its cell is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["N_FEATURES", "REACH", "Neighbourhood", "neighbourhood"]

REACH = 5.0
"""Å; how far the fingerprint sees."""

_CENTRES = np.array([1.2, 2.0, 2.8, 3.6, 4.4])  # Å
_WIDTH = 0.5  # Å

N_FEATURES = 3 * len(_CENTRES)
"""Length of a fingerprint."""

_BOND = 1.25  # of the sum of the covalent radii; a bond in a crystal at hand is 0.85 to 1.2
_FAR = 10.0  # Å; an atom without a neighbour within this is lost
_LONGEST = 2.0  # of the sum of the covalent radii; where that is longer than REACH (caesium)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbourhood:
    """The surroundings of the atoms of one structure.

    Attributes:
        fingerprint: ``(N_FEATURES,)``.
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
    i, j, vectors, _ = _edges(positions, cell, pbc, REACH)
    lengths = np.linalg.norm(vectors, axis=1)
    radii = _radii(numbers)
    ratio = lengths / (radii[i] + radii[j])
    return Neighbourhood(
        _fingerprint(numbers, i, j, lengths),
        float(ratio.min()) if len(ratio) else np.inf,
        _polarity(numbers, i, j, vectors, lengths),
        _n_lost(positions, cell, pbc, radii, i),
        _crossing(positions, cell, pbc, radii),
    )


def _radii(numbers: NDArray[np.int64]) -> Floats:
    from ase.data import covalent_radii

    return np.asarray(covalent_radii, dtype=np.float64)[numbers]


def _edges(
    positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.int32]]:
    """Centre, neighbour, vector between them (Å) and shift of each pair closer than the cutoff."""
    from atomml.graph.neighbours import complete_cell, find_edges

    box = complete_cell(cell, pbc)
    edges = find_edges(positions, box, pbc, cutoff)
    i, j = edges.index
    return i, j, positions[j] - positions[i] + edges.shift @ box, edges.shift


def _weights(numbers: NDArray[np.int64]) -> Floats:
    """A number between 0.75 and 1.25 for each element; the golden ratio keeps them apart."""
    return 0.75 + 0.5 * np.modf(numbers * 0.6180339887498949)[0]


def _fingerprint(
    numbers: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64], lengths: Floats
) -> Floats:
    weights = _weights(numbers)
    damping = 0.5 * (1 + np.cos(np.pi * np.minimum(lengths / REACH, 1.0)))
    shells = np.exp(-(((lengths[:, None] - _CENTRES) / _WIDTH) ** 2)) * damping[:, None]
    plain = shells.sum(axis=0) / len(numbers)
    coloured = np.zeros((len(numbers), len(_CENTRES)))
    for k in range(len(_CENTRES)):
        coloured[:, k] = np.bincount(i, weights[j] * shells[:, k], minlength=len(numbers))
    crossed = (weights[:, None] * coloured).mean(axis=0)
    spread = np.sqrt((coloured**2).mean(axis=0))
    return np.concatenate([plain, crossed, spread])


def _polarity(
    numbers: NDArray[np.int64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    vectors: Floats,
    lengths: Floats,
) -> float:
    if not len(i):
        return 0.0
    damping = (0.5 * (1 + np.cos(np.pi * np.minimum(lengths / REACH, 1.0)))) ** 2
    pull = (_weights(numbers)[j] * damping / lengths)[:, None] * vectors
    sums = np.stack([np.bincount(i, pull[:, k], minlength=len(numbers)) for k in range(3)], axis=1)
    return float(np.linalg.norm(sums, axis=1).max())


def _n_lost(
    positions: Floats, cell: Floats, pbc: NDArray[np.bool_], radii: Floats, centres: NDArray[np.int64]
) -> int:
    """Atoms of a larger structure that have no neighbour; two atoms may lie apart on purpose."""
    lonely = np.bincount(centres, minlength=len(positions)) == 0
    if len(positions) < 3 or not lonely.any() or lonely.all():
        return 0
    i, j, vectors, _ = _edges(positions, cell, pbc, _FAR)
    near = np.linalg.norm(vectors, axis=1) < _LONGEST * (radii[i] + radii[j])
    return int((lonely & (np.bincount(i[near], minlength=len(positions)) == 0)).sum())


def _crossing(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], radii: Floats) -> float:
    """Fraction of atoms that would be bonded through a face whose periodicity is off."""
    if pbc.all() or np.abs(np.linalg.det(cell)) < 1e-6 or len(positions) < 2:
        return 0.0
    longest = 2 * _BOND * float(radii.max())
    i, j, vectors, shift = _edges(positions, cell, np.ones(3, dtype=bool), longest)
    ratio = np.linalg.norm(vectors, axis=1) / (radii[i] + radii[j])
    through = (shift[:, ~pbc] != 0).any(axis=1)
    if not through.any() or ratio[through].min() < 0.7:  # images that overlap: the box means nothing
        return 0.0
    return len(np.unique(i[through & (ratio < _BOND)])) / len(positions)

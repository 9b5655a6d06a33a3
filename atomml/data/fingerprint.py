"""A few numbers that are equal for structures that differ by rotation, shift, order of atoms or supercell.

Smooth radial sums in the manner of Behler's symmetry function G2 (J. Chem. Phys. 134, 074106, 2011,
eq. 6), plain and weighted by element, and the means of their squares over the atoms. Cheap, and
blind to what needs angles; good for finding structures that are nearly the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atomml.graph.neighbours import complete_cell, find_edges

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "N_FEATURES",
    "REACH",
    "NeighbourPairs",
    "element_weights",
    "fade",
    "fingerprint_of_pairs",
    "pairs_within",
    "structure_fingerprint",
]

REACH = 5.0
"""Å; how far an atom sees."""

_CENTRES = np.array([1.2, 2.0, 2.8, 3.6, 4.4])  # Å
_WIDTH = 0.5  # Å

N_FEATURES = 3 * len(_CENTRES)
"""Length of a fingerprint."""

Floats = NDArray[np.float64]


class NeighbourPairs(NamedTuple):
    """NeighbourPairs of atoms that are closer than a cutoff; each is there in both directions.

    Attributes:
        centre: ``(n_pairs,)`` index of an atom, ascending.
        neighbour: ``(n_pairs,)`` index of the other.
        vectors: ``(n_pairs, 3)`` from one to the other, Å.
        shift: ``(n_pairs, 3)`` cells that the neighbour lies away.
    """

    centre: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    vectors: Floats
    shift: NDArray[np.int32]


def pairs_within(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float) -> NeighbourPairs:
    """All pairs of ``(n_atoms, 3)`` positions (Å) in a ``(3, 3)`` cell (Å).

    Raises:
        StructureError: A flat periodic cell.
    """
    box = complete_cell(cell, pbc)
    edges = find_edges(positions, box, pbc, cutoff)
    i, j = edges.index
    return NeighbourPairs(i, j, positions[j] - positions[i] + edges.shift @ box, edges.shift)


def structure_fingerprint(atoms: Atoms) -> Floats:
    """``(N_FEATURES,)`` of a structure, without unit; continuous in the positions and the cell.

    Raises:
        StructureError: A flat periodic cell.
    """
    positions = np.asarray(atoms.positions, dtype=np.float64)
    cell, pbc = np.asarray(atoms.cell.array, dtype=np.float64), np.asarray(atoms.pbc, dtype=bool)
    pairs = pairs_within(positions, cell, pbc, REACH)
    return fingerprint_of_pairs(np.asarray(atoms.numbers), pairs, np.linalg.norm(pairs.vectors, axis=1))


def fingerprint_of_pairs(numbers: NDArray[np.int64], pairs: NeighbourPairs, lengths: Floats) -> Floats:
    """``(N_FEATURES,)`` from the pairs within :data:`REACH` and their ``(n_pairs,)`` lengths, Å."""
    weights = element_weights(numbers)
    shells = np.exp(-(((lengths[:, None] - _CENTRES) / _WIDTH) ** 2)) * fade(lengths)[:, None]
    plain = shells.sum(axis=0) / len(numbers)
    coloured = np.zeros((len(numbers), len(_CENTRES)))
    for k in range(len(_CENTRES)):
        coloured[:, k] = np.bincount(
            pairs.centre, weights[pairs.neighbour] * shells[:, k], minlength=len(numbers)
        )
    crossed = (weights[:, None] * coloured).mean(axis=0)
    spread = np.sqrt((coloured**2).mean(axis=0))
    return np.concatenate([plain, crossed, spread])


def fade(lengths: Floats) -> Floats:
    """From 1 at no distance to 0 at :data:`REACH`, smooth at both ends (Behler, eq. 4)."""
    return 0.5 * (1 + np.cos(np.pi * np.minimum(lengths / REACH, 1.0)))


def element_weights(numbers: NDArray[np.int64]) -> Floats:
    """Between 0.75 and 1.25 for each atomic number; multiples of the golden ratio keep elements apart."""
    return 0.75 + 0.5 * np.modf(numbers * 0.6180339887498949)[0]

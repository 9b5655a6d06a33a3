"""A few numbers that are equal for structures that differ by rotation, shift, order of atoms or supercell.

Smooth radial sums in the manner of Behler's symmetry function G2 (J. Chem. Phys. 134, 074106, 2011,
eq. 6), plain and weighted by element, and the means of their squares over the atoms. Cheap, and
blind to what needs angles; good for finding structures that are nearly the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomml.graph.neighbours import complete_cell, find_edges

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CUTOFF", "N_FEATURES", "structure_fingerprint"]

CUTOFF = 5.0
"""Å; how far an atom sees."""

_CENTRES = np.linspace(0.8, 4.4, 7)  # Å; a spacing of 0.6 Å with the width below leaves no gap
_WIDTH = 0.5  # Å

N_FEATURES = 3 * len(_CENTRES)
"""Length of a fingerprint."""


def structure_fingerprint(atoms: Atoms) -> NDArray[np.float64]:
    """``(N_FEATURES,)`` of a structure, without unit; continuous in the positions and the cell.

    A displacement of each atom by 0.01 Å at random changes it by 0.001 of its length in a crystal,
    and by 0.004 in a small molecule.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    positions = np.asarray(atoms.positions, dtype=np.float64)
    cell = complete_cell(np.asarray(atoms.cell.array, dtype=np.float64), pbc)
    edges = find_edges(positions, cell, pbc, CUTOFF)
    i, j = edges.index
    lengths = np.linalg.norm(positions[j] - positions[i] + edges.shift @ cell, axis=1)
    fade = 0.5 * (1.0 + np.cos(np.pi * np.minimum(lengths / CUTOFF, 1.0)))
    shells = np.exp(-(((lengths[:, None] - _CENTRES) / _WIDTH) ** 2)) * fade[:, None]
    weights = _element_weights(np.asarray(atoms.numbers))
    n_atoms = len(positions)
    plain, coloured = np.zeros((n_atoms, len(_CENTRES))), np.zeros((n_atoms, len(_CENTRES)))
    for k in range(len(_CENTRES)):
        plain[:, k] = np.bincount(i, shells[:, k], minlength=n_atoms)
        coloured[:, k] = np.bincount(i, shells[:, k] * weights[j], minlength=n_atoms)
    return np.concatenate(
        [plain.mean(axis=0), (weights[:, None] * coloured).mean(axis=0), (coloured**2).mean(axis=0) ** 0.5]
    )


def _element_weights(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Between 0.5 and 1.5; multiples of the golden ratio keep all elements apart."""
    return 0.5 + np.mod(numbers * 0.6180339887498949, 1.0)

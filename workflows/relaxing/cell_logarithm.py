"""The logarithm of a cell's deformation, with all its digits near the identity; a filter that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CellFilter", "logarithm"]

Array = NDArray[np.float64]

_NEAR = 0.1  # of Z: eleven terms of the series are left, of which the last is below rounding
_TERMS = 12
_MOST_ROOTS = 40
_MOST_ITERATIONS = 60


def logarithm(deformation: Array) -> Array:
    """The principal logarithm of a ``(3, 3)`` matrix.

    Gregory's series, ``log D = 2 (Z + Z³/3 + Z⁵/5 + ...)`` with ``Z = (D - 1)(D + 1)⁻¹`` (Higham, Functions
    of Matrices, 2008, chapter 11), of a root of D that is near enough to the identity. It sees D less the
    identity and nothing else, so that small strains keep all their digits.

    Raises:
        numpy.linalg.LinAlgError: D turns a direction round, or holds a number that is not finite.
    """
    one = np.eye(len(deformation))
    root, doublings = np.asarray(deformation, dtype=np.float64), 0
    z = _ratio(root, one)
    while not np.abs(z).sum(axis=1).max() <= _NEAR:
        doublings += 1
        if doublings > _MOST_ROOTS:
            raise np.linalg.LinAlgError("A deformation that turns a direction round has no logarithm.")
        root = _square_root(root, one)
        z = _ratio(root, one)
    squared = z @ z
    total = one / (2 * _TERMS - 1)
    for k in range(_TERMS - 1, 0, -1):
        total = one / (2 * k - 1) + squared @ total
    return np.asarray(2.0 ** (doublings + 1) * (z @ total))


def _ratio(matrix: Array, one: Array) -> Array:
    """``(M - 1)(M + 1)⁻¹``."""
    return np.asarray(np.linalg.solve((matrix + one).T, (matrix - one).T).T)


def _square_root(matrix: Array, one: Array) -> Array:
    """By Denman and Beavers' iteration (Appl. Math. Comput. 2, 63, 1976)."""
    y, z = matrix, one
    for _ in range(_MOST_ITERATIONS):
        new, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
        if np.abs(new - y).max() <= 4e-16 * np.abs(new).max():
            return np.asarray(new)
        y = new
    return np.asarray(y)


class CellFilter(FrechetCellFilter):  # type: ignore[misc]
    """ASE's filter with the logarithm of the deformation itself for the cell's coordinates.

    ASE 3.29 takes that of the deformation times the number of atoms, which adds a constant and costs digits,
    as scipy's logarithm says at every step.

    Args:
        atoms: What is relaxed.
        **settings: Those of ASE's filter.
    """

    def __init__(self, atoms: Atoms, **settings: Any) -> None:
        super().__init__(atoms, **settings)
        for place in (self, getattr(self, "_utility", None)):  # which of them holds it depends on the version
            if hasattr(place, "logm"):
                place.logm = logarithm  # type: ignore[union-attr]

    def get_positions(self) -> Array:
        """``(n_atoms + 3, 3)`` positions in the undeformed cell, and the factor times the logarithm."""
        deformation = self.deform_grad()
        undeformed = np.linalg.solve(deformation, self.atoms.get_positions().T).T
        return np.concatenate([undeformed, self.exp_cell_factor * logarithm(deformation)])

    def set_positions(self, new: Array, **settings: Any) -> None:
        """Undo :meth:`get_positions`; ``settings`` are those of ``Atoms.set_positions``."""
        from scipy.linalg import expm

        n = len(self.atoms)
        deformation = expm(new[n:] / self.exp_cell_factor).T
        self.atoms.set_cell(self.orig_cell @ deformation, scale_atoms=True)
        self.atoms.set_positions(new[:n] @ deformation, **settings)

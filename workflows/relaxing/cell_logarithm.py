"""The logarithm of a cell's deformation, as good near the identity as numbers can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["cell_filter", "logarithm"]

Array = NDArray[np.float64]

_NEAR = 0.1  # of Z: eleven terms of the series are left, of which the last is below rounding
_TERMS = 12
_MOST_ROOTS = 40
_MOST_ITERATIONS = 60


def logarithm(deformation: Array) -> Array:
    """The principal logarithm of a ``(3, 3)`` matrix.

    Gregory's series, ``log D = 2 (Z + Z³/3 + Z⁵/5 + ...)`` with ``Z = (D - 1)(D + 1)⁻¹`` (Higham, Functions
    of Matrices, 2008, chapter 11), of a root of D that is near enough to the identity. It sees D less the
    identity and nothing else, so that small strains keep all their digits, eigenvalues that are equal or
    nearly so among them: a Schur form, which scipy's logarithm goes by, loses some of them there.

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


def cell_filter(atoms: Atoms, **settings: Any) -> Any:
    """ASE's ``FrechetCellFilter`` with :func:`logarithm` in place of scipy's.

    That one takes milliseconds a call, twice a step, and warns of digits that it loses.

    Args:
        atoms: What is relaxed.
        **settings: Those of the filter.
    """
    from ase.filters import FrechetCellFilter

    made = FrechetCellFilter(atoms, **settings)
    for place in (
        made,
        getattr(made, "_utility", None),
    ):  # where it is depends on ASE's version
        if hasattr(place, "logm"):
            place.logm = logarithm  # type: ignore[union-attr]
    return made

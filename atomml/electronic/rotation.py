"""How orbitals and matrices turn with a molecule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.electronic.orbitals import AXES, Shells, n_orbitals, orbital_order

__all__ = ["align", "orbital_rotation", "rotate_matrix"]

Array = NDArray[np.float64]


@lru_cache(maxsize=16)
def _probe(degree: int) -> tuple[Array, Array]:
    """Points, and the inverse of a degree's harmonics there."""
    points = np.random.default_rng(degree).standard_normal((8 * degree + 8, 3))
    inverse: Array = np.asarray(np.linalg.pinv(_harmonics(points, degree)), dtype=np.float64)
    return points, inverse


def _harmonics(points: Array, degree: int) -> Array:
    """``(n, 2 l + 1)`` in the order of :data:`~.orbitals.AXES`."""
    from e3nn import o3

    turned = torch.from_numpy(points[:, list(AXES)].copy())
    values: Array = o3.spherical_harmonics(degree, turned, True, "component").numpy()
    return values


def orbital_rotation(shells: Sequence[Shells], rotation: Array) -> Array:
    """How orbitals in PySCF's order turn: ``D`` in ``D H D.T``, the matrix of the turned molecule.

    Args:
        shells: Of each atom.
        rotation: ``(3, 3)`` orthogonal, proper or not; positions turn to ``positions @ rotation.T``.
    """
    total = sum(n_orbitals(own) for own in shells)
    whole = np.zeros((total, total))
    by_degree = {}
    for degree in {degree for own in shells for degree in own}:
        points, inverse = _probe(degree)
        by_degree[degree] = (inverse @ _harmonics(points @ rotation.T, degree)).T
    start = 0
    for own in shells:
        block = np.zeros((n_orbitals(own),) * 2)
        place = 0
        for degree in own:
            width = 2 * degree + 1
            block[place : place + width, place : place + width] = by_degree[degree]
            place += width
        order = orbital_order(own)
        here = start + order
        whole[np.ix_(here, here)] = block
        start += n_orbitals(own)
    return whole


def rotate_matrix(matrix: Array, shells: Sequence[Shells], rotation: Array) -> Array:
    """The matrix of the turned molecule."""
    turn = orbital_rotation(shells, rotation)
    return np.asarray(turn @ matrix @ turn.T)


def align(positions: Array, onto: Array) -> tuple[Array, float]:
    """The proper rotation that brings positions closest to others, and the root mean square distance left, Å.

    Kabsch, Acta Cryst. A 32, 922 (1976). Both are centred first; atoms correspond by number.
    """
    a, b = positions - positions.mean(axis=0), onto - onto.mean(axis=0)
    left, _, right = np.linalg.svd(a.T @ b)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(right.T @ left.T))])
    rotation = right.T @ flip @ left.T
    return rotation, float(np.sqrt(np.mean(np.sum((a @ rotation.T - b) ** 2, axis=1))))

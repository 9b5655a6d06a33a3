"""Spherical harmonics of edges up to degree 3, where edges lie in the splines, and the way back to forces."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from atomml.kernels.compile import INNER, kernel

N_HARMONICS = 16

_A1 = math.sqrt(3.0)
_A2 = math.sqrt(15.0)
_B2 = math.sqrt(5.0)
_A3 = math.sqrt(35.0 / 8.0)
_B3 = math.sqrt(105.0)
_C3 = math.sqrt(21.0 / 8.0)
_D3 = math.sqrt(7.0)


@numba.njit(**INNER)
def _harmonics(x: float, y: float, z: float, value: Any) -> None:
    """Real harmonics of a unit vector, of norm sqrt(2l + 1), e3nn's axes and order."""
    value[0] = 1.0
    value[1] = _A1 * x
    value[2] = _A1 * y
    value[3] = _A1 * z
    value[4] = _A2 * x * z
    value[5] = _A2 * x * y
    value[6] = _B2 * (y * y - 0.5 * (x * x + z * z))
    value[7] = _A2 * y * z
    value[8] = 0.5 * _A2 * (z * z - x * x)
    value[9] = _A3 * x * (3 * z * z - x * x)
    value[10] = _B3 * x * y * z
    value[11] = _C3 * x * (4 * y * y - x * x - z * z)
    value[12] = 0.5 * _D3 * y * (2 * y * y - 3 * (x * x + z * z))
    value[13] = _C3 * z * (4 * y * y - x * x - z * z)
    value[14] = 0.5 * _B3 * y * (z * z - x * x)
    value[15] = _A3 * z * (z * z - 3 * x * x)


@numba.njit(**INNER)
def _gradient(x: float, y: float, z: float, d: Any) -> tuple[float, float, float]:
    """Sum over harmonics of ``d`` times their gradient, as polynomials of x, y, z."""
    gx = _A1 * d[1] + _A2 * (z * d[4] + y * d[5] - x * d[8]) - _B2 * x * d[6]
    gy = _A1 * d[2] + _A2 * (x * d[5] + z * d[7]) + 2 * _B2 * y * d[6]
    gz = _A1 * d[3] + _A2 * (x * d[4] + y * d[7] + z * d[8]) - _B2 * z * d[6]
    gx += 3 * _A3 * (z * z - x * x) * d[9] + _B3 * y * z * d[10]
    gx += _C3 * (4 * y * y - 3 * x * x - z * z) * d[11] - 3 * _D3 * x * y * d[12]
    gx += -2 * _C3 * x * z * d[13] - _B3 * x * y * d[14] - 6 * _A3 * x * z * d[15]
    gy += _B3 * x * z * d[10] + 8 * _C3 * x * y * d[11]
    gy += 1.5 * _D3 * (2 * y * y - x * x - z * z) * d[12]
    gy += 8 * _C3 * y * z * d[13] + 0.5 * _B3 * (z * z - x * x) * d[14]
    gz += 6 * _A3 * x * z * d[9] + _B3 * x * y * d[10] - 2 * _C3 * x * z * d[11]
    gz += -3 * _D3 * y * z * d[12] + _C3 * (4 * y * y - x * x - 3 * z * z) * d[13]
    gz += _B3 * y * z * d[14] + 3 * _A3 * (z * z - x * x) * d[15]
    return gx, gy, gz


@kernel
def place_edges(
    start: int,
    stop: int,
    vectors: Any,
    distances: Any,
    edges: Any,
    rows: Any,
    pair_table: Any,
    spacing: float,
    n_knots: int,
    knots: Any,
    fractions: Any,
    harmonics: Any,
) -> None:
    """Harmonics and places in the splines of edges ``start`` to ``stop``.

    Args:
        start: First edge.
        stop: Edge after the last.
        vectors: ``(n_edges, 3)`` from receiver to sender.
        distances: ``(n_edges,)``.
        edges: ``(2, n_edges)`` receiver and sender.
        rows: Row of each atom's element.
        pair_table: ``(n_elements, n_elements)`` which splines a pair has.
        spacing: Å between knots.
        n_knots: Knots of one pair's splines.
        knots: ``(n_edges,)`` row of the knot below, result.
        fractions: ``(n_edges,)`` part of the interval above it, result.
        harmonics: ``(n_edges, 16)`` of the direction from sender to receiver, result.
    """
    value = np.empty(16)
    for e in range(start, stop):
        r = distances[e]
        place = min(int(r / spacing), n_knots - 2)
        knots[e] = pair_table[rows[edges[0, e]], rows[edges[1, e]]] * n_knots + place
        fractions[e] = r / spacing - place
        _harmonics(-vectors[e, 0] / r, -vectors[e, 1] / r, -vectors[e, 2] / r, value)
        for k in range(16):
            harmonics[e, k] = value[k]


@kernel
def edge_forces(
    start: int, stop: int, vectors: Any, distances: Any, radial: Any, angular: Any, gradient: Any
) -> None:
    """Gradient of the energy with respect to each edge's vector, ``(n_edges, 3)``.

    Args:
        start: First edge.
        stop: Edge after the last.
        vectors: ``(n_edges, 3)``.
        distances: ``(n_edges,)``.
        radial: ``(n_edges,)`` derivative with respect to the length.
        angular: ``(n_edges, 16)`` derivative with respect to the harmonics.
        gradient: The result.
    """
    d = np.empty(16)
    for e in range(start, stop):
        r = distances[e]
        x, y, z = -vectors[e, 0] / r, -vectors[e, 1] / r, -vectors[e, 2] / r
        for k in range(16):
            d[k] = angular[e, k]
        gx, gy, gz = _gradient(x, y, z, d)
        along = gx * x + gy * y + gz * z
        slope = radial[e]
        gradient[e, 0] = -(slope * x + (gx - along * x) / r)
        gradient[e, 1] = -(slope * y + (gy - along * y) / r)
        gradient[e, 2] = -(slope * z + (gz - along * z) / r)

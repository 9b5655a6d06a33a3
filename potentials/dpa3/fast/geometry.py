"""From positions to what the layers read, and the way back to forces."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.potentials.dpa3.fast.bounded import slope, value

__all__ = ["angle_cosines", "angle_cosines_backward", "edge_gradients", "embed_edges", "embed_edges_backward"]


@numba.njit(**INNER)
def _switch(r: float, start: float, cutoff: float, exponential: bool) -> tuple[float, float]:
    """The switch and its derivative, as :func:`~atomml.potentials.dpa3.surroundings.switch`."""
    if r >= cutoff:
        return 0.0, 0.0
    if exponential:
        rate = 20 / start
        inner = math.exp(rate * (r - start))
        value = math.exp(-inner)
        return value, -value * inner * rate
    u = min(max((r - start) / (cutoff - start), 0.0), 1.0)
    return 1 - u**3 * (10 - 15 * u + 6 * u * u), -30 * u * u * (1 - u) ** 2 / (cutoff - start)


@kernel(fastmath=LOOSE)
def embed_edges(
    start: int,
    stop: int,
    vectors: Any,
    distances: Any,
    centre: Any,
    rows: Any,
    mean: Any,
    deviation: Any,
    cutoffs: Any,
    exponential: bool,
    by_length: bool,
    embedding: Any,
    act: Any,
    weight: Any,
    direction: Any,
    seen: Any,
    edge: Any,
) -> None:
    """Switch, direction and first features of edges ``start`` to ``stop``.

    Args:
        start: First edge.
        stop: Edge after the last.
        vectors: ``(n_edges, 3)`` float64.
        distances: ``(n_edges,)`` float64.
        centre: ``(n_edges,)``.
        rows: ``(n_atoms,)`` type.
        mean: ``(n_types,)`` of inverse lengths.
        deviation: ``(n_types, 2)``.
        cutoffs: Where the switch starts, where it ends, and what protects divisions.
        exponential: Which switch.
        by_length: Whether edges begin as their length.
        embedding: ``(2, e)`` weight and bias.
        act: Parameters of the non-linearity.
        weight: ``(n_edges,)`` result.
        direction: ``(n_edges, 3)`` result, once more times the switch.
        seen: ``(n_edges,)`` what is embedded, result.
        edge: ``(n_edges + spare, e)`` result.
    """
    one, t, k, s, o = act.dtype.type(1), act[0], act[1], act[2], act[3]
    for e in range(start, stop):
        r, row = distances[e], rows[centre[e]]
        w, _ = _switch(r, cutoffs[0], cutoffs[1], exponential)
        near = r + cutoffs[2]
        weight[e] = w
        factor = w * w / (near * near * deviation[row, 1])
        for a in range(3):
            direction[e, a] = vectors[e, a] * factor
        seen[e] = r if by_length else (w / near - mean[row]) / deviation[row, 0]
        x = seen[e]
        for c in range(edge.shape[1]):
            edge[e, c] = x * embedding[0, c] + embedding[1, c]
        if not by_length:
            for c in range(edge.shape[1]):
                edge[e, c] = value(edge[e, c], one, t, k, s, o)


@kernel(fastmath=LOOSE)
def embed_edges_backward(
    start: int, stop: int, by_length: bool, seen: Any, embedding: Any, act: Any, gradient: Any, result: Any
) -> None:
    """Gradient of what was embedded of edges ``start`` to ``stop``."""
    one, t, k, s = act.dtype.type(1), act[0], act[1], act[2]
    for e in range(start, stop):
        x, total = seen[e], one - one
        for c in range(gradient.shape[1]):
            g = gradient[e, c] * embedding[0, c]
            pre = x * embedding[0, c] + embedding[1, c]
            total += g if by_length else g * slope(pre, one, t, k, s)
        result[e] = total


@kernel
def angle_cosines(
    start: int,
    stop: int,
    bond_start: Any,
    angle_start: Any,
    bonds: Any,
    vectors: Any,
    distances: Any,
    cutoffs: Any,
    exponential: bool,
    scale: float,
    unit: Any,
    angle_weight: Any,
    cosine: Any,
) -> None:
    """Directions and switches of the bonds of atoms ``start`` to ``stop``, and the cosines between them."""
    for i in range(start, stop):
        low, high = bond_start[i], bond_start[i + 1]
        for b in range(low, high):
            r = distances[bonds[b]]
            angle_weight[b], _ = _switch(r, cutoffs[0], cutoffs[1], exponential)
            for a in range(3):
                unit[b, a] = vectors[bonds[b], a] / (r + cutoffs[2])
        at = angle_start[i]
        for j in range(low, high):
            for k in range(low, high):
                dot = unit[j, 0] * unit[k, 0] + unit[j, 1] * unit[k, 1] + unit[j, 2] * unit[k, 2]
                cosine[at] = scale * dot
                at += 1


@kernel
def angle_cosines_backward(
    start: int,
    stop: int,
    bond_start: Any,
    angle_start: Any,
    bonds: Any,
    vectors: Any,
    distances: Any,
    cutoffs: Any,
    exponential: bool,
    scale: float,
    unit: Any,
    angle_weight_gradient: Any,
    cosine_gradient: Any,
    gradient: Any,
) -> None:
    """Add to the gradient of the vectors of the bonds of atoms ``start`` to ``stop``."""
    along = np.empty(3)
    for i in range(start, stop):
        low, n = bond_start[i], bond_start[i + 1] - bond_start[i]
        at = angle_start[i]
        for j in range(n):
            along[:] = 0.0
            for k in range(n):
                g = scale * (cosine_gradient[at + j * n + k] + cosine_gradient[at + k * n + j])
                for a in range(3):
                    along[a] += g * unit[low + k, a]
            e = bonds[low + j]
            r = distances[e]
            _, change = _switch(r, cutoffs[0], cutoffs[1], exponential)
            dot = along[0] * vectors[e, 0] + along[1] * vectors[e, 1] + along[2] * vectors[e, 2]
            radial = angle_weight_gradient[low + j] * change / r - dot / ((r + cutoffs[2]) ** 2 * r)
            for a in range(3):
                gradient[e, a] += along[a] / (r + cutoffs[2]) + radial * vectors[e, a]


@kernel
def edge_gradients(
    start: int,
    stop: int,
    vectors: Any,
    distances: Any,
    centre: Any,
    rows: Any,
    deviation: Any,
    cutoffs: Any,
    exponential: bool,
    by_length: bool,
    weight_gradient: Any,
    direction_gradient: Any,
    seen_gradient: Any,
    gradient: Any,
) -> None:
    """Gradient of the energy with respect to vectors of edges ``start`` to ``stop``, angles left out."""
    for e in range(start, stop):
        r, row = distances[e], rows[centre[e]]
        w, change = _switch(r, cutoffs[0], cutoffs[1], exponential)
        near = r + cutoffs[2]
        factor = 1 / (near * near * deviation[row, 1])
        along = 0.0
        for a in range(3):
            along += direction_gradient[e, a] * vectors[e, a]
        radial = weight_gradient[e] * change + along * factor * (2 * w * change - 2 * w * w / near)
        if by_length:
            radial += seen_gradient[e]
        else:
            radial += seen_gradient[e] * (change - w / near) / (near * deviation[row, 0])
        for a in range(3):
            gradient[e, a] = direction_gradient[e, a] * w * w * factor + radial * vectors[e, a] / r

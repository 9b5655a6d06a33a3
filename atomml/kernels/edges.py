"""Vectors of edges, which every fast path starts from, and the forces that it ends with."""

from __future__ import annotations

import math
from typing import Any

from atomml.kernels.compile import kernel

__all__ = ["edge_vectors", "forces_and_virial"]


@kernel
def edge_vectors(
    start: int,
    stop: int,
    positions: Any,
    cell: Any,
    batch: Any,
    edges: Any,
    shift: Any,
    vectors: Any,
    distances: Any,
) -> None:
    """Vector and length of edges ``start`` to ``stop``."""
    for e in range(start, stop):
        i, j = edges[0, e], edges[1, e]
        box = cell[batch[i]]
        square = 0.0
        for k in range(3):
            offset = shift[e, 0] * box[0, k] + shift[e, 1] * box[1, k] + shift[e, 2] * box[2, k]
            vectors[e, k] = positions[j, k] - positions[i, k] + offset
            square += vectors[e, k] ** 2
        distances[e] = math.sqrt(square)


@kernel
def forces_and_virial(
    start: int,
    stop: int,
    edge_start: Any,
    reverse: Any,
    vectors: Any,
    edge_gradient: Any,
    forces: Any,
    virial: Any,
) -> None:
    """Forces on atoms ``start`` to ``stop``, and their share of dE/d(strain).

    ``edge_gradient`` is that of the energy with respect to each edge's vector; ``forces`` is
    ``(n_atoms, 3)``, ``virial`` ``(n_atoms, 3, 3)``.
    """
    for i in range(start, stop):
        forces[i] = 0.0
        virial[i] = 0.0
        for e in range(edge_start[i], edge_start[i + 1]):
            for k in range(3):
                forces[i, k] += edge_gradient[e, k] - edge_gradient[reverse[e], k]
                for m in range(3):
                    virial[i, k, m] += vectors[e, k] * edge_gradient[e, m]

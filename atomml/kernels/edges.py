"""Vectors of edges, which every fast path starts from."""

from __future__ import annotations

import math
from typing import Any

from atomml.kernels.compile import kernel

__all__ = ["edge_vectors"]


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

"""Channel-wise tensor products of rows: non-zero coefficients only, nothing gathered, nothing stored.

``first`` is ``(n_a, n_rows, channels)``; ``second`` is the same, or ``(n_b, n_rows, 1)`` where all channels
share it; ``weight`` is ``(n, n_paths, channels)``; the result ``(n_c, n, channels)``. ``rows_1`` and
``rows_2`` say which rows make each of the ``n`` products.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel

__all__ = ["product", "product_backward", "scalar_product", "scalar_product_backward"]


@numba.njit(fastmath=LOOSE, **INNER)
def _couple(begin: int, end: int, a: Any, b: Any, c: Any, x: Any, i: int, y: Any, j: int, total: Any) -> None:
    """The terms of one segment."""
    total[:] = 0
    for t in range(begin, end):
        one, two, factor = x[a[t], i], y[b[t], j], c[t]
        for k in range(len(total)):
            total[k] += factor * one[k] * two[k]


@numba.njit(fastmath=LOOSE, **INNER)
def _couple_scalar(
    begin: int, end: int, a: Any, b: Any, c: Any, x: Any, i: int, y: Any, j: int, total: Any
) -> None:
    """The same where all channels share the second factor."""
    total[:] = 0
    for t in range(begin, end):
        one, factor = x[a[t], i], c[t] * y[b[t], j, 0]
        for k in range(len(total)):
            total[k] += factor * one[k]


@kernel(fastmath=LOOSE)
def product(
    start: int,
    stop: int,
    first: Any,
    rows_1: Any,
    second: Any,
    rows_2: Any,
    weight: Any,
    begin: Any,
    path: Any,
    result: Any,
    a: Any,
    b: Any,
    c: Any,
    out: Any,
) -> None:
    """Products ``start`` to ``stop``; the tables are those of ``Couplings``, the rest as this module says."""
    total = np.empty(first.shape[2], first.dtype)
    for e in range(start, stop):
        out[:, e] = 0
        for s in range(len(path)):
            _couple(begin[s], begin[s + 1], a, b, c, first, rows_1[e], second, rows_2[e], total)
            row, w = out[result[s], e], weight[e, path[s]]
            for k in range(len(total)):
                row[k] += w[k] * total[k]


@kernel(fastmath=LOOSE)
def scalar_product(
    start: int,
    stop: int,
    first: Any,
    rows_1: Any,
    second: Any,
    rows_2: Any,
    weight: Any,
    begin: Any,
    path: Any,
    result: Any,
    a: Any,
    b: Any,
    c: Any,
    out: Any,
) -> None:
    """The same where all channels share the second factor."""
    total = np.empty(first.shape[2], first.dtype)
    for e in range(start, stop):
        out[:, e] = 0
        for s in range(len(path)):
            _couple_scalar(begin[s], begin[s + 1], a, b, c, first, rows_1[e], second, rows_2[e], total)
            row, w = out[result[s], e], weight[e, path[s]]
            for k in range(len(total)):
                row[k] += w[k] * total[k]


@kernel(fastmath=LOOSE)
def product_backward(
    start: int,
    stop: int,
    first: Any,
    rows_1: Any,
    second: Any,
    rows_2: Any,
    weight: Any,
    begin: Any,
    path: Any,
    result: Any,
    a: Any,
    b: Any,
    c: Any,
    gradient: Any,
    first_gradient: Any,
    second_gradient: Any,
    weight_gradient: Any,
) -> None:
    """Gradients are added to those of both factors, and written for the weights.

    Ranges must not share rows: products of one structure belong to one range.
    """
    n_channels = first.shape[2]
    total, scaled = np.empty(n_channels, first.dtype), np.empty(n_channels, first.dtype)
    for e in range(start, stop):
        i, j = rows_1[e], rows_2[e]
        weight_gradient[e] = 0
        for s in range(len(path)):
            _couple(begin[s], begin[s + 1], a, b, c, first, i, second, j, total)
            row, w, own = gradient[result[s], e], weight[e, path[s]], weight_gradient[e, path[s]]
            for k in range(n_channels):
                own[k] += row[k] * total[k]
                scaled[k] = row[k] * w[k]
            for t in range(begin[s], begin[s + 1]):
                one, two, factor = first[a[t], i], second[b[t], j], c[t]
                back_1, back_2 = first_gradient[a[t], i], second_gradient[b[t], j]
                for k in range(n_channels):
                    along = factor * scaled[k]
                    back_1[k] += along * two[k]
                    back_2[k] += along * one[k]


@kernel(fastmath=LOOSE)
def scalar_product_backward(
    start: int,
    stop: int,
    first: Any,
    rows_1: Any,
    second: Any,
    rows_2: Any,
    weight: Any,
    begin: Any,
    path: Any,
    result: Any,
    a: Any,
    b: Any,
    c: Any,
    gradient: Any,
    first_gradient: Any,
    second_gradient: Any,
    weight_gradient: Any,
) -> None:
    """The same where all channels share the second factor, whose gradient nobody wants."""
    n_channels = first.shape[2]
    total, scaled = np.empty(n_channels, first.dtype), np.empty(n_channels, first.dtype)
    for e in range(start, stop):
        i, j = rows_1[e], rows_2[e]
        weight_gradient[e] = 0
        for s in range(len(path)):
            _couple_scalar(begin[s], begin[s + 1], a, b, c, first, i, second, j, total)
            row, w, own = gradient[result[s], e], weight[e, path[s]], weight_gradient[e, path[s]]
            for k in range(n_channels):
                own[k] += row[k] * total[k]
                scaled[k] = row[k] * w[k]
            for t in range(begin[s], begin[s + 1]):
                back, factor = first_gradient[a[t], i], c[t] * second[b[t], j, 0]
                for k in range(n_channels):
                    back[k] += factor * scaled[k]

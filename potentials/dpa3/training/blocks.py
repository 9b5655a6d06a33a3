"""What the kernels of edges and of angles share: blocks of values and tangents, and the way back.

A block has up to ``HALF`` rows of values, and their tangents ``HALF`` rows below.
"""

from __future__ import annotations

from typing import Any

import numba

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER
from atomml.kernels.duals import HALF
from atomml.kernels.gemm import TILE_ROWS, block_product, tile_product, tile_product_transposed
from atomml.potentials.dpa3.fast.bounded import value_and_slope_of_block

__all__ = [
    "HALF",
    "activate_duals",
    "activation_backward",
    "add_matrix_gradient",
    "clear_rest",
    "load_rows",
    "map_rows",
    "store_rows",
]


@numba.njit(fastmath=LOOSE, **INNER)
def load_rows(source: Any, first: int, n_rows: int, block: Any) -> None:
    """Copy rows of ``(2, n, c)`` into the first columns of a block."""
    for side in range(2):
        for r in range(n_rows):
            row, kept = block[side * HALF + r], source[side, first + r]
            for c in range(source.shape[2]):
                row[c] = kept[c]


@numba.njit(fastmath=LOOSE, **INNER)
def store_rows(block: Any, target: Any, first: int, n_rows: int) -> None:
    """The inverse of :func:`load_rows`."""
    for side in range(2):
        for r in range(n_rows):
            row, kept = block[side * HALF + r], target[side, first + r]
            for c in range(target.shape[2]):
                kept[c] = row[c]


@numba.njit(**INNER)
def map_rows(rows: Any, panels: Any, y: Any, n_rows: int) -> None:
    """Add the product of a block with a matrix to another block."""
    block_product(rows, 0, 0, panels, y, 0, n_rows)
    for q in range(panels.shape[0]):
        for r in range(HALF, HALF + n_rows, TILE_ROWS):
            tile_product(rows, r, 0, panels, q, y, r, q * panels.shape[2])


@numba.njit(fastmath=LOOSE, **INNER)
def activate_duals(y: Any, slopes: Any, n_rows: int, act: Any) -> None:
    """The non-linearity of a block in place; ``slopes`` (HALF, width) are its derivatives."""
    value_and_slope_of_block(y, slopes, n_rows, act)
    for r in range(n_rows):
        along, slope = y[HALF + r], slopes[r]
        for c in range(y.shape[1]):
            along[c] *= slope[c]


@numba.njit(fastmath=LOOSE, **INNER)
def activation_backward(y: Any, slopes: Any, curvatures: Any, n_rows: int, gradient: Any) -> None:
    """Turn the gradient of a non-linearity's result into that of its argument, in place.

    The tangents of ``y`` are those of the argument.
    """
    for r in range(n_rows):
        value, along, turn = gradient[r], gradient[HALF + r], y[HALF + r]
        slope, curvature = slopes[r], curvatures[r]
        for c in range(y.shape[1]):
            value[c] = value[c] * slope[c] + along[c] * curvature[c] * turn[c]
            along[c] *= slope[c]


@numba.njit(**INNER)
def clear_rest(block: Any, n_rows: int) -> None:
    """Zero the rows that do not count, so that they add nothing to a matrix's gradient."""
    for side in range(2):
        for r in range(n_rows, HALF):
            row = block[side * HALF + r]
            for c in range(block.shape[1]):
                row[c] = 0


@numba.njit(**INNER)
def add_matrix_gradient(rows: Any, gradient: Any, panels: Any, result: Any) -> None:
    """Add a block's share to the gradient of a matrix, inputs transposed times gradients of outputs.

    Args:
        rows: ``(2 * HALF, depth + TILE_ROWS)``, inputs in the first ``depth`` columns.
        gradient: ``(2 * HALF, width)``, zero in rows that do not count.
        panels: The ``(depth, width)`` matrix.
        result: ``(depth + TILE_ROWS, width)``; what the last rows are given means nothing.
    """
    for q in range(panels.shape[0]):
        for r in range(0, panels.shape[1], TILE_ROWS):
            column = q * panels.shape[2]
            tile_product_transposed(rows, r, gradient, column, result, r, column)

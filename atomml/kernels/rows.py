"""Rows moved and summed inside compiled loops.

numba compiles a slice assignment in a quarter of a second, most of it for the error that it
never raises; these loops cost nothing of the kind and no bounds check either.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.arena import ALIGNMENT
from atomml.kernels.compile import INNER

__all__ = ["add_row", "copy_rows", "empty_rows", "set_row", "sum_rows", "zero_rows"]


@numba.njit(**INNER)
def empty_rows(n_rows: int, n_columns: int, like: Any) -> Any:
    """``(n_rows, n_columns)`` of the type of the array ``like``, with whatever the memory held.

    It begins where a vector register's worth of bytes does. numba's own arrays begin anywhere: a tile's loads
    then straddle cache lines, in one process and not in the next, and a product takes up to twice as long.
    """
    n = n_rows * n_columns
    spare = ALIGNMENT // like.itemsize
    memory = np.empty(n + spare, like.dtype)
    first = (spare - memory.ctypes.data // like.itemsize % spare) % spare
    return memory[first : first + n].reshape((n_rows, n_columns))


@numba.njit(**INNER)
def zero_rows(n_rows: int, n_columns: int, like: Any) -> Any:
    """The same, of zeros."""
    rows = empty_rows(n_rows, n_columns, like)
    for i in range(n_rows):
        for j in range(n_columns):
            rows[i, j] = 0
    return rows


@numba.njit(**INNER)
def copy_rows(source: Any, source_row: int, target: Any, target_row: int, n_rows: int) -> None:
    """``target[target_row:+n_rows] = source[source_row:+n_rows]``, over the target's columns."""
    for i in range(n_rows):
        for j in range(target.shape[1]):
            target[target_row + i, j] = source[source_row + i, j]


@numba.njit(**INNER)
def set_row(target: Any, row: int, values: Any) -> None:
    """``target[row] = values``."""
    for j in range(target.shape[1]):
        target[row, j] = values[j]


@numba.njit(**INNER)
def add_row(target: Any, row: int, values: Any) -> None:
    """``target[row] += values``."""
    for j in range(target.shape[1]):
        target[row, j] += values[j]


@numba.njit(**INNER)
def sum_rows(one: Any, first: int, two: Any, second: int, target: Any, row: int) -> None:
    """``target[row] = one[first] + two[second]``."""
    for j in range(target.shape[1]):
        target[row, j] = one[first, j] + two[second, j]

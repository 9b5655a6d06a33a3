"""Rows moved and summed inside compiled loops.

numba compiles a slice assignment in a quarter of a second, most of it for the error that it
never raises; these loops cost nothing of the kind and no bounds check either.
"""

from __future__ import annotations

from typing import Any

import numba

from atomml.kernels.compile import INNER

__all__ = ["add_row", "copy_rows", "set_row", "sum_rows"]


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

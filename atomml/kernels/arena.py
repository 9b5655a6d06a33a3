"""Memory that is asked for once and used again at every step.

A fresh large array costs more in page faults than the arithmetic on it; a run takes its
arrays from an arena in the same order each time and gives all of them back at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arena"]

_ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""


class Arena:
    """A block of memory from which arrays are cut one after the other."""

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._address = 0  # asking numpy for it at every array would cost more than cutting the array
        self._used = 0

    def restart(self) -> None:
        """Take all arrays back; those handed out before must no longer be used."""
        if self._used > len(self._block):
            self._block = np.empty(self._used + self._used // 8, np.uint8)
            self._address = self._block.ctypes.data
        self._used = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with whatever the memory held; a fresh one where the block is too small yet."""
        start = -(-(self._used + self._address) // _ALIGNMENT) * _ALIGNMENT - self._address
        n_bytes = math.prod(shape) * dtype.itemsize
        self._used = start + n_bytes
        if self._used > len(self._block):
            return np.empty(shape, dtype)
        return self._block[start : self._used].view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of zeros."""
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

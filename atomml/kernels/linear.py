"""A linear map of many rows, split over threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import kernel
from atomml.kernels.gemm import BLOCK, TILE_ROWS, block_product_onto
from atomml.kernels.rows import copy_rows

__all__ = ["project_rows"]


@kernel(fastmath=LOOSE)
def project_rows(start: int, stop: int, rows: Any, panels: Any, bias: Any, result: Any) -> None:
    """``result[start:stop] = rows[start:stop] @ matrix + bias``."""
    whole = start + (stop - start) // TILE_ROWS * TILE_ROWS
    for first in range(start, whole, BLOCK):
        block_product_onto(rows, first, 0, panels, bias, result, first, 0, min(BLOCK, whole - first))
    if whole < stop:  # rows beyond are another thread's
        source = np.zeros((TILE_ROWS, rows.shape[1]), rows.dtype)
        target = np.empty((TILE_ROWS, result.shape[1]), rows.dtype)
        copy_rows(rows, whole, source, 0, stop - whole)
        block_product_onto(source, 0, 0, panels, bias, target, 0, 0, TILE_ROWS)
        copy_rows(target, 0, result, whole, stop - whole)

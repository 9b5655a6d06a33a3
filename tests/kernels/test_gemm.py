"""Products of blocks equal NumPy's, in both precisions, whatever the shape."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from atomml.kernels.compile import kernel
from atomml.kernels.gemm import (
    BLOCK,
    TILE_ROWS,
    block_product,
    block_product_onto,
    pack_panels,
    panel_width,
)


@kernel
def product(a: Any, panels: Any, c: Any, a_row: int, a_column: int, c_column: int, n_rows: int) -> None:
    """The block product, callable from Python."""
    block_product(a, a_row, a_column, panels, c, c_column, n_rows)


@kernel
def product_onto(a: Any, panels: Any, bias: Any, c: Any, places: tuple[int, int, int, int], n: int) -> None:
    """The product that overwrites, callable from Python."""
    a_row, a_column, c_row, c_column = places
    block_product_onto(a, a_row, a_column, panels, bias, c, c_row, c_column, n)


def test_a_block_is_whole_tiles() -> None:
    assert BLOCK % TILE_ROWS == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (31, 64), (64, 64), (128, 32), (64, 576), (7, 33)])
@pytest.mark.parametrize("n_rows", [1, TILE_ROWS, TILE_ROWS + 1, BLOCK])
def test_equals_numpy(dtype: type[np.floating[Any]], k: int, n: int, n_rows: int) -> None:
    rng = np.random.default_rng(k + 100 * n)
    a = rng.normal(size=(BLOCK + 20, k + 5)).astype(dtype)
    matrix = rng.normal(size=(k, n)).astype(dtype)
    width = -(-n // panel_width(dtype)) * panel_width(dtype)
    c = rng.normal(size=(BLOCK, width + 3)).astype(dtype)
    expected = c[:n_rows, 2 : 2 + n] + a[8 : 8 + n_rows, 3 : 3 + k] @ matrix
    untouched = c[:, [0, 1, -1]].copy()
    product(a, pack_panels(matrix), c, 8, 3, 2, n_rows)
    # k roundings, each of a partial sum of some units.
    np.testing.assert_allclose(c[:n_rows, 2 : 2 + n], expected, atol=8 * k * np.finfo(dtype).eps)
    np.testing.assert_array_equal(c[:, [0, 1, -1]], untouched)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [1, TILE_ROWS, TILE_ROWS + 1])
def test_onto_a_bias_overwrites(dtype: type[np.floating[Any]], n_rows: int) -> None:
    """What stood there is not read, NaN neither; nothing beside the tiles is written."""
    rng = np.random.default_rng(n_rows)
    width, rows = panel_width(dtype), -(-n_rows // TILE_ROWS) * TILE_ROWS
    a, matrix = rng.normal(size=(40, 9)).astype(dtype), rng.normal(size=(7, width)).astype(dtype)
    bias = rng.normal(size=2 + width).astype(dtype)
    c = np.full((3 + rows + 1, width + 3), np.nan, dtype)
    product_onto(a, pack_panels(matrix), bias, c, (5, 2, 3, 2), n_rows)
    expected = bias[2:] + a[5 : 5 + n_rows, 2:] @ matrix
    np.testing.assert_allclose(c[3 : 3 + n_rows, 2:-1], expected, atol=56 * np.finfo(dtype).eps)
    assert np.isnan(c[:3]).all()
    assert np.isnan(c[3 + rows :]).all()
    assert np.isnan(c[:, [0, 1, -1]]).all()


def test_a_tile_keeps_its_sums_in_registers() -> None:
    """An unrolled loop would need more than there are, and take the way over the stack at every turn."""
    a, c = np.zeros((BLOCK, 64), np.float32), np.zeros((BLOCK, 64), np.float32)
    compiled = numba.njit(product.py_func)  # what comes from a cache shows no code
    compiled(a, pack_panels(a[:64]), c, 0, 0, 0, BLOCK)
    code = next(iter(compiled.inspect_asm().values()))
    if "vfmadd" not in code:
        pytest.skip("only fused multiply-adds of x86 are counted")
    assert code.count("vfmadd") == 2 * TILE_ROWS


def test_panels_hold_every_number_once() -> None:
    matrix = np.arange(1.0, 1 + 5 * 37).reshape(5, 37)
    panels = pack_panels(matrix)
    assert panels.flags.c_contiguous
    assert sorted(panels[panels != 0]) == list(matrix.ravel())
    joined = panels.transpose(1, 0, 2).reshape(5, -1)
    np.testing.assert_array_equal(joined[:, :37], matrix)
    assert not joined[:, 37:].any()

"""Small matrix products inside compiled loops.

A fused kernel multiplies a block of some hundred rows that still lies in the cache by a
weight matrix, applies an activation, and sums; a call to a BLAS from there would bring its
own threads. So the innermost tile is emitted here as vector instructions: ``TILE_ROWS``
rows times one panel of columns, all sums held in registers.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["BLOCK", "TILE_ROWS", "block_product", "pack_panels", "panel_width", "tile_product"]

_FEATURES = llvm.get_host_cpu_features()
_VECTOR_BYTES, TILE_ROWS = (
    (64, 12) if _FEATURES.get("avx512f") else (32, 6) if _FEATURES.get("avx2") else (16, 4)
)
"""Registers: AVX-512 has 32 of 64 bytes, AVX2 16 of 32, all others at least 16 of 16; a tile
needs 2 * TILE_ROWS sums, 2 columns and 1 broadcast."""

_VECTORS = 2

BLOCK = 96
"""Rows that a fused kernel keeps in the cache at a time; a multiple of every ``TILE_ROWS``."""


def panel_width(dtype: np.dtype[Any] | type[np.generic]) -> int:
    """Columns of a panel for this type on this machine."""
    return _VECTORS * _VECTOR_BYTES // np.dtype(dtype).itemsize


def pack_panels(matrix: NDArray[Any]) -> NDArray[Any]:
    """Lay a ``(k, n)`` matrix out as ``(n_panels, k, width)``, padded with zero columns."""
    k, n = matrix.shape
    width = panel_width(matrix.dtype)
    n_panels = -(-n // width)
    padded = np.zeros((k, n_panels * width), matrix.dtype)
    padded[:, :n] = matrix
    return np.ascontiguousarray(padded.reshape(k, n_panels, width).transpose(1, 0, 2))


@intrinsic
def tile_product(
    typingctx: Any,
    a: Any,
    a_row: Any,
    a_column: Any,
    panels: Any,
    panel: Any,
    c: Any,
    c_row: Any,
    c_column: Any,
) -> Any:
    """Add ``a[a_row:+TILE_ROWS, a_column:+k] @ panels[panel]`` to a tile of ``c``.

    ``a`` and ``c`` are C-contiguous 2-D arrays, ``panels`` comes from :func:`pack_panels`; all of
    one floating-point type. There is no bounds check: callers pad their blocks.
    """
    signature = types.void(a, types.intp, types.intp, panels, types.intp, c, types.intp, types.intp)
    return signature, _emit_tile


def _emit_tile(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM code of the tile: one loop over k, sums as phi nodes."""
    a_type, panels_type, c_type = signature.args[0], signature.args[3], signature.args[5]
    scalar = context.get_data_type(a_type.dtype)
    size = 4 if a_type.dtype == types.float32 else 8
    vector = ir.VectorType(scalar, _VECTOR_BYTES // size)
    width = _VECTORS * _VECTOR_BYTES // size
    word = ir.IntType(64)
    a = context.make_array(a_type)(context, builder, arguments[0])
    panels = context.make_array(panels_type)(context, builder, arguments[3])
    c = context.make_array(c_type)(context, builder, arguments[5])
    a_stride = builder.extract_value(a.shape, 1)
    c_stride = builder.extract_value(c.shape, 1)
    depth = builder.extract_value(panels.shape, 1)

    def offset(row: Any, stride: Any, column: Any) -> Any:
        return builder.add(builder.mul(row, stride), column)

    a_base = builder.gep(a.data, [offset(arguments[1], a_stride, arguments[2])])
    b_base = builder.gep(panels.data, [builder.mul(builder.mul(arguments[4], depth), word(width))])
    c_base = builder.gep(c.data, [offset(arguments[6], c_stride, arguments[7])])
    a_rows = [builder.gep(a_base, [builder.mul(a_stride, word(r))]) for r in range(TILE_ROWS)]
    targets = [
        builder.bitcast(
            builder.gep(c_base, [builder.add(builder.mul(c_stride, word(r)), word(v * vector.count))]),
            vector.as_pointer(),
        )
        for r in range(TILE_ROWS)
        for v in range(_VECTORS)
    ]
    start = [builder.load(target, align=size) for target in targets]
    sums = _emit_loop(builder, scalar, vector, a_rows, b_base, depth, start)
    for value, target in zip(sums, targets, strict=True):
        builder.store(value, target, align=size)
    return context.get_dummy_value()


def _emit_loop(
    builder: Any, scalar: Any, vector: Any, a_rows: list[Any], b_base: Any, depth: Any, start: list[Any]
) -> list[Any]:
    """The loop over k: load a panel row, broadcast one number of each row, multiply and add."""
    word = ir.IntType(64)
    size = 4 if isinstance(scalar, ir.FloatType) else 8
    entry = builder.block
    body = builder.append_basic_block("tile.body")
    done = builder.append_basic_block("tile.done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(word)
    k.add_incoming(word(0), entry)
    sums = [builder.phi(vector) for _ in start]
    for phi, value in zip(sums, start, strict=True):
        phi.add_incoming(value, entry)
    row = builder.gep(b_base, [builder.mul(k, word(_VECTORS * vector.count))])
    columns = [
        builder.load(
            builder.bitcast(builder.gep(row, [word(v * vector.count)]), vector.as_pointer()), align=size
        )
        for v in range(_VECTORS)
    ]
    name = f"llvm.fmuladd.v{vector.count}f{8 * size}"
    fma = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    updated = []
    for r, a_row in enumerate(a_rows):
        number = builder.load(builder.gep(a_row, [k]))
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
        spread = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), lanes)
        for v in range(_VECTORS):
            updated.append(builder.call(fma, [spread, columns[v], sums[_VECTORS * r + v]]))
    following = builder.add(k, word(1))
    k.add_incoming(following, builder.block)
    for phi, value in zip(sums, updated, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, done)
    builder.position_at_end(done)
    return updated


@numba.njit(error_model="numpy")
def block_product(a: Any, a_row: int, a_column: int, panels: Any, c: Any, c_column: int, n_rows: int) -> None:
    """Add ``a[a_row:+n_rows, a_column:+k] @ matrix`` to ``c[:n_rows, c_column:+n]``.

    Works in whole tiles: rows up to the next multiple of ``TILE_ROWS`` are read from ``a`` and
    written to ``c`` too, so both have them, and nobody uses those of ``c``.

    Args:
        a: ``(rows, columns)``.
        a_row: First row in ``a``.
        a_column: First column in ``a``.
        panels: The ``(k, n)`` matrix as :func:`pack_panels` lays it out.
        c: A block of at least ``n_rows`` rounded up.
        c_column: First column in ``c``.
        n_rows: Rows that count.
    """
    width = panels.shape[2]
    for q in range(panels.shape[0]):
        for r in range(0, n_rows, TILE_ROWS):
            tile_product(a, a_row + r, a_column, panels, q, c, r, c_column + q * width)

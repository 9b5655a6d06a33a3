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

from atomml.kernels.compile import INNER

__all__ = [
    "BLOCK",
    "TILE_ROWS",
    "block_product",
    "block_product_onto",
    "block_product_transposed",
    "pack_panels",
    "panel_width",
    "tile_product",
    "tile_product_onto",
    "tile_product_transposed",
]

_FEATURES = llvm.get_host_cpu_features()
VECTOR_BYTES, TILE_ROWS = (
    (64, 12) if _FEATURES.get("avx512f") else (32, 6) if _FEATURES.get("avx2") else (16, 4)
)
"""Registers: AVX-512 has 32 of 64 bytes, AVX2 16 of 32, all others at least 16 of 16; a tile
needs 2 * TILE_ROWS sums, 2 columns and 1 broadcast."""

_VECTORS = 2

BLOCK = 96
"""Rows that a fused kernel keeps in the cache at a time; a multiple of every ``TILE_ROWS``."""


def panel_width(dtype: np.dtype[Any] | type[np.generic]) -> int:
    """Columns of a panel for this type on this machine."""
    return _VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize


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


@intrinsic
def tile_product_onto(
    typingctx: Any,
    a: Any,
    a_row: Any,
    a_column: Any,
    panels: Any,
    panel: Any,
    c: Any,
    c_row: Any,
    c_column: Any,
    bias: Any,
) -> Any:
    """Write ``bias + a[a_row:+TILE_ROWS, a_column:+k] @ panels[panel]`` to a tile of ``c``.

    Arrays as in :func:`tile_product`; ``bias`` is read at the columns of ``c``.
    """
    signature = types.void(a, types.intp, types.intp, panels, types.intp, c, types.intp, types.intp, bias)
    return signature, _emit_tile


def _emit_tile(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM code of the tile: rows of ``a`` along k, rows of a panel."""
    a_type, panels_type = signature.args[0], signature.args[3]
    word = ir.IntType(64)
    a = context.make_array(a_type)(context, builder, arguments[0])
    panels = context.make_array(panels_type)(context, builder, arguments[3])
    width = _vector_of(context, a_type).count * _VECTORS
    stride = builder.extract_value(a.shape, 1)
    depth = builder.extract_value(panels.shape, 1)
    first = builder.add(builder.mul(arguments[1], stride), arguments[2])
    a_rows = [
        builder.gep(a.data, [builder.add(first, builder.mul(stride, word(r)))]) for r in range(TILE_ROWS)
    ]
    b = builder.gep(panels.data, [builder.mul(builder.mul(arguments[4], depth), word(width))])
    sums = None
    if len(arguments) == 9:
        bias = context.make_array(signature.args[8])(context, builder, arguments[8])
        sums = builder.gep(bias.data, [arguments[7]])
    _emit_into(
        context, builder, signature.args[5], arguments[5:8], (a_rows, word(1)), (b, word(width)), depth, sums
    )
    return context.get_dummy_value()


@intrinsic
def tile_product_transposed(
    typingctx: Any, a: Any, a_column: Any, b: Any, b_column: Any, c: Any, c_row: Any, c_column: Any
) -> Any:
    """Add ``a[:, a_column:+TILE_ROWS].T @ b[:, b_column:+width]`` to a tile of ``c``.

    Arrays as in :func:`tile_product`; neither is packed, as both are read along their rows.
    """
    signature = types.void(a, types.intp, b, types.intp, c, types.intp, types.intp)
    return signature, _emit_transposed_tile


def _emit_transposed_tile(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM code of the tile: k runs down the rows of both."""
    word = ir.IntType(64)
    a = context.make_array(signature.args[0])(context, builder, arguments[0])
    b = context.make_array(signature.args[2])(context, builder, arguments[2])
    depth, a_stride = (builder.extract_value(a.shape, axis) for axis in (0, 1))
    a_rows = [builder.gep(a.data, [builder.add(arguments[1], word(r))]) for r in range(TILE_ROWS)]
    b_first = builder.gep(b.data, [arguments[3]])
    b_stride = builder.extract_value(b.shape, 1)
    _emit_into(
        context, builder, signature.args[4], arguments[4:], (a_rows, a_stride), (b_first, b_stride), depth
    )
    return context.get_dummy_value()


def _vector_of(context: Any, array_type: Any) -> Any:
    """The machine's vector of an array's numbers."""
    size = 4 if array_type.dtype == types.float32 else 8
    return ir.VectorType(context.get_data_type(array_type.dtype), VECTOR_BYTES // size)


def _emit_into(
    context: Any, builder: Any, c_type: Any, where: Any, left: Any, right: Any, depth: Any, sums: Any = None
) -> None:
    """Add a product to the tile of ``c`` at ``where``; ``left`` and ``right`` are pointers and steps of k.

    With ``sums``, a pointer to a row of numbers, the product is added to these and the tile is overwritten.
    """
    vector = _vector_of(context, c_type)
    word, size = ir.IntType(64), VECTOR_BYTES // vector.count
    c = context.make_array(c_type)(context, builder, where[0])
    stride = builder.extract_value(c.shape, 1)
    base = builder.gep(c.data, [builder.add(builder.mul(where[1], stride), where[2])])
    targets = [
        builder.bitcast(
            builder.gep(base, [builder.add(builder.mul(stride, word(r)), word(v * vector.count))]),
            vector.as_pointer(),
        )
        for r in range(TILE_ROWS)
        for v in range(_VECTORS)
    ]
    if sums is None:
        start = [builder.load(target, align=size) for target in targets]
    else:
        row = [builder.gep(sums, [word(v * vector.count)]) for v in range(_VECTORS)]
        start = [builder.load(builder.bitcast(p, vector.as_pointer()), align=size) for p in row] * TILE_ROWS
    for value, target in zip(_emit_loop(builder, vector, left, right, depth, start), targets, strict=True):
        builder.store(value, target, align=size)


def _emit_loop(builder: Any, vector: Any, left: Any, right: Any, depth: Any, start: list[Any]) -> list[Any]:
    """The loop over k: load a row of columns, broadcast one number of each row, multiply and add."""
    (a_rows, a_step), (b_base, b_step) = left, right
    word, size = ir.IntType(64), VECTOR_BYTES // vector.count
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
    row = builder.gep(b_base, [builder.mul(k, b_step)])
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
    a_offset = builder.mul(k, a_step)
    updated = []
    for r, a_row in enumerate(a_rows):
        number = builder.load(builder.gep(a_row, [a_offset]))
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
        spread = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), lanes)
        for v in range(_VECTORS):
            updated.append(builder.call(fma, [spread, columns[v], sums[_VECTORS * r + v]]))
    following = builder.add(k, word(1))
    k.add_incoming(following, builder.block)
    for phi, value in zip(sums, updated, strict=True):
        phi.add_incoming(value, builder.block)
    again = builder.cbranch(builder.icmp_signed("<", following, depth), body, done)
    again.set_metadata("llvm.loop", _as_it_stands(builder.module))
    builder.position_at_end(done)
    return updated


def _as_it_stands(module: Any) -> Any:
    """Metadata of a loop that LLVM must not unroll: two turns need more registers than there are.

    The sums then go to the stack and back in each turn, and as the stack begins at any multiple of 16 bytes,
    a product takes 1.5 to 2 times as long in every other process.
    """
    loop = ir.MDValue(module, [], name=str(len(module.metadata)))
    loop.operands = (loop, module.add_metadata(["llvm.loop.unroll.disable"]))
    return loop


@numba.njit(**INNER)
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


@numba.njit(**INNER)
def block_product_onto(
    a: Any, a_row: int, a_column: int, panels: Any, bias: Any, c: Any, c_row: int, c_column: int, n_rows: int
) -> None:
    """Write ``bias + a[a_row:+n_rows, a_column:+k] @ matrix`` to ``c[c_row:+n_rows, c_column:+n]``.

    Whole tiles as in :func:`block_product`; ``bias`` is read at the columns of ``c``.
    """
    width = panels.shape[2]
    for q in range(panels.shape[0]):
        for r in range(0, n_rows, TILE_ROWS):
            tile_product_onto(a, a_row + r, a_column, panels, q, c, c_row + r, c_column + q * width, bias)


@numba.njit(**INNER)
def block_product_transposed(a: Any, a_column: int, b: Any, b_column: int, n: int, c: Any) -> None:
    """Add ``a[:, a_column:+n].T @ b[:, b_column:+n]`` to ``c[:n, :n]``; what a weight's gradient is.

    Whole tiles as in :func:`block_product`: ``a`` has ``TILE_ROWS`` columns to spare, ``c`` rows.

    Args:
        a: ``(rows, columns)``.
        a_column: First column in ``a``.
        b: ``(rows, columns)``.
        b_column: First column in ``b``.
        n: Columns of both, a multiple of the panel's width.
        c: ``(at least n + TILE_ROWS, n)``.
    """
    width = _VECTORS * VECTOR_BYTES // c.itemsize
    for q in range(0, n, width):
        for r in range(0, n, TILE_ROWS):
            tile_product_transposed(a, a_column + r, b, b_column + q, c, r, q)

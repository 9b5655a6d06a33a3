"""Kernels of a training step: messages with their tangents, and the way back to weights and features.

All of a gated MLP happens on a block of rows in the cache: gather, first layer, SiLU, second
layer, norms, gate, sum. Only sums are written; the way back starts from the inputs again,
which costs less than to write and read every row.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.duals import HALF, gate_duals, gate_duals_backward, silu_duals, silu_duals_backward
from atomml.kernels.gemm import BLOCK, TILE_ROWS, block_product, block_product_transposed

__all__ = ["gates", "gates_backward", "messages", "messages_backward"]


@numba.njit(fastmath=LOOSE, **INNER)
def _gather(
    first: int, n_rows: int, a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any, x: Any
) -> None:
    """First-layer sums of a block of rows: three gathered parts, and the row's own if there is one."""
    for side in range(2):
        for i in range(n_rows):
            row, k = x[side * HALF + i], first + i
            one, two, three = a[side, ia[k]], b[side, ib[k]], d[side, id_[k]]
            for j in range(x.shape[1]):
                row[j] = one[j] + two[j] + three[j]
            if own.shape[1] > 0:
                for j in range(x.shape[1]):
                    row[j] += own[side, k, j]


@numba.njit(fastmath=LOOSE, **INNER)
def _scatter(
    first: int, n_rows: int, x: Any, a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any
) -> None:
    """The way back through :func:`_gather`: add to the gradients of the parts, write the row's own."""
    for side in range(2):
        for i in range(n_rows):
            row, k = x[side * HALF + i], first + i
            one, two, three = a[side, ia[k]], b[side, ib[k]], d[side, id_[k]]
            for j in range(x.shape[1]):
                one[j] += row[j]
                two[j] += row[j]
                three[j] += row[j]
            if own.shape[1] > 0:
                for j in range(x.shape[1]):
                    own[side, k, j] = row[j]


@kernel(fastmath=LOOSE)
def messages(
    start: int, stop: int, parts: Any, row_start: Any, owner: Any,
    a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any,
    core: Any, gate: Any, bias: Any, scale: Any, shift: Any, weights: Any, iw: Any, sums: Any,
) -> None:  # fmt: skip
    """Weighted messages of all rows of parts ``start`` to ``stop``, summed on their owners.

    Every array of features is (values, tangents).

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first owner of each part.
        row_start: ``(n_owners + 1,)`` first row of each owner.
        owner: ``(n_rows,)`` whose each row is; ascending.
        a: ``(2, n_a, 2c)`` products of the first layer with the first gathered input; has the bias.
        ia: ``(n_rows,)`` which row of ``a`` each row reads.
        b: ``(2, n_b, 2c)`` products with the second gathered input.
        ib: ``(n_rows,)`` which row of ``b``.
        d: ``(2, n_d, 2c)`` products with the third gathered input.
        id_: ``(n_rows,)`` which row of ``d``.
        own: ``(2, n_rows, 2c)`` product with an input of the row itself; (2, 0, 2c) where there is none.
        core: Panels of the second layer of the core, centred over its outputs.
        gate: Panels of the second layer of the gate, centred over its outputs.
        bias: ``(2c,)`` of the second layers, core then gate.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        weights: ``(2, n_weights, c)`` that messages are multiplied with.
        iw: ``(n_rows,)`` which row of the weights.
        sums: ``(2, n_owners, c)`` the result, written.
    """
    c = weights.shape[2]
    x = np.zeros((BLOCK, 2 * c), sums.dtype)
    h = np.zeros((BLOCK, 2 * c), sums.dtype)
    y = np.zeros((BLOCK, 2 * c), sums.dtype)
    m = np.zeros((BLOCK, c), sums.dtype)
    sums[:, parts[start] : parts[stop]] = 0
    last = row_start[parts[stop]]
    for first in range(row_start[parts[start]], last, HALF):
        n_rows = min(HALF, last - first)
        _gather(first, n_rows, a, ia, b, ib, d, id_, own, x)
        silu_duals(x, h)
        _second_layer(h, core, gate, bias, y)
        gate_duals(y, scale, shift, m)
        for i in range(n_rows):
            value, along = sums[0, owner[first + i]], sums[1, owner[first + i]]
            w, dw = weights[0, iw[first + i]], weights[1, iw[first + i]]
            for j in range(c):
                value[j] += m[i, j] * w[j]
                along[j] += m[HALF + i, j] * w[j] + m[i, j] * dw[j]


@numba.njit(fastmath=LOOSE, **INNER)
def _second_layer(h: Any, core: Any, gate: Any, bias: Any, y: Any) -> None:
    """Both second layers of a block; tangents have no bias."""
    c = y.shape[1] // 2
    y[:HALF] = bias
    y[HALF:] = 0
    block_product(h, 0, 0, core, y, 0, BLOCK)
    block_product(h, 0, c, gate, y, c, BLOCK)


@kernel(fastmath=LOOSE)
def messages_backward(
    start: int, stop: int, parts: Any, copies: Any, row_start: Any, owner: Any,
    a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any,
    core: Any, gate: Any, core_back: Any, gate_back: Any, bias: Any, scale: Any, shift: Any,
    weights: Any, iw: Any, sums_bar: Any,
    a_bar: Any, b_bar: Any, d_bar: Any, own_bar: Any, matrix_bar: Any, vector_bar: Any, weights_bar: Any,
) -> None:  # fmt: skip
    """The way back through :func:`messages`: from the gradient of the sums to that of every input.

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first owner of each part.
        copies: ``(n_parts,)`` which copy of the gathered inputs' gradients a part adds to.
        row_start: ``(n_owners + 1,)`` first row of each owner.
        owner: ``(n_rows,)`` whose each row is; ascending.
        a: ``(2, n_a, 2c)`` products of the first layer with the first gathered input; has the bias.
        ia: ``(n_rows,)`` which row of ``a`` each row reads.
        b: ``(2, n_b, 2c)`` products with the second gathered input.
        ib: ``(n_rows,)`` which row of ``b``.
        d: ``(2, n_d, 2c)`` products with the third gathered input.
        id_: ``(n_rows,)`` which row of ``d``.
        own: ``(2, n_rows, 2c)`` product with an input of the row itself; (2, 0, 2c) where there is none.
        core: Panels of the second layer of the core, centred over its outputs.
        gate: Panels of the second layer of the gate, centred over its outputs.
        core_back: Panels of the transposed second layer of the core.
        gate_back: Panels of the transposed second layer of the gate.
        bias: ``(2c,)`` of the second layers, core then gate.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        weights: ``(2, n_weights, c)`` that messages are multiplied with.
        iw: ``(n_rows,)`` which row of the weights.
        sums_bar: ``(2, n_owners, c)`` gradient of the sums.
        a_bar: ``(n_copies, 2, n_a, 2c)`` gradient of ``a``, added to.
        b_bar: ``(n_copies, 2, n_b, 2c)`` gradient of ``b``, added to.
        d_bar: ``(n_copies, 2, n_d, 2c)`` gradient of ``d``, added to.
        own_bar: ``(2, n_rows, 2c)`` gradient of ``own``, written.
        matrix_bar: ``(n_parts, 2, c + TILE_ROWS, c)`` gradients of core and gate, transposed: inputs first,
            in the first c rows; added to.
        vector_bar: ``(n_parts, 3, 2c)`` gradients of bias, scale and shift, added to.
        weights_bar: ``(n_copies, 2, n_weights, c)`` gradient of the weights, added to.
    """
    c = weights.shape[2]
    x = np.zeros((BLOCK, 2 * c), sums_bar.dtype)
    h = np.zeros((BLOCK, 2 * c + TILE_ROWS), sums_bar.dtype)
    y = np.zeros((BLOCK, 2 * c), sums_bar.dtype)
    y_bar = np.zeros((BLOCK, 2 * c), sums_bar.dtype)
    m = np.zeros((BLOCK, c), sums_bar.dtype)
    m_bar = np.zeros((BLOCK, c), sums_bar.dtype)
    for part in range(start, stop):
        copy = copies[part]
        last = row_start[parts[part + 1]]
        for first in range(row_start[parts[part]], last, HALF):
            n_rows = min(HALF, last - first)
            _gather(first, n_rows, a, ia, b, ib, d, id_, own, x)
            silu_duals(x, h)
            _second_layer(h, core, gate, bias, y)
            _weigh_backward(first, n_rows, owner, weights, iw, sums_bar, m_bar)
            gate_duals_backward(y, scale, shift, m_bar, m, y_bar, vector_bar[part, 1], vector_bar[part, 2])
            _weights_backward(first, n_rows, owner, iw, sums_bar, m, weights_bar[copy])
            _matrix_backward(h, y_bar, matrix_bar[part], vector_bar[part, 0])
            y[:] = 0
            block_product(y_bar, 0, 0, core_back, y, 0, BLOCK)
            block_product(y_bar, 0, c, gate_back, y, c, BLOCK)
            silu_duals_backward(x, y)
            _scatter(first, n_rows, y, a_bar[copy], ia, b_bar[copy], ib, d_bar[copy], id_, own_bar)


@numba.njit(fastmath=LOOSE, **INNER)
def _weigh_backward(
    first: int, n_rows: int, owner: Any, weights: Any, iw: Any, sums_bar: Any, m_bar: Any
) -> None:
    """Gradient of a block's messages from that of the sums."""
    for i in range(n_rows):
        value, along = sums_bar[0, owner[first + i]], sums_bar[1, owner[first + i]]
        w, dw = weights[0, iw[first + i]], weights[1, iw[first + i]]
        for j in range(m_bar.shape[1]):
            m_bar[i, j] = value[j] * w[j] + along[j] * dw[j]
            m_bar[HALF + i, j] = along[j] * w[j]
    m_bar[n_rows:HALF] = 0  # rows beyond the last give nothing back
    m_bar[HALF + n_rows :] = 0


@numba.njit(fastmath=LOOSE, **INNER)
def _weights_backward(
    first: int, n_rows: int, owner: Any, iw: Any, sums_bar: Any, m: Any, weights_bar: Any
) -> None:
    """Add to the gradient of the weights of a block's messages."""
    for i in range(n_rows):
        value, along = sums_bar[0, owner[first + i]], sums_bar[1, owner[first + i]]
        w, dw = weights_bar[0, iw[first + i]], weights_bar[1, iw[first + i]]
        for j in range(m.shape[1]):
            w[j] += value[j] * m[i, j] + along[j] * m[HALF + i, j]
            dw[j] += along[j] * m[i, j]


@numba.njit(fastmath=LOOSE, **INNER)
def _matrix_backward(h: Any, y_bar: Any, matrix_bar: Any, bias_bar: Any) -> None:
    """Add a block's share to the gradients of the second layers and their biases."""
    c = y_bar.shape[1] // 2
    for i in range(HALF):
        for j in range(2 * c):
            bias_bar[j] += y_bar[i, j]
    block_product_transposed(h, 0, y_bar, 0, c, matrix_bar[0])
    block_product_transposed(h, c, y_bar, c, c, matrix_bar[1])


@kernel(fastmath=LOOSE)
def gates(
    start: int, stop: int, parts: Any, row_start: Any,
    a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any, scale: Any, shift: Any, result: Any,
) -> None:  # fmt: skip
    """A gated MLP without a hidden layer for each row of parts ``start`` to ``stop``; first layer centred.

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first owner of each part.
        row_start: ``(n_owners + 1,)`` first row of each owner.
        a: ``(2, n_a, 2c)`` products of the first layer with the first gathered input; has the bias.
        ia: ``(n_rows,)`` which row of ``a`` each row reads.
        b: ``(2, n_b, 2c)`` products with the second gathered input.
        ib: ``(n_rows,)`` which row of ``b``.
        d: ``(2, n_d, 2c)`` products with the third gathered input.
        id_: ``(n_rows,)`` which row of ``d``.
        own: ``(2, n_rows, 2c)`` product with an input of the row itself; (2, 0, 2c) where there is none.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        result: ``(2, n_rows, c)`` values and tangents, written.
    """
    c = result.shape[2]
    y = np.zeros((BLOCK, 2 * c), result.dtype)
    m = np.zeros((BLOCK, c), result.dtype)
    last = row_start[parts[stop]]
    for first in range(row_start[parts[start]], last, HALF):
        n_rows = min(HALF, last - first)
        _gather(first, n_rows, a, ia, b, ib, d, id_, own, y)
        gate_duals(y, scale, shift, m)
        result[0, first : first + n_rows] = m[:n_rows]
        result[1, first : first + n_rows] = m[HALF : HALF + n_rows]


@kernel(fastmath=LOOSE)
def gates_backward(
    start: int, stop: int, parts: Any, copies: Any, row_start: Any,
    a: Any, ia: Any, b: Any, ib: Any, d: Any, id_: Any, own: Any, scale: Any, shift: Any, result_bar: Any,
    a_bar: Any, b_bar: Any, d_bar: Any, own_bar: Any, vector_bar: Any,
) -> None:  # fmt: skip
    """The way back through :func:`gates`: from the gradient of the result to that of every input.

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first owner of each part.
        copies: ``(n_parts,)`` which copy of the gathered inputs' gradients a part adds to.
        row_start: ``(n_owners + 1,)`` first row of each owner.
        a: ``(2, n_a, 2c)`` products of the first layer with the first gathered input; has the bias.
        ia: ``(n_rows,)`` which row of ``a`` each row reads.
        b: ``(2, n_b, 2c)`` products with the second gathered input.
        ib: ``(n_rows,)`` which row of ``b``.
        d: ``(2, n_d, 2c)`` products with the third gathered input.
        id_: ``(n_rows,)`` which row of ``d``.
        own: ``(2, n_rows, 2c)`` product with an input of the row itself; (2, 0, 2c) where there is none.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        result_bar: ``(2, n_rows, c)`` gradient of the result.
        a_bar: ``(n_copies, 2, n_a, 2c)`` gradient of ``a``, added to.
        b_bar: ``(n_copies, 2, n_b, 2c)`` gradient of ``b``, added to.
        d_bar: ``(n_copies, 2, n_d, 2c)`` gradient of ``d``, added to.
        own_bar: ``(2, n_rows, 2c)`` gradient of ``own``, written.
        vector_bar: ``(n_parts, 3, 2c)`` scale and shift have rows 1 and 2 of each part; added to.
    """
    c = result_bar.shape[2]
    y = np.zeros((BLOCK, 2 * c), result_bar.dtype)
    y_bar = np.zeros((BLOCK, 2 * c), result_bar.dtype)
    m = np.zeros((BLOCK, c), result_bar.dtype)
    m_bar = np.zeros((BLOCK, c), result_bar.dtype)
    for part in range(start, stop):
        copy = copies[part]
        last = row_start[parts[part + 1]]
        for first in range(row_start[parts[part]], last, HALF):
            n_rows = min(HALF, last - first)
            _gather(first, n_rows, a, ia, b, ib, d, id_, own, y)
            m_bar[:n_rows] = result_bar[0, first : first + n_rows]
            m_bar[HALF : HALF + n_rows] = result_bar[1, first : first + n_rows]
            m_bar[n_rows:HALF] = 0
            m_bar[HALF + n_rows :] = 0
            gate_duals_backward(y, scale, shift, m_bar, m, y_bar, vector_bar[part, 1], vector_bar[part, 2])
            _scatter(first, n_rows, y_bar, a_bar[copy], ia, b_bar[copy], ib, d_bar[copy], id_, own_bar)

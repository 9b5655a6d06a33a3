"""Updates of atoms from what their edges gave them, and the way back."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, block_product, block_product_onto
from atomml.potentials.dpa3.fast.bounded import slope, value

__all__ = ["activate", "atom_update", "atom_update_backward", "fitting_layer_backward"]


@numba.njit(fastmath=LOOSE, **INNER)
def _symmetrise(vectors: Any, i: int, e_dim: int, axis: int, scale: Any, result: Any, row: int) -> None:
    """Products of an atom's vectors with the first few of edges and of neighbours, each with its own kind."""
    width = vectors.shape[2]
    at = 0
    for low, high in ((0, e_dim), (e_dim, width)):
        x, y, z = vectors[i, 0, low:high], vectors[i, 1, low:high], vectors[i, 2, low:high]
        for few in range(axis):
            a, b, d = scale * x[few], scale * y[few], scale * z[few]
            target = result[row, at:]
            for c in range(high - low):
                target[c] = a * x[c] + b * y[c] + d * z[c]
            at += high - low


@kernel(fastmath=LOOSE)
def atom_update(
    start: int,
    stop: int,
    node: Any,
    projected: Any,
    column: int,
    messages: Any,
    vectors: Any,
    axis: int,
    scales: Any,
    panels: Any,
    bias: Any,
    act: Any,
    residuals: Any,
    pre: Any,
    new_node: Any,
) -> None:
    """New features of atoms ``start`` to ``stop``: from their own, their surroundings and their messages.

    Args:
        start: First atom.
        stop: Atom after the last.
        node: ``(n_atoms, n)``.
        projected: Whose columns from ``column`` on are the atoms' own affine map, with its bias.
        column: See there.
        messages: ``(n_atoms, n)`` sums over edges.
        vectors: ``(n_atoms, 3, e + n)`` sums over edges.
        axis: Columns that the vectors are multiplied with.
        scales: What products of vectors, and messages, are multiplied with.
        panels: ``axis (e + n)`` to ``n``.
        bias: ``(n,)``.
        act: Parameters of the non-linearity.
        residuals: ``(3, n)`` weights of the three updates.
        pre: ``(n_atoms, n)`` of the symmetrised ones, kept for the way back.
        new_node: ``(n_atoms, n)`` result.
    """
    n_dim = node.shape[1]
    e_dim = vectors.shape[2] - n_dim
    one, t, k, s, o = act.dtype.type(1), act[0], act[1], act[2], act[3]
    rows = np.zeros((BLOCK, axis * vectors.shape[2]), node.dtype)
    y = np.empty((BLOCK, n_dim), node.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for r in range(n_rows):
            _symmetrise(vectors, first + r, e_dim, axis, scales[0], rows, r)
        block_product_onto(rows, 0, 0, panels, bias, y, 0, 0, n_rows)
        for r in range(n_rows):
            i = first + r
            own = projected[i, column : column + n_dim]
            for c in range(n_dim):
                pre[i, c] = y[r, c]
                new_node[i, c] = (
                    node[i, c]
                    + residuals[0, c] * value(own[c], one, t, k, s, o)
                    + residuals[1, c] * value(y[r, c], one, t, k, s, o)
                    + residuals[2, c] * scales[1] * messages[i, c]
                )


@kernel(fastmath=LOOSE)
def atom_update_backward(
    start: int,
    stop: int,
    projected: Any,
    column: int,
    vectors: Any,
    axis: int,
    scales: Any,
    panels_back: Any,
    act: Any,
    residuals: Any,
    pre: Any,
    node_gradient: Any,
    projected_gradient: Any,
    message_gradient: Any,
    vector_gradient: Any,
) -> None:
    """The way back through :func:`atom_update`.

    ``node_gradient`` is of the new features, and as much is of the old ones by the residual connection. The
    atoms' columns of ``projected_gradient``, ``message_gradient`` (n_atoms, n) and ``vector_gradient``
    (n_atoms, 3, e + n) are written.
    """
    n_dim, width = node_gradient.shape[1], vectors.shape[2]
    e_dim = width - n_dim
    one, t, k, s = act.dtype.type(1), act[0], act[1], act[2]
    y = np.zeros((BLOCK, n_dim), pre.dtype)
    rows = np.empty((BLOCK, axis * width), pre.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for r in range(n_rows):
            i = first + r
            own, back = projected[i, column : column + n_dim], projected_gradient[i, column : column + n_dim]
            for c in range(n_dim):
                g = node_gradient[i, c]
                back[c] = g * residuals[0, c] * slope(own[c], one, t, k, s)
                y[r, c] = g * residuals[1, c] * slope(pre[i, c], one, t, k, s)
                message_gradient[i, c] = g * residuals[2, c] * scales[1]
        rows[:] = 0
        block_product(y, 0, 0, panels_back, rows, 0, n_rows)
        for r in range(n_rows):
            _symmetrise_backward(vectors, first + r, e_dim, axis, scales[0], rows, r, vector_gradient)


@numba.njit(fastmath=LOOSE, **INNER)
def _symmetrise_backward(
    vectors: Any, i: int, e_dim: int, axis: int, scale: Any, gradient: Any, row: int, result: Any
) -> None:
    """The way back through :func:`_symmetrise`."""
    width = vectors.shape[2]
    result[i] = 0
    at = 0
    for low, high in ((0, e_dim), (e_dim, width)):
        for few in range(axis):
            given = gradient[row, at:]
            for a in range(3):
                vector, back = vectors[i, a, low:high], result[i, a, low:high]
                factor, total = scale * vector[few], scale - scale
                for c in range(high - low):
                    back[c] += factor * given[c]
                    total += given[c] * vector[c]
                back[few] += scale * total
            at += high - low


@kernel(fastmath=LOOSE)
def activate(
    start: int, stop: int, pre: Any, old: Any, copies: int, n: int, step: Any, act: Any, result: Any
) -> None:
    """A layer of the fitting net: non-linearity, steps, ``copies`` of its input; 0 from column ``n`` on."""
    one, t, k, s, o = act.dtype.type(1), act[0], act[1], act[2], act[3]
    for i in range(start, stop):
        for c in range(n):
            result[i, c] = step[c] * value(pre[i, c], one, t, k, s, o)
        for c in range(n, result.shape[1]):
            result[i, c] = 0
        for c in range(n if copies else 0):
            result[i, c] += old[i, c % (n // copies)]


@kernel(fastmath=LOOSE)
def fitting_layer_backward(
    start: int,
    stop: int,
    pre: Any,
    copies: int,
    n: int,
    step: Any,
    act: Any,
    gradient: Any,
    old_gradient: Any,
) -> None:
    """The way back through :func:`activate`; ``gradient`` becomes that of ``pre``."""
    one, t, k, s = act.dtype.type(1), act[0], act[1], act[2]
    for i in range(start, stop):
        for c in range(old_gradient.shape[1]):
            old_gradient[i, c] = 0
        for c in range(n if copies else 0):
            old_gradient[i, c % (n // copies)] += gradient[i, c]
        for c in range(n):
            gradient[i, c] *= step[c] * slope(pre[i, c], one, t, k, s)

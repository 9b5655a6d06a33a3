"""Messages along edges with their tangents, and the way back to features and weights.

All of a layer happens on a block of edges in the cache; only sums and new features are written. The way back
starts from the features again, which costs less than to write and read every row of every map.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, TILE_ROWS
from atomml.potentials.dpa3.fast.bounded import value_and_bends_of_block
from atomml.potentials.dpa3.training.blocks import (
    HALF,
    activate_duals,
    activation_backward,
    add_matrix_gradient,
    clear_rest,
    load_rows,
    map_rows,
    store_rows,
)

__all__ = ["edge_duals", "edge_duals_backward"]


@numba.njit(fastmath=LOOSE, **INNER)
def _map_edges(
    first: int,
    n_rows: int,
    centre: Any,
    neighbour: Any,
    rows: Any,
    here: Any,
    there: Any,
    panels: Any,
    y: Any,
) -> None:
    """The affine maps of a block of edges and both their atoms."""
    for side in range(2):
        for r in range(n_rows):
            row = y[side * HALF + r]
            one, two = here[side, centre[first + r]], there[side, neighbour[first + r]]
            for c in range(y.shape[1]):
                row[c] = one[c] + two[c]
    map_rows(rows, panels, y, n_rows)


@numba.njit(fastmath=LOOSE, **INNER)
def _add_weighted(w: Any, dw: Any, value: Any, along: Any, total: Any, total_along: Any) -> None:
    """Add a row times a number, with tangents."""
    for c in range(len(value)):
        total[c] += w * value[c]
    for c in range(len(value)):
        total_along[c] += w * along[c] + dw * value[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _add_weighted_back(w: Any, dw: Any, total: Any, total_along: Any, value: Any, along: Any) -> None:
    """The way back through :func:`_add_weighted` to the row."""
    for c in range(len(value)):
        value[c] += w * total[c] + dw * total_along[c]
    for c in range(len(value)):
        along[c] += w * total_along[c]


@kernel(fastmath=LOOSE)
def edge_duals(
    start: int, stop: int, parts: Any, edge_start: Any, centre: Any, neighbour: Any, weight: Any,
    direction: Any, edge: Any, node: Any, here: Any, there: Any, panels: Any, act: Any, residual: Any,
    messages: Any, vectors: Any, new_edge: Any,
) -> None:  # fmt: skip
    """Messages to the atoms of parts ``start`` to ``stop``, their surroundings, their edges' own update.

    Every array of features is (values, tangents).

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first atom of each.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        centre: ``(n_edges,)``.
        neighbour: ``(n_edges,)``.
        weight: ``(2, n_edges)`` the switch.
        direction: ``(2, n_edges, 3)`` times the switch.
        edge: ``(2, n_edges, e)``.
        node: ``(2, n_atoms, n)``.
        here: ``(2, n_atoms, width)`` atoms' part of the maps as centre of an edge, with the bias; first the
            message's ``n`` columns, then, but in the last layer, the ``e`` of the edge's own update.
        there: ``(2, n_atoms, width)`` atoms' part as the other end.
        panels: Weights of the edge, ``e`` to ``width``.
        act: Parameters of the non-linearity.
        residual: ``(e,)`` weight of the edges' own update.
        messages: ``(2, n_atoms, n)`` result, zero before.
        vectors: ``(2, n_atoms, 3, e + n)`` result, zero before.
        new_edge: ``(2, n_edges, e)`` result; nothing in the last layer.
    """
    e_dim, n_dim, width = edge.shape[2], node.shape[2], here.shape[2]
    rows = np.zeros((BLOCK, e_dim), edge.dtype)
    y, slopes = np.zeros((BLOCK, width), edge.dtype), np.zeros((HALF, width), edge.dtype)
    last = edge_start[parts[stop]]
    for first in range(edge_start[parts[start]], last, HALF):
        n_rows = min(HALF, last - first)
        load_rows(edge, first, n_rows, rows)
        _map_edges(first, n_rows, centre, neighbour, rows, here, there, panels, y)
        activate_duals(y, slopes, n_rows, act)
        for r in range(n_rows):
            e = first + r
            i, j = centre[e], neighbour[e]
            m, dm = y[r, :n_dim], y[HALF + r, :n_dim]
            _add_weighted(weight[0, e], weight[1, e], m, dm, messages[0, i], messages[1, i])
            for a in range(3):
                d, turn = direction[0, e, a], direction[1, e, a]
                one, two = vectors[0, i, a], vectors[1, i, a]
                _add_weighted(d, turn, rows[r], rows[HALF + r], one[:e_dim], two[:e_dim])
                _add_weighted(d, turn, node[0, j], node[1, j], one[e_dim:], two[e_dim:])
        if width > n_dim:
            _update(first, n_rows, rows, y[:, n_dim:], residual, new_edge)


@numba.njit(fastmath=LOOSE, **INNER)
def _update(first: int, n_rows: int, rows: Any, values: Any, residual: Any, new: Any) -> None:
    """A block's new features: the old ones, and weighted updates."""
    for side in range(2):
        for r in range(n_rows):
            target, old, own = new[side, first + r], rows[side * HALF + r], values[side * HALF + r]
            for c in range(len(residual)):
                target[c] = old[c] + residual[c] * own[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _gradients_of_maps(
    first: int, n_rows: int, centre: Any, weight: Any, messages_bar: Any, new_edge_bar: Any, residual: Any,
    gradient: Any,
) -> None:  # fmt: skip
    """From the gradients of sums and new features to those of what the non-linearity gave."""
    n_dim = messages_bar.shape[2]
    for r in range(n_rows):
        e = first + r
        w, dw = weight[0, e], weight[1, e]
        one, two = messages_bar[0, centre[e]], messages_bar[1, centre[e]]
        value, along = gradient[r], gradient[HALF + r]
        for c in range(n_dim):
            value[c] = w * one[c] + dw * two[c]
        for c in range(n_dim):
            along[c] = w * two[c]
    if gradient.shape[1] > n_dim:
        for side in range(2):
            for r in range(n_rows):
                row, above = gradient[side * HALF + r, n_dim:], new_edge_bar[side, first + r]
                for c in range(len(residual)):
                    row[c] = residual[c] * above[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _gradient_of_residual(first: int, n_rows: int, y: Any, slopes: Any, above: Any, result: Any) -> None:
    """Add what the weights of a block's updates are given; tangents of ``y`` are before the activation."""
    for r in range(n_rows):
        value, along, slope = y[r], y[HALF + r], slopes[r]
        one, two = above[0, first + r], above[1, first + r]
        for c in range(len(result)):
            result[c] += one[c] * value[c] + two[c] * slope[c] * along[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _scatter(
    first: int, n_rows: int, centre: Any, neighbour: Any, gradient: Any, here_bar: Any, there_bar: Any
) -> None:
    """Add the gradients of a block's maps to those of its atoms' parts."""
    for side in range(2):
        for r in range(n_rows):
            row = gradient[side * HALF + r]
            one, two = here_bar[side, centre[first + r]], there_bar[side, neighbour[first + r]]
            for c in range(len(row)):
                one[c] += row[c]
            for c in range(len(row)):
                two[c] += row[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _gradients_of_inputs(
    first: int, n_rows: int, centre: Any, neighbour: Any, direction: Any, vectors_bar: Any, back: Any,
    node_bar: Any,
) -> None:  # fmt: skip
    """Add what a block's edges, and the atoms at their other ends, are given by the surroundings."""
    e_dim = back.shape[1]
    for r in range(n_rows):
        e = first + r
        i, j = centre[e], neighbour[e]
        for a in range(3):
            d, turn = direction[0, e, a], direction[1, e, a]
            one, two = vectors_bar[0, i, a], vectors_bar[1, i, a]
            _add_weighted_back(d, turn, one[:e_dim], two[:e_dim], back[r], back[HALF + r])
            _add_weighted_back(d, turn, one[e_dim:], two[e_dim:], node_bar[0, j], node_bar[1, j])


@kernel(fastmath=LOOSE)
def edge_duals_backward(
    start: int, stop: int, parts: Any, copies: Any, edge_start: Any, centre: Any, neighbour: Any, weight: Any,
    direction: Any, edge: Any, node: Any, here: Any, there: Any, panels: Any, act: Any, residual: Any,
    panels_back: Any, messages_bar: Any, vectors_bar: Any, new_edge_bar: Any,
    edge_bar: Any, node_bar: Any, here_bar: Any, there_bar: Any, matrix_bar: Any, residual_bar: Any,
) -> None:  # fmt: skip
    """The way back through :func:`edge_duals`, whose arguments come first, up to ``residual``.

    ``copies`` (n_parts,) says which copy of ``node_bar`` (n_copies, 2, n_atoms, n) and ``there_bar``
    (n_copies, 2, n_atoms, width) a part adds to; ``panels_back`` are the transposed weights, ``width``
    to ``e``. ``messages_bar``, ``vectors_bar`` and ``new_edge_bar``, gradients of the results, are
    read. ``edge_bar`` (2, n_edges, e) is written; ``here_bar`` (2, n_atoms, width), ``matrix_bar``
    (n_parts, e + TILE_ROWS, width) and ``residual_bar`` (n_parts, e) are added to.
    """
    e_dim, n_dim, width = edge.shape[2], node.shape[2], here.shape[2]
    rows = np.zeros((BLOCK, e_dim + TILE_ROWS), edge.dtype)
    y, gradient = np.zeros((BLOCK, width), edge.dtype), np.zeros((BLOCK, width), edge.dtype)
    slopes, curvatures = np.zeros((HALF, width), edge.dtype), np.zeros((HALF, width), edge.dtype)
    back = np.zeros((BLOCK, e_dim), edge.dtype)
    for part in range(start, stop):
        copy, last = copies[part], edge_start[parts[part + 1]]
        for first in range(edge_start[parts[part]], last, HALF):
            n_rows = min(HALF, last - first)
            load_rows(edge, first, n_rows, rows)
            _map_edges(first, n_rows, centre, neighbour, rows, here, there, panels, y)
            value_and_bends_of_block(y, slopes, curvatures, n_rows, act)
            _gradients_of_maps(first, n_rows, centre, weight, messages_bar, new_edge_bar, residual, gradient)
            if width > n_dim:
                _gradient_of_residual(
                    first, n_rows, y[:, n_dim:], slopes[:, n_dim:], new_edge_bar, residual_bar[part]
                )
            activation_backward(y, slopes, curvatures, n_rows, gradient)
            clear_rest(gradient, n_rows)
            add_matrix_gradient(rows, gradient, panels, matrix_bar[part])
            _scatter(first, n_rows, centre, neighbour, gradient, here_bar, there_bar[copy])
            back[:] = 0
            if width > n_dim:
                load_rows(new_edge_bar, first, n_rows, back)
            map_rows(gradient, panels_back, back, n_rows)
            _gradients_of_inputs(
                first, n_rows, centre, neighbour, direction, vectors_bar, back, node_bar[copy]
            )
            store_rows(back, edge_bar, first, n_rows)

"""Messages of angles, and the way back. All ordered pairs of an atom's bonds are a square of rows."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, TILE_ROWS, block_product, block_product_onto
from atomml.kernels.rows import add_row, copy_rows
from atomml.potentials.dpa3.fast.bounded import slope, value_and_slope_of_block, value_of_block

__all__ = ["angle_messages", "angle_messages_backward"]


@numba.njit(fastmath=LOOSE, **INNER)
def _map_bonds(
    first: int,
    n: int,
    bonds: Any,
    edge: Any,
    panels: Any,
    bias: Any,
    projected: Any,
    i: int,
    column: int,
    rows: Any,
    mapped: Any,
) -> None:
    """What ``n`` bonds of an atom are as the first (the atom's part included) and the second of an angle."""
    width = mapped.shape[1] // 2
    for b in range(n):
        copy_rows(edge, bonds[first + b], rows, b, 1)
    block_product_onto(rows, 0, 0, panels, bias, mapped, 0, 0, n)
    atom = projected[i, column : column + width]
    for b in range(n):
        row = mapped[b]
        for c in range(width):
            row[c] += atom[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _map_angles(
    first: int,
    place: int,
    n: int,
    n_rows: int,
    angle: Any,
    cosine: Any,
    is_first: bool,
    panels: Any,
    folded: Any,
    none: Any,
    mapped: Any,
    y: Any,
) -> None:
    """The affine maps of a block of angles; ``place`` is that of the first among its atom's."""
    width = y.shape[1]
    if not is_first:
        block_product_onto(angle, first, 0, panels, none, y, 0, 0, n_rows)
    j, k = place // n, place % n
    for r in range(n_rows):
        row, one, two = y[r], mapped[j, :width], mapped[k, width:]
        if is_first:
            cos = cosine[first + r]
            for c in range(width):
                row[c] = cos * folded[c] + one[c] + two[c]
        else:
            for c in range(width):
                row[c] += one[c] + two[c]
        k += 1
        if k == n:
            j, k = j + 1, 0


@numba.njit(fastmath=LOOSE, **INNER)
def _sum_messages(place: int, n: int, n_rows: int, y: Any, angle_weight: Any, totals: Any) -> None:
    """Add a block's messages, weighted by the second bond's switch, to those of the first bonds."""
    j, k = place // n, place % n
    for r in range(n_rows):
        row, total, w = y[r], totals[j], angle_weight[k]
        for c in range(totals.shape[1]):
            total[c] += w * row[c]
        k += 1
        if k == n:
            j, k = j + 1, 0


@numba.njit(fastmath=LOOSE, **INNER)
def _update_angles(
    first: int,
    n_rows: int,
    values: Any,
    angle: Any,
    cosine: Any,
    is_first: bool,
    embedding: Any,
    residual: Any,
    new_angle: Any,
) -> None:
    """A block's new angles."""
    for r in range(n_rows):
        row, new = values[r], new_angle[first + r]
        if is_first:
            cos = cosine[first + r]
            for c in range(len(residual)):
                new[c] = cos * embedding[c] + residual[c] * row[c]
        else:
            old = angle[first + r]
            for c in range(len(residual)):
                new[c] = old[c] + residual[c] * row[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _scale_rows(n: int, scale: Any, angle_weight: Any, totals: Any) -> None:
    """Weight sums by the first bond's switch."""
    for j in range(n):
        factor, total = scale * angle_weight[j], totals[j]
        for c in range(totals.shape[1]):
            total[c] *= factor


@numba.njit(fastmath=LOOSE, **INNER)
def _add_to_edges(n: int, base: int, bonds: Any, edge_residual: Any, out: Any, new_edge: Any) -> None:
    """Add what an atom's bonds were sent, weighted, to their edges."""
    for j in range(n):
        row, new = out[j], new_edge[bonds[base + j]]
        for c in range(out.shape[1]):
            new[c] += edge_residual[c] * row[c]


@kernel(fastmath=LOOSE)
def angle_messages(
    start: int,
    stop: int,
    bond_start: Any,
    angle_start: Any,
    bonds: Any,
    most: int,
    angle_weight: Any,
    edge: Any,
    angle: Any,
    cosine: Any,
    is_first: bool,
    projected: Any,
    column: int,
    bond_panels: Any,
    none: Any,
    panels: Any,
    folded: Any,
    embedding: Any,
    act: Any,
    residual: Any,
    scale: Any,
    out_panels: Any,
    out_bias: Any,
    edge_residual: Any,
    pre_out: Any,
    new_edge: Any,
    new_angle: Any,
) -> None:
    """Messages of the angles at atoms ``start`` to ``stop`` to their bonds, and the angles' own update.

    What comes in, and what goes out:
        start, stop: First atom, and that after the last.
        bond_start, angle_start: ``(n_atoms + 1,)`` first bond and first angle of each atom.
        bonds: ``(n_bonds,)`` edge of each bond.
        most: Bonds of the atom that has most.
        angle_weight: ``(n_bonds,)`` switch.
        edge: ``(n_edges + spare, e)``.
        angle: ``(n_angles + spare, a)``; not read in the first layer.
        cosine, is_first: ``(n_angles,)`` what the first layer reads, and whether this is it.
        projected: As of :func:`~atomml.potentials.dpa3.fast.edges.edge_messages`.
        column: Where the angles' part starts in it, ``e + a`` columns with the bias.
        bond_panels: Weights of a bond as the first, then as the second: to ``2 (e + a)`` columns.
        none: As many zeros.
        panels: Weights of the angle, ``a`` to ``e + a``; to ``e`` where nobody reads the new angles.
        folded: ``(e + a,)`` the same times the embedding of the cosine.
        embedding, residual: ``(a,)`` of the cosine, and weight of the angles' own update.
        act: Parameters of the non-linearity.
        scale: One over what sums over angles are divided by.
        out_panels, out_bias, edge_residual: Second layer of the message, ``e`` to ``e``, and its weight.
        pre_out: ``(n_bonds, e)`` kept for the way back.
        new_edge: ``(n_edges + spare, e)``, added to.
        new_angle: ``(n_angles + spare, a)``, result.
    """
    e_dim, width = edge.shape[1], panels.shape[0] * panels.shape[2]
    spare = most + TILE_ROWS
    rows, mapped = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, 2 * width), edge.dtype)
    totals, out = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, e_dim), edge.dtype)
    y = np.empty((BLOCK, width), edge.dtype)
    for i in range(start, stop):
        base, n = bond_start[i], bond_start[i + 1] - bond_start[i]
        if n == 0:
            continue
        _map_bonds(base, n, bonds, edge, bond_panels, none, projected, i, column, rows, mapped)
        totals[:n] = 0
        for first in range(angle_start[i], angle_start[i + 1], BLOCK):
            n_rows = min(BLOCK, angle_start[i + 1] - first)
            place = first - angle_start[i]
            _map_angles(first, place, n, n_rows, angle, cosine, is_first, panels, folded, none, mapped, y)
            value_of_block(y, n_rows, act)
            _sum_messages(place, n, n_rows, y, angle_weight[base:], totals)
            if width > e_dim:
                _update_angles(
                    first, n_rows, y[:, e_dim:], angle, cosine, is_first, embedding, residual, new_angle
                )
        _scale_rows(n, scale[0], angle_weight[base:], totals)
        block_product_onto(totals, 0, 0, out_panels, out_bias, out, 0, 0, n)
        copy_rows(out, 0, pre_out, base, n)
        value_of_block(out, n, act)
        _add_to_edges(n, base, bonds, edge_residual, out, new_edge)


@numba.njit(fastmath=LOOSE, **INNER)
def _from_edges(
    n: int,
    base: int,
    bonds: Any,
    act: Any,
    edge_residual: Any,
    pre_out: Any,
    edge_gradient: Any,
    result: Any,
) -> None:
    """From the gradients of an atom's new edges to those of the message's second layer."""
    one, t, q, s = act.dtype.type(1), act[0], act[1], act[2]
    for j in range(n):
        row, kept, gradient = result[j], pre_out[base + j], edge_gradient[bonds[base + j]]
        for c in range(result.shape[1]):
            row[c] = gradient[c] * edge_residual[c] * slope(kept[c], one, t, q, s)


@numba.njit(fastmath=LOOSE, **INNER)
def _messages_backward(
    place: int,
    n: int,
    n_rows: int,
    y: Any,
    slopes: Any,
    totals: Any,
    scale: Any,
    angle_weight: Any,
    angle_weight_gradient: Any,
) -> None:
    """From the gradients of sums, ``totals``, to those of maps, in place of their values, and of switches."""
    j, k = place // n, place % n
    for r in range(n_rows):
        row, total, bend = y[r], totals[j], slopes[r]
        along, w, v = scale - scale, scale * angle_weight[j], angle_weight[k]
        both = w * v
        for c in range(totals.shape[1]):
            along += total[c] * row[c]
            row[c] = total[c] * both * bend[c]
        angle_weight_gradient[j] += scale * v * along
        angle_weight_gradient[k] += w * along
        k += 1
        if k == n:
            j, k = j + 1, 0


@numba.njit(fastmath=LOOSE, **INNER)
def _updates_backward(
    first: int, n_rows: int, values: Any, slopes: Any, angle_gradient: Any, residual: Any
) -> None:
    """From the gradients of new angles to those of a block's maps, in place of its values."""
    for r in range(n_rows):
        row, gradient, bend = values[r], angle_gradient[first + r], slopes[r]
        for c in range(len(residual)):
            row[c] = gradient[c] * residual[c] * bend[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _gather_bonds(place: int, n: int, n_rows: int, y: Any, gathered: Any) -> None:
    """Add a block's gradients to those of its first and second bonds."""
    width = y.shape[1]
    j, k = place // n, place % n
    for r in range(n_rows):
        row, one_way, other_way = y[r], gathered[j, :width], gathered[k, width:]
        for c in range(width):
            one_way[c] += row[c]
            other_way[c] += row[c]
        k += 1
        if k == n:
            j, k = j + 1, 0


@numba.njit(fastmath=LOOSE, **INNER)
def _to_cosines(
    first: int, n_rows: int, y: Any, angle_gradient: Any, folded: Any, embedding: Any, cosine_gradient: Any
) -> None:
    """Gradients of a block's cosines, which the first layer reads and its residual connection keeps."""
    for r in range(n_rows):
        row, gradient, along = y[r], angle_gradient[first + r], folded[0] - folded[0]
        for c in range(y.shape[1]):
            along += row[c] * folded[c]
        for c in range(len(embedding)):
            along += gradient[c] * embedding[c]
        cosine_gradient[first + r] = along


@kernel(fastmath=LOOSE)
def angle_messages_backward(
    start: int,
    stop: int,
    bond_start: Any,
    angle_start: Any,
    bonds: Any,
    most: int,
    angle_weight: Any,
    edge: Any,
    angle: Any,
    cosine: Any,
    is_first: bool,
    projected: Any,
    column: int,
    bond_panels: Any,
    none: Any,
    panels: Any,
    folded: Any,
    embedding: Any,
    act: Any,
    residual: Any,
    scale: Any,
    out_back: Any,
    edge_residual: Any,
    pre_out: Any,
    panels_back: Any,
    bond_back: Any,
    edge_gradient: Any,
    angle_gradient: Any,
    bond_gradient: Any,
    projected_gradient: Any,
    angle_weight_gradient: Any,
    cosine_gradient: Any,
) -> None:
    """The way back through :func:`angle_messages`.

    ``edge_gradient`` (of the new edges) is read; ``angle_gradient`` comes in for the new angles and leaves
    for the old ones (in the first layer ``cosine_gradient`` is written instead); ``bond_gradient`` (n_bonds,
    e) is written; the angles' columns of ``projected_gradient``, and ``angle_weight_gradient``, are added to.
    """
    e_dim, width = edge.shape[1], panels.shape[0] * panels.shape[2]
    spare = most + TILE_ROWS
    rows, mapped = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, 2 * width), edge.dtype)
    out, totals = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, e_dim), edge.dtype)
    gathered = np.zeros((spare, 2 * width), edge.dtype)
    y, slopes = np.empty((BLOCK, width), edge.dtype), np.empty((BLOCK, width), edge.dtype)
    back = np.empty((BLOCK, angle_gradient.shape[1]), edge.dtype)
    for i in range(start, stop):
        base, n = bond_start[i], bond_start[i + 1] - bond_start[i]
        if n == 0:
            continue
        _map_bonds(base, n, bonds, edge, bond_panels, none, projected, i, column, rows, mapped)
        _from_edges(n, base, bonds, act, edge_residual, pre_out, edge_gradient, out)
        totals[:n] = 0
        block_product(out, 0, 0, out_back, totals, 0, n)
        gathered[:n] = 0
        for first in range(angle_start[i], angle_start[i + 1], BLOCK):
            n_rows = min(BLOCK, angle_start[i + 1] - first)
            place = first - angle_start[i]
            _map_angles(first, place, n, n_rows, angle, cosine, is_first, panels, folded, none, mapped, y)
            value_and_slope_of_block(y, slopes, n_rows, act)
            weight, weight_gradient = angle_weight[base:], angle_weight_gradient[base:]
            _messages_backward(place, n, n_rows, y, slopes, totals, scale[0], weight, weight_gradient)
            if width > e_dim:
                _updates_backward(first, n_rows, y[:, e_dim:], slopes[:, e_dim:], angle_gradient, residual)
            _gather_bonds(place, n, n_rows, y, gathered)
            if is_first:
                _to_cosines(first, n_rows, y, angle_gradient, folded, embedding, cosine_gradient)
            else:
                copy_rows(angle_gradient, first, back, 0, n_rows)
                block_product(y, 0, 0, panels_back, back, 0, n_rows)
                copy_rows(back, 0, angle_gradient, first, n_rows)
        for j in range(n):
            add_row(projected_gradient[:, column : column + width], i, gathered[j, :width])
        rows[:n] = 0
        block_product(gathered, 0, 0, bond_back, rows, 0, n)
        copy_rows(rows, 0, bond_gradient, base, n)

"""Messages of angles, and the way back. All ordered pairs of an atom's bonds are a square of rows."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, TILE_ROWS, block_product, block_product_onto
from atomml.kernels.rows import copy_rows
from atomml.potentials.dpa3.fast.bounded import slope, value, value_and_slope_of_block, value_of_block

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

    Args:
        start: First atom.
        stop: Atom after the last.
        bond_start: ``(n_atoms + 1,)`` first bond of each atom.
        angle_start: ``(n_atoms + 1,)`` first angle.
        bonds: ``(n_bonds,)`` edge of each bond.
        most: Bonds of the atom that has most.
        angle_weight: ``(n_bonds,)`` switch.
        edge: ``(n_edges + spare, e)``.
        angle: ``(n_angles + spare, a)``; not read in the first layer.
        cosine: ``(n_angles,)`` what the first layer reads.
        is_first: Whether this is the first layer.
        projected: As of :func:`~atomml.potentials.dpa3.fast.edges.edge_messages`.
        column: Where the angles' part starts in it, ``e + a`` columns with the bias.
        bond_panels: Weights of a bond as the first, then as the second: to ``2 (e + a)`` columns.
        none: As many zeros.
        panels: Weights of the angle, ``a`` to ``e + a``; to ``e`` where nobody reads the new angles.
        folded: ``(e + a,)`` the same times the embedding of the cosine.
        embedding: ``(a,)`` of the cosine.
        act: Parameters of the non-linearity.
        residual: ``(a,)`` weight of the angles' own update.
        scale: One over what sums over angles are divided by.
        out_panels: Second layer of the message, ``e`` to ``e``.
        out_bias: ``(e,)``.
        edge_residual: ``(e,)`` weight of the message.
        pre_out: ``(n_bonds, e)`` kept for the way back.
        new_edge: ``(n_edges + spare, e)``, added to.
        new_angle: ``(n_angles + spare, a)``, result.
    """
    e_dim, width = edge.shape[1], panels.shape[0] * panels.shape[2]
    a_dim = width - e_dim
    one, t, q, s, o = act.dtype.type(1), act[0], act[1], act[2], act[3]
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
            j, k = place // n, place % n
            for r in range(n_rows):
                row, total, w = y[r], totals[j], angle_weight[base + k]
                for c in range(e_dim):
                    total[c] += w * row[c]
                row, new = y[r, e_dim:], new_angle[first + r]
                if is_first:
                    cos = cosine[first + r]
                    for c in range(a_dim):
                        new[c] = cos * embedding[c] + residual[c] * row[c]
                else:
                    old = angle[first + r]
                    for c in range(a_dim):
                        new[c] = old[c] + residual[c] * row[c]
                k += 1
                if k == n:
                    j, k = j + 1, 0
        for j in range(n):
            factor, total = scale[0] * angle_weight[base + j], totals[j]
            for c in range(e_dim):
                total[c] *= factor
        block_product_onto(totals, 0, 0, out_panels, out_bias, out, 0, 0, n)
        for j in range(n):
            row, new, kept = out[j], new_edge[bonds[base + j]], pre_out[base + j]
            for c in range(e_dim):
                kept[c] = row[c]
                new[c] += edge_residual[c] * value(row[c], one, t, q, s, o)


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
    a_dim = width - e_dim
    one, t, q, s = act.dtype.type(1), act[0], act[1], act[2]
    zero = one - one
    spare = most + TILE_ROWS
    rows, mapped = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, 2 * width), edge.dtype)
    out, totals = np.zeros((spare, e_dim), edge.dtype), np.empty((spare, e_dim), edge.dtype)
    gathered = np.zeros((spare, 2 * width), edge.dtype)
    y, slopes = np.empty((BLOCK, width), edge.dtype), np.empty((BLOCK, width), edge.dtype)
    back = np.empty((BLOCK, angle_gradient.shape[1]), edge.dtype)
    for i in range(start, stop):
        base, n = bond_start[i], bond_start[i + 1] - bond_start[i]
        at_atom = projected_gradient[i, column : column + width]
        if n == 0:
            continue
        _map_bonds(base, n, bonds, edge, bond_panels, none, projected, i, column, rows, mapped)
        for j in range(n):
            row, kept, gradient = out[j], pre_out[base + j], edge_gradient[bonds[base + j]]
            for c in range(e_dim):
                row[c] = gradient[c] * edge_residual[c] * slope(kept[c], one, t, q, s)
        totals[:n] = 0
        block_product(out, 0, 0, out_back, totals, 0, n)
        gathered[:n] = 0
        for first in range(angle_start[i], angle_start[i + 1], BLOCK):
            n_rows = min(BLOCK, angle_start[i + 1] - first)
            place = first - angle_start[i]
            _map_angles(first, place, n, n_rows, angle, cosine, is_first, panels, folded, none, mapped, y)
            value_and_slope_of_block(y, slopes, n_rows, act)
            j, k = place // n, place % n
            for r in range(n_rows):
                row, total, bend = y[r], totals[j], slopes[r]
                along, w, v = zero, scale[0] * angle_weight[base + j], angle_weight[base + k]
                both = w * v
                for c in range(e_dim):
                    along += total[c] * row[c]
                    row[c] = total[c] * both * bend[c]
                angle_weight_gradient[base + j] += scale[0] * v * along
                angle_weight_gradient[base + k] += w * along
                row, gradient, bend = y[r, e_dim:], angle_gradient[first + r], slopes[r, e_dim:]
                for c in range(a_dim):
                    row[c] = gradient[c] * residual[c] * bend[c]
                row, one_way, other_way = y[r], gathered[j, :width], gathered[k, width:]
                for c in range(width):
                    one_way[c] += row[c]
                    other_way[c] += row[c]
                k += 1
                if k == n:
                    j, k = j + 1, 0
            if is_first:
                for r in range(n_rows):
                    row, gradient, along = y[r], angle_gradient[first + r], zero
                    for c in range(width):
                        along += row[c] * folded[c]
                    for c in range(len(embedding)):
                        along += gradient[c] * embedding[c]
                    cosine_gradient[first + r] = along
            else:
                copy_rows(angle_gradient, first, back, 0, n_rows)
                block_product(y, 0, 0, panels_back, back, 0, n_rows)
                copy_rows(back, 0, angle_gradient, first, n_rows)
        for j in range(n):
            row = gathered[j, :width]
            for c in range(width):
                at_atom[c] += row[c]
        rows[:n] = 0
        block_product(gathered, 0, 0, bond_back, rows, 0, n)
        copy_rows(rows, 0, bond_gradient, base, n)

"""Messages of angles with their tangents, and the way back to features and weights.

All ordered pairs of an atom's bonds are a square of rows, in the order of
:mod:`~atomml.potentials.dpa3.fast.angles`.
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

__all__ = ["angle_duals", "angle_duals_backward", "cosine_duals"]


@kernel
def cosine_duals(
    start: int, stop: int, bond_start: Any, angle_start: Any, unit: Any, turn: Any, scale: float, cosine: Any
) -> None:  # fmt: skip
    """Cosines ``(2, n_angles, 1)`` at atoms ``start`` to ``stop`` from directions and their tangents."""
    for i in range(start, stop):
        low, high = bond_start[i], bond_start[i + 1]
        at = angle_start[i]
        for j in range(low, high):
            for k in range(low, high):
                dot, along = 0.0, 0.0
                for a in range(3):
                    dot += unit[j, a] * unit[k, a]
                    along += turn[j, a] * unit[k, a] + unit[j, a] * turn[k, a]
                cosine[0, at, 0] = scale * dot
                cosine[1, at, 0] = scale * along
                at += 1


@numba.njit(fastmath=LOOSE, **INNER)
def _map_angles(
    base: int, place: int, n: int, n_rows: int, rows: Any, one: Any, two: Any, panels: Any, y: Any
) -> None:
    """The affine maps of a block of angles and their bonds; ``place`` is its first among its atom's."""
    for side in range(2):
        j, k = place // n, place % n
        for r in range(n_rows):
            row, left, right = y[side * HALF + r], one[side, base + j], two[side, base + k]
            for c in range(y.shape[1]):
                row[c] = left[c] + right[c]
            k += 1
            if k == n:
                j, k = j + 1, 0
    map_rows(rows, panels, y, n_rows)


@numba.njit(fastmath=LOOSE, **INNER)
def _sum_messages(base: int, place: int, n: int, n_rows: int, y: Any, weight: Any, sums: Any) -> None:
    """Add a block's messages, weighted by the second bond's switch, to those of the first bonds."""
    j, k = place // n, place % n
    for r in range(n_rows):
        w, dw = weight[0, base + k], weight[1, base + k]
        value, along = y[r], y[HALF + r]
        total, total_along = sums[0, base + j], sums[1, base + j]
        for c in range(sums.shape[2]):
            total[c] += w * value[c]
        for c in range(sums.shape[2]):
            total_along[c] += w * along[c] + dw * value[c]
        k += 1
        if k == n:
            j, k = j + 1, 0


@numba.njit(fastmath=LOOSE, **INNER)
def _update(
    first: int, n_rows: int, rows: Any, is_first: bool, embedding: Any, values: Any, residual: Any, new: Any
) -> None:
    """A block's new features: the old ones, in the first layer embedded cosines, and weighted updates."""
    for side in range(2):
        for r in range(n_rows):
            target, old, own = new[side, first + r], rows[side * HALF + r], values[side * HALF + r]
            if is_first:
                for c in range(len(residual)):
                    target[c] = old[0] * embedding[c] + residual[c] * own[c]
            else:
                for c in range(len(residual)):
                    target[c] = old[c] + residual[c] * own[c]


@kernel(fastmath=LOOSE)
def angle_duals(
    start: int, stop: int, parts: Any, bond_start: Any, angle_start: Any, weight: Any, angle: Any,
    is_first: bool, one: Any, two: Any, panels: Any, embedding: Any, act: Any, residual: Any,
    sums: Any, new_angle: Any,
) -> None:  # fmt: skip
    """Messages of the angles at the atoms of parts ``start`` to ``stop``, and the angles' own update.

    Every array of features is (values, tangents).

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first atom of each.
        bond_start: ``(n_atoms + 1,)`` first bond of each atom.
        angle_start: ``(n_atoms + 1,)`` first angle of each atom.
        weight: ``(2, n_bonds)`` switch of each bond.
        angle: ``(2, n_angles, a)``; in the first layer cosines, ``(2, n_angles, 1)``.
        is_first: Whether this is the first layer.
        one: ``(2, n_bonds, width)`` part of a bond, and of its atom, as the first of an angle, with the bias;
            the message's ``e`` columns, then, unless nobody reads it, the ``a`` of the angle's own update.
        two: ``(2, n_bonds, width)`` part of a bond as the second of an angle.
        panels: Weights of the angle, to ``width``.
        embedding: ``(a,)`` of the cosine.
        act: Parameters of the non-linearity.
        residual: ``(a,)`` weight of the angles' own update.
        sums: ``(2, n_bonds, e)`` result, zero before.
        new_angle: ``(2, n_angles, a)`` result; nothing where nobody reads it.
    """
    depth, e_dim, width = angle.shape[2], sums.shape[2], one.shape[2]
    rows = np.zeros((BLOCK, depth), angle.dtype)
    y, slopes = np.zeros((BLOCK, width), angle.dtype), np.zeros((HALF, width), angle.dtype)
    for i in range(parts[start], parts[stop]):
        base, n = bond_start[i], bond_start[i + 1] - bond_start[i]
        for first in range(angle_start[i], angle_start[i + 1], HALF):
            n_rows, place = min(HALF, angle_start[i + 1] - first), first - angle_start[i]
            load_rows(angle, first, n_rows, rows)
            _map_angles(base, place, n, n_rows, rows, one, two, panels, y)
            activate_duals(y, slopes, n_rows, act)
            _sum_messages(base, place, n, n_rows, y, weight, sums)
            if width > e_dim:
                _update(first, n_rows, rows, is_first, embedding, y[:, e_dim:], residual, new_angle)


@numba.njit(fastmath=LOOSE, **INNER)
def _gradients_of_maps(
    base: int, first: int, place: int, n: int, n_rows: int, weight: Any, sums_bar: Any, new_angle_bar: Any,
    residual: Any, gradient: Any,
) -> None:  # fmt: skip
    """From the gradients of sums and new features to those of what the non-linearity gave."""
    e_dim = sums_bar.shape[2]
    j, k = place // n, place % n
    for r in range(n_rows):
        w, dw = weight[0, base + k], weight[1, base + k]
        value, along = gradient[r], gradient[HALF + r]
        total, total_along = sums_bar[0, base + j], sums_bar[1, base + j]
        for c in range(e_dim):
            value[c] = w * total[c] + dw * total_along[c]
        for c in range(e_dim):
            along[c] = w * total_along[c]
        k += 1
        if k == n:
            j, k = j + 1, 0
    if gradient.shape[1] > e_dim:
        for side in range(2):
            for r in range(n_rows):
                row, above = gradient[side * HALF + r, e_dim:], new_angle_bar[side, first + r]
                for c in range(len(residual)):
                    row[c] = residual[c] * above[c]


@numba.njit(fastmath=LOOSE, **INNER)
def _gradients_of_update(
    first: int, n_rows: int, rows: Any, y: Any, slopes: Any, above: Any, residual_bar: Any, embedding_bar: Any
) -> None:
    """Add what the weights of a block's updates, and the cosine's embedding, are given.

    The tangents of ``y`` are before the activation; the embedding's gradient counts in the first layer alone.
    """
    for r in range(n_rows):
        value, along, slope = y[r], y[HALF + r], slopes[r]
        one, two = above[0, first + r], above[1, first + r]
        for c in range(len(residual_bar)):
            residual_bar[c] += one[c] * value[c] + two[c] * slope[c] * along[c]
        cosine, turn = rows[r, 0], rows[HALF + r, 0]
        for c in range(len(embedding_bar)):
            embedding_bar[c] += one[c] * cosine + two[c] * turn


@numba.njit(fastmath=LOOSE, **INNER)
def _gather_bonds(
    base: int, place: int, n: int, n_rows: int, gradient: Any, one_bar: Any, two_bar: Any
) -> None:
    """Add the gradients of a block's maps to those of their bonds' parts."""
    for side in range(2):
        j, k = place // n, place % n
        for r in range(n_rows):
            row, left, right = gradient[side * HALF + r], one_bar[side, base + j], two_bar[side, base + k]
            for c in range(len(row)):
                left[c] += row[c]
            for c in range(len(row)):
                right[c] += row[c]
            k += 1
            if k == n:
                j, k = j + 1, 0


@kernel(fastmath=LOOSE)
def angle_duals_backward(
    start: int, stop: int, parts: Any, bond_start: Any, angle_start: Any, weight: Any, angle: Any,
    is_first: bool, one: Any, two: Any, panels: Any, embedding: Any, act: Any, residual: Any,
    panels_back: Any, sums_bar: Any, new_angle_bar: Any, angle_bar: Any, one_bar: Any, two_bar: Any,
    matrix_bar: Any, residual_bar: Any, embedding_bar: Any,
) -> None:  # fmt: skip
    """The way back through :func:`angle_duals`, whose arguments come first, up to ``residual``.

    ``panels_back`` are the transposed weights, ``width`` to ``a``. ``sums_bar`` and ``new_angle_bar``,
    gradients of the results, are read. ``angle_bar`` (2, n_angles, a) is written, but not in the first
    layer, behind whose cosines no weight is. ``one_bar`` and ``two_bar`` (2, n_bonds, width),
    ``matrix_bar`` (n_parts, a + TILE_ROWS, width), ``residual_bar`` (n_parts, a), and ``embedding_bar``
    (n_parts, a), which counts in the first layer, are added to.
    """
    depth, e_dim, width = angle.shape[2], sums_bar.shape[2], one.shape[2]
    rows = np.zeros((BLOCK, depth + TILE_ROWS), angle.dtype)
    y, gradient = np.zeros((BLOCK, width), angle.dtype), np.zeros((BLOCK, width), angle.dtype)
    slopes, curvatures = np.zeros((HALF, width), angle.dtype), np.zeros((HALF, width), angle.dtype)
    back = np.zeros((BLOCK, panels_back.shape[0] * panels_back.shape[2]), angle.dtype)
    for part in range(start, stop):
        for i in range(parts[part], parts[part + 1]):
            base, n = bond_start[i], bond_start[i + 1] - bond_start[i]
            for first in range(angle_start[i], angle_start[i + 1], HALF):
                n_rows, place = min(HALF, angle_start[i + 1] - first), first - angle_start[i]
                load_rows(angle, first, n_rows, rows)
                _map_angles(base, place, n, n_rows, rows, one, two, panels, y)
                value_and_bends_of_block(y, slopes, curvatures, n_rows, act)
                _gradients_of_maps(
                    base, first, place, n, n_rows, weight, sums_bar, new_angle_bar, residual, gradient
                )
                if width > e_dim:
                    _gradients_of_update(
                        first, n_rows, rows, y[:, e_dim:], slopes[:, e_dim:], new_angle_bar,
                        residual_bar[part], embedding_bar[part],
                    )  # fmt: skip
                activation_backward(y, slopes, curvatures, n_rows, gradient)
                clear_rest(gradient, n_rows)
                add_matrix_gradient(rows, gradient, panels, matrix_bar[part])
                _gather_bonds(base, place, n, n_rows, gradient, one_bar, two_bar)
                if is_first:
                    continue
                back[:] = 0
                if width > e_dim:
                    load_rows(new_angle_bar, first, n_rows, back)
                map_rows(gradient, panels_back, back, n_rows)
                store_rows(back, angle_bar, first, n_rows)

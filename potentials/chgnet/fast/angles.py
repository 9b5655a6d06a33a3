"""Bond convolutions and angle updates: one fused pass over the angles at each atom, and the way back.

All angles of an atom, and all its directed short edges, belong to that atom's thread, so
sums over angles are written by one thread only.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE, gate_backward, gate_forward, silu_backward, silu_rows
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, block_product, block_product_onto
from atomml.kernels.rows import add_row, copy_rows, set_row, sum_rows


@numba.njit(fastmath=LOOSE, **INNER)
def _first_layer(
    first: int,
    n_rows: int,
    angles: Any,
    short_bond: Any,
    short_atom: Any,
    projected_atoms: Any,
    atom_column: int,
    projected_bonds: Any,
    features: Any,
    feature_panels: Any,
    result: Any,
) -> None:
    """The first layer of a gated MLP on a block of angles, its concatenation taken apart."""
    width = result.shape[1]
    for i in range(n_rows):
        s, t = angles[first + i, 0], angles[first + i, 1]
        one = projected_bonds[short_bond[s], :width]
        two = projected_bonds[short_bond[t], width:]
        atom = projected_atoms[short_atom[s], atom_column : atom_column + width]
        row = result[i]
        for j in range(width):
            row[j] = one[j] + two[j] + atom[j]
    block_product(features, first, 0, feature_panels, result, 0, n_rows)


@kernel(fastmath=LOOSE)
def bond_convolution(
    start: int,
    stop: int,
    angle_start: Any,
    angles: Any,
    short_start: Any,
    short_bond: Any,
    short_atom: Any,
    projected_atoms: Any,
    atom_column: int,
    projected_bonds: Any,
    features: Any,
    feature_panels: Any,
    core: Any,
    gate: Any,
    bias: Any,
    scale: Any,
    shift: Any,
    weights: Any,
    pre: Any,
    normed: Any,
    inverse: Any,
    sums: Any,
) -> None:
    """Messages of all angles at atoms ``start`` to ``stop``, summed on each directed short edge.

    Args:
        start: First atom.
        stop: Atom after the last.
        angle_start: ``(n_atoms + 1,)`` first angle of each atom.
        angles: ``(n_angles, 2)`` the two short edges.
        short_start: ``(n_atoms + 1,)`` first short edge of each atom.
        short_bond: ``(n_short,)`` short bond of each short edge.
        short_atom: ``(n_short,)`` centre of each short edge.
        projected_atoms: Atom features times first-layer weights.
        atom_column: Where this layer's part starts in it.
        projected_bonds: Bond features times the weights of the first, then the second bond.
        features: ``(n_angles + spare, k)`` angle features or their basis.
        feature_panels: First-layer weights of these.
        core: Second layer of the core, centred, in panels.
        gate: Second layer of the gate, likewise.
        bias: ``(2c,)`` of both.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        weights: ``(n_short / 2, c)`` weights of the short bonds.
        pre: ``(n_angles, 2c)`` kept for the way back.
        normed: ``(n_angles, 2c)`` kept.
        inverse: ``(n_angles, 2)`` kept.
        sums: ``(n_short, c)`` the result.
    """
    c = weights.shape[1]
    hidden = np.empty((BLOCK, 2 * c), pre.dtype)
    y = np.empty((BLOCK, 2 * c), pre.dtype)
    message = np.empty((BLOCK, c), pre.dtype)
    sums[short_start[start] : short_start[stop]] = 0
    last = angle_start[stop]
    for first in range(angle_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        _first_layer(
            first, n_rows, angles, short_bond, short_atom, projected_atoms, atom_column, projected_bonds,
            features, feature_panels, y,
        )  # fmt: skip
        copy_rows(y, 0, pre, first, n_rows)
        silu_rows(y, hidden, n_rows)
        block_product_onto(hidden, 0, 0, core, bias, y, 0, 0, n_rows)
        block_product_onto(hidden, 0, c, gate, bias, y, 0, c, n_rows)
        gate_forward(y, n_rows, scale, shift, normed, first, inverse, message)
        for i in range(n_rows):
            total = sums[angles[first + i, 0]]
            weight = weights[short_bond[angles[first + i, 1]]]
            for j in range(c):
                total[j] += message[i, j] * weight[j]
    for s in range(short_start[start], short_start[stop]):
        for j in range(c):
            sums[s, j] *= weights[short_bond[s], j]


@kernel(fastmath=LOOSE)
def bond_update(
    start: int,
    stop: int,
    pair: Any,
    pair_bond: Any,
    sums: Any,
    output: Any,
    bonds: Any,
    change: Any,
    to_terms: Any,
    bond_terms: Any,
    bond_column: int,
) -> None:
    """New features of short bonds ``start`` to ``stop`` from the sums on their two directions.

    ``bonds`` and ``change`` (all change since the embedding) are updated in place, and the next
    atom convolution's columns of ``bond_terms``, which hold the embedding's part, get the change's.
    """
    c = bonds.shape[1]
    rows = np.zeros((BLOCK, c), bonds.dtype)
    update = np.empty((BLOCK, c), bonds.dtype)
    term = np.empty((BLOCK, 2 * c), bonds.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for i in range(n_rows):
            sum_rows(sums, pair[first + i, 0], sums, pair[first + i, 1], rows, i)
        update[:] = 0
        block_product(rows, 0, 0, output, update, 0, n_rows)
        for i in range(n_rows):
            add_row(bonds, first + i, update[i])
            add_row(change, first + i, update[i])
            set_row(rows, i, change[first + i])
        term[:] = 0
        block_product(rows, 0, 0, to_terms, term, 0, n_rows)
        for i in range(n_rows):
            terms = bond_terms[pair_bond[first + i], bond_column : bond_column + 2 * c]
            for j in range(2 * c):
                terms[j] += term[i, j]


@kernel(fastmath=LOOSE)
def angle_update(
    start: int,
    stop: int,
    angle_start: Any,
    angles: Any,
    short_bond: Any,
    short_atom: Any,
    projected_atoms: Any,
    atom_column: int,
    projected_bonds: Any,
    features: Any,
    feature_panels: Any,
    scale: Any,
    shift: Any,
    normed: Any,
    inverse: Any,
    angle_features: Any,
) -> None:
    """Add each angle's message to ``angle_features``; arguments as in :func:`bond_convolution`."""
    c = angle_features.shape[1]
    y = np.empty((BLOCK, 2 * c), normed.dtype)
    message = np.empty((BLOCK, c), normed.dtype)
    last = angle_start[stop]
    for first in range(angle_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        _first_layer(
            first, n_rows, angles, short_bond, short_atom, projected_atoms, atom_column, projected_bonds,
            features, feature_panels, y,
        )  # fmt: skip
        gate_forward(y, n_rows, scale, shift, normed, first, inverse, message)
        for i in range(n_rows):
            for j in range(c):
                angle_features[first + i, j] += message[i, j]


@numba.njit(fastmath=LOOSE, **INNER)
def _first_layer_backward(
    first: int,
    n_rows: int,
    angles: Any,
    short_atom: Any,
    gradient: Any,
    atom_gradient: Any,
    atom_column: int,
    short_gradient: Any,
    feature_back: Any,
    feature_gradient: Any,
    spare: Any,
) -> None:
    """Spread the gradient of a block's first layer to atoms, short edges and angle features."""
    width = gradient.shape[1]
    for i in range(n_rows):
        s, t = angles[first + i, 0], angles[first + i, 1]
        one = short_gradient[s, :width]
        two = short_gradient[t, width:]
        atom = atom_gradient[short_atom[s], atom_column : atom_column + width]
        row = gradient[i]
        for j in range(width):
            one[j] += row[j]
            two[j] += row[j]
            atom[j] += row[j]
    spare[:] = 0
    block_product(gradient, 0, 0, feature_back, spare, 0, n_rows)
    for i in range(n_rows):
        for j in range(spare.shape[1]):
            feature_gradient[first + i, j] += spare[i, j]


@kernel(fastmath=LOOSE)
def bond_convolution_backward(
    start: int,
    stop: int,
    angle_start: Any,
    angles: Any,
    short_start: Any,
    short_bond: Any,
    short_atom: Any,
    core_back: Any,
    gate_back: Any,
    scale: Any,
    shift: Any,
    weights: Any,
    pre: Any,
    normed: Any,
    inverse: Any,
    sum_gradient: Any,
    weight_gradient: Any,
    short_gradient: Any,
    atom_gradient: Any,
    atom_column: int,
    feature_back: Any,
    feature_gradient: Any,
) -> None:
    """The way back through :func:`bond_convolution`.

    ``sum_gradient`` (n_short / 2, c) comes in; ``short_gradient`` (n_short, 4c) is written,
    ``weight_gradient`` (n_short, c), the atoms' columns and ``feature_gradient`` are added to.
    """
    c = weights.shape[1]
    back = np.empty((BLOCK, 2 * c), pre.dtype)
    first_layer = np.empty((BLOCK, 2 * c), pre.dtype)
    gradient = np.empty((BLOCK, c), pre.dtype)
    message = np.empty((BLOCK, c), pre.dtype)
    spare = np.empty((BLOCK, feature_gradient.shape[1]), pre.dtype)
    short_gradient[short_start[start] : short_start[stop]] = 0
    last = angle_start[stop]
    for first in range(angle_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        for i in range(n_rows):
            s, t = short_bond[angles[first + i, 0]], short_bond[angles[first + i, 1]]
            for j in range(c):
                gradient[i, j] = sum_gradient[s, j] * weights[s, j] * weights[t, j]
        gate_backward(gradient, n_rows, scale, shift, normed, first, inverse, message, back)
        for i in range(n_rows):
            s, t = angles[first + i, 0], angles[first + i, 1]
            u, v = short_bond[s], short_bond[t]
            for j in range(c):
                along = sum_gradient[u, j] * message[i, j]
                weight_gradient[s, j] += along * weights[v, j]
                weight_gradient[t, j] += along * weights[u, j]
        first_layer[:] = 0
        block_product(back, 0, 0, core_back, first_layer, 0, n_rows)
        block_product(back, 0, c, gate_back, first_layer, c, n_rows)
        silu_backward(pre, first, first_layer, n_rows)
        _first_layer_backward(
            first, n_rows, angles, short_atom, first_layer, atom_gradient, atom_column, short_gradient,
            feature_back, feature_gradient, spare,
        )  # fmt: skip


@kernel(fastmath=LOOSE)
def angle_update_backward(
    start: int,
    stop: int,
    angle_start: Any,
    angles: Any,
    short_start: Any,
    short_atom: Any,
    scale: Any,
    shift: Any,
    normed: Any,
    inverse: Any,
    angle_gradient: Any,
    short_gradient: Any,
    atom_gradient: Any,
    atom_column: int,
    feature_back: Any,
    feature_gradient: Any,
) -> None:
    """The way back through :func:`angle_update`; ``feature_gradient`` may be ``angle_gradient``."""
    c = angle_gradient.shape[1]
    back = np.empty((BLOCK, 2 * c), normed.dtype)
    gradient = np.empty((BLOCK, c), normed.dtype)
    message = np.empty((BLOCK, c), normed.dtype)
    spare = np.empty((BLOCK, feature_gradient.shape[1]), normed.dtype)
    short_gradient[short_start[start] : short_start[stop]] = 0
    last = angle_start[stop]
    for first in range(angle_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        copy_rows(angle_gradient, first, gradient, 0, n_rows)
        gate_backward(gradient, n_rows, scale, shift, normed, first, inverse, message, back)
        _first_layer_backward(
            first, n_rows, angles, short_atom, back, atom_gradient, atom_column, short_gradient,
            feature_back, feature_gradient, spare,
        )  # fmt: skip


@kernel(fastmath=LOOSE)
def bond_gradient_backward(
    start: int, stop: int, pair: Any, short_gradient: Any, projection_back: Any, bond_gradient: Any
) -> None:
    """Add what the first layers have for short bonds ``start`` to ``stop``: both directions, both roles."""
    rows = np.zeros((BLOCK, short_gradient.shape[1]), bond_gradient.dtype)
    target = np.empty((BLOCK, bond_gradient.shape[1]), bond_gradient.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for i in range(n_rows):
            sum_rows(short_gradient, pair[first + i, 0], short_gradient, pair[first + i, 1], rows, i)
        copy_rows(bond_gradient, first, target, 0, n_rows)
        block_product(rows, 0, 0, projection_back, target, 0, n_rows)
        copy_rows(target, 0, bond_gradient, first, n_rows)


@kernel(fastmath=LOOSE)
def short_bond_backward(
    start: int,
    stop: int,
    pair: Any,
    pair_bond: Any,
    weight_gradient: Any,
    weights_back: Any,
    short_slope: Any,
    bond_gradient: Any,
    embedding_back: Any,
    basis_gradient: Any,
    length_gradient: Any,
) -> None:
    """From short bonds' features and weights to their basis and length."""
    c, k = bond_gradient.shape[1], basis_gradient.shape[1]
    rows = np.zeros((BLOCK, c), bond_gradient.dtype)
    target = np.empty((BLOCK, k), bond_gradient.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        copy_rows(bond_gradient, first, rows, 0, n_rows)
        target[:] = 0
        block_product(rows, 0, 0, embedding_back, target, 0, n_rows)
        for i in range(n_rows):
            add_row(basis_gradient, pair_bond[first + i], target[i])
            sum_rows(weight_gradient, pair[first + i, 0], weight_gradient, pair[first + i, 1], rows, i)
        target[:] = 0
        block_product(rows, 0, 0, weights_back, target, 0, n_rows)
        for i in range(n_rows):
            gradient = 0.0
            for j in range(k):
                gradient += target[i, j] * short_slope[first + i, j]
            length_gradient[pair_bond[first + i]] += gradient

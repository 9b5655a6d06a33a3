"""Atom convolutions and the readout: one fused pass over the edges of each atom, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np

from atomml.kernels.activations import LOOSE, gate_backward, gate_forward, silu_backward, silu_rows
from atomml.kernels.compile import kernel
from atomml.kernels.gemm import BLOCK, TILE_ROWS, block_product, block_product_onto
from atomml.kernels.rows import add_row, copy_rows, sum_rows


@kernel(fastmath=LOOSE)
def add_projected(start: int, stop: int, rows: Any, panels: Any, result: Any) -> None:
    """``result[start:stop] += rows[start:stop] @ matrix``; ``rows`` has ``TILE_ROWS`` rows to spare."""
    target = np.empty((BLOCK, result.shape[1]), rows.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        copy_rows(result, first, target, 0, n_rows)
        block_product(rows, first, 0, panels, target, 0, n_rows)
        copy_rows(target, 0, result, first, n_rows)


@kernel(fastmath=LOOSE)
def atom_convolution(
    start: int,
    stop: int,
    edge_start: Any,
    edges: Any,
    undirected: Any,
    projected: Any,
    centre_column: int,
    neighbour_column: int,
    bond_terms: Any,
    bond_column: int,
    core: Any,
    gate: Any,
    bias: Any,
    scale: Any,
    shift: Any,
    output: Any,
    atoms: Any,
    pre: Any,
    normed: Any,
    inverse: Any,
    new_atoms: Any,
) -> None:
    """One atom convolution for atoms ``start`` to ``stop``.

    Args:
        start: First atom.
        stop: Atom after the last.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        edges: ``(2, n_edges)`` centre and neighbour.
        undirected: ``(n_edges,)`` bond of each edge.
        projected: ``(n_atoms, ...)`` atom features times first-layer weights.
        centre_column: Where the centre's part starts in it.
        neighbour_column: Where the neighbour's part starts in it.
        bond_terms: ``(n_bonds, ...)`` weights in the first columns, then a part for each layer.
        bond_column: Where this layer's part starts in it.
        core: Second layer of the core, centred, in panels.
        gate: Second layer of the gate, likewise.
        bias: ``(2c,)`` of both.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        output: The linear layer after the sum, in panels.
        atoms: ``(n_atoms, c)`` features.
        pre: ``(n_edges, 2c)`` first-layer sums, kept for the way back.
        normed: ``(n_edges, 2c)`` normalised rows, kept.
        inverse: ``(n_edges, 2)`` kept.
        new_atoms: ``(n_atoms, c)`` the result.
    """
    c = atoms.shape[1]
    hidden = np.empty((BLOCK, 2 * c), atoms.dtype)
    y = np.empty((BLOCK, 2 * c), atoms.dtype)
    message = np.empty((BLOCK, c), atoms.dtype)
    sums = np.zeros((stop - start + TILE_ROWS, c), atoms.dtype)
    last = edge_start[stop]
    for first in range(edge_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        for i in range(n_rows):
            e = first + i
            own = projected[edges[0, e], centre_column : centre_column + 2 * c]
            other = projected[edges[1, e], neighbour_column : neighbour_column + 2 * c]
            bond = bond_terms[undirected[e], bond_column : bond_column + 2 * c]
            row = pre[e]
            for j in range(2 * c):
                row[j] = own[j] + other[j] + bond[j]
        silu_rows(pre[first : first + n_rows], hidden, n_rows)
        block_product_onto(hidden, 0, 0, core, bias, y, 0, 0, n_rows)
        block_product_onto(hidden, 0, c, gate, bias, y, 0, c, n_rows)
        gate_forward(y, n_rows, scale, shift, normed, first, inverse, message)
        for i in range(n_rows):
            e = first + i
            total = sums[edges[0, e] - start]
            weight = bond_terms[undirected[e]]
            for j in range(c):
                total[j] += message[i, j] * weight[j]
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        copy_rows(atoms, first, message, 0, n_rows)
        block_product(sums, first - start, 0, output, message, 0, n_rows)
        copy_rows(message, 0, new_atoms, first, n_rows)


@kernel(fastmath=LOOSE)
def atom_convolution_backward(
    start: int,
    stop: int,
    edge_start: Any,
    edges: Any,
    undirected: Any,
    bond_terms: Any,
    core_back: Any,
    gate_back: Any,
    scale: Any,
    shift: Any,
    output_back: Any,
    pre: Any,
    normed: Any,
    inverse: Any,
    atom_gradient: Any,
    weight_gradient: Any,
    edge_gradient: Any,
    projected_gradient: Any,
    centre_column: int,
) -> None:
    """From the gradient of the new atoms to those of each edge's weights and first-layer sums.

    ``weight_gradient`` (n_edges, c) is added to, ``edge_gradient`` (n_edges, 2c) is written, and
    the centre's columns of ``projected_gradient`` are added to; -1 for the column leaves them out.
    The other arguments are those of :func:`atom_convolution`, matrices transposed.
    """
    c = atom_gradient.shape[1]
    back = np.empty((BLOCK, 2 * c), pre.dtype)
    first_layer = np.empty((BLOCK, 2 * c), pre.dtype)
    message = np.empty((BLOCK, c), pre.dtype)
    gradient = np.empty((BLOCK, c), pre.dtype)
    sums = np.zeros((stop - start + BLOCK, c), pre.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        copy_rows(atom_gradient, first, gradient, 0, n_rows)
        block_product(gradient, 0, 0, output_back, sums[first - start : first - start + BLOCK], 0, n_rows)
    last = edge_start[stop]
    for first in range(edge_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        for i in range(n_rows):
            e = first + i
            total = sums[edges[0, e] - start]
            weight = bond_terms[undirected[e]]
            for j in range(c):
                gradient[i, j] = total[j] * weight[j]
        gate_backward(gradient, n_rows, scale, shift, normed, first, inverse, message, back)
        first_layer[:] = 0
        block_product(back, 0, 0, core_back, first_layer, 0, n_rows)
        block_product(back, 0, c, gate_back, first_layer, c, n_rows)
        silu_backward(pre, first, first_layer, n_rows)
        for i in range(n_rows):
            e = first + i
            centre = edges[0, e]
            total = sums[centre - start]
            for j in range(c):
                weight_gradient[e, j] += total[j] * message[i, j]
            for j in range(2 * c):
                edge_gradient[e, j] = first_layer[i, j]
            if centre_column >= 0:
                own = projected_gradient[centre, centre_column : centre_column + 2 * c]
                for j in range(2 * c):
                    own[j] += first_layer[i, j]


@kernel(fastmath=LOOSE)
def atom_convolution_scatter(
    start: int,
    stop: int,
    edge_start: Any,
    reverse: Any,
    undirected: Any,
    short_of: Any,
    edge_gradient: Any,
    projected_gradient: Any,
    neighbour_column: int,
    long_back: Any,
    basis_gradient: Any,
    short_back: Any,
    bond_gradient: Any,
) -> None:
    """Bring edge gradients to the neighbours, to the basis of long bonds and to short bonds' features.

    An atom gathers what its neighbours' edges have for it through ``reverse``, so nothing is
    written by two threads. ``neighbour_column`` -1 leaves the atoms out.
    """
    width = edge_gradient.shape[1]
    long_rows = np.zeros((BLOCK, width), edge_gradient.dtype)
    short_rows = np.zeros((BLOCK, width), edge_gradient.dtype)
    long_bonds = np.empty(BLOCK, np.int64)
    short_bonds = np.empty(BLOCK, np.int64)
    n_long = 0
    n_short = 0
    for i in range(start, stop):
        for e in range(edge_start[i], edge_start[i + 1]):
            arriving = edge_gradient[reverse[e]]
            if neighbour_column >= 0:
                own = projected_gradient[i, neighbour_column : neighbour_column + width]
                for j in range(width):
                    own[j] += arriving[j]
            if e > reverse[e]:
                continue
            u = undirected[e]
            if short_of[u] < 0:
                sum_rows(edge_gradient, e, edge_gradient, reverse[e], long_rows, n_long)
                long_bonds[n_long] = u
                n_long += 1
            else:
                sum_rows(edge_gradient, e, edge_gradient, reverse[e], short_rows, n_short)
                short_bonds[n_short] = short_of[u]
                n_short += 1
            if n_long == BLOCK:
                _add_products(long_rows, n_long, long_back, long_bonds, basis_gradient)
                n_long = 0
            if n_short == BLOCK:
                _add_products(short_rows, n_short, short_back, short_bonds, bond_gradient)
                n_short = 0
    _add_products(long_rows, n_long, long_back, long_bonds, basis_gradient)
    _add_products(short_rows, n_short, short_back, short_bonds, bond_gradient)


def _add_products_py(rows: Any, n_rows: int, panels: Any, where: Any, result: Any) -> None:
    """Add ``rows @ matrix`` to the named rows of ``result``."""
    target = np.zeros((BLOCK, result.shape[1]), rows.dtype)
    block_product(rows, 0, 0, panels, target, 0, n_rows)
    for i in range(n_rows):
        add_row(result, where[i], target[i])


_add_products = kernel(_add_products_py, fastmath=LOOSE, forceinline=True).dispatcher


@kernel(fastmath=LOOSE)
def readout(
    start: int,
    stop: int,
    atoms: Any,
    scale: Any,
    shift: Any,
    layers: Any,
    biases: Any,
    layers_back: Any,
    last: Any,
    last_bias: float,
    features: Any,
    energies: Any,
    gradient: Any,
) -> None:
    """Layer norm and MLP of atoms ``start`` to ``stop``: site energies and their gradient.

    Args:
        start: First atom.
        stop: Atom after the last.
        atoms: ``(n_atoms, c)``.
        scale: ``(c,)`` of the layer norm.
        shift: ``(c,)`` of the layer norm.
        layers: ``(n_hidden, ...)`` panels of the hidden layers.
        biases: ``(n_hidden, c)``.
        layers_back: Panels of the transposed hidden layers.
        last: ``(c,)`` the last layer.
        last_bias: Its bias.
        features: ``(n_atoms, c)`` result: the normalised atoms.
        energies: ``(n_atoms,)`` float64 result, eV.
        gradient: ``(n_atoms, c)`` result: d(energy)/d(atoms).
    """
    c = atoms.shape[1]
    n_hidden = len(layers)
    pre = np.zeros((n_hidden, BLOCK, c), atoms.dtype)
    x = np.zeros((BLOCK, c), atoms.dtype)
    normed = np.zeros((BLOCK, c), atoms.dtype)
    inverse = np.zeros(BLOCK, atoms.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for i in range(n_rows):
            mean = 0.0
            for j in range(c):
                mean += atoms[first + i, j]
            mean /= c
            variance = 0.0
            for j in range(c):
                variance += (atoms[first + i, j] - mean) ** 2
            inverse[i] = 1.0 / np.sqrt(variance / c + 1e-5)
            for j in range(c):
                normed[i, j] = (atoms[first + i, j] - mean) * inverse[i]
                x[i, j] = normed[i, j] * scale[j] + shift[j]
                features[first + i, j] = x[i, j]
        for h in range(n_hidden):
            block_product_onto(x, 0, 0, layers[h], biases[h], pre[h], 0, 0, n_rows)
            silu_rows(pre[h], x, n_rows)
        for i in range(n_rows):
            energy = 0.0
            for j in range(c):
                energy += x[i, j] * last[j]
                x[i, j] = last[j]
            energies[first + i] = energy + last_bias
        for h in range(n_hidden - 1, -1, -1):
            silu_backward(pre[h], 0, x, n_rows)
            copy_rows(x, 0, pre[h], 0, BLOCK)
            x[:] = 0
            block_product(pre[h], 0, 0, layers_back[h], x, 0, n_rows)
        for i in range(n_rows):
            mean = 0.0
            along = 0.0
            for j in range(c):
                x[i, j] *= scale[j]
                mean += x[i, j]
                along += x[i, j] * normed[i, j]
            for j in range(c):
                gradient[first + i, j] = (x[i, j] - mean / c - normed[i, j] * (along / c)) * inverse[i]

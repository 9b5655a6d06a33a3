"""Messages along edges, and the way back."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel
from atomml.kernels.gemm import BLOCK, block_product, block_product_onto
from atomml.kernels.rows import copy_rows
from atomml.potentials.dpa3.fast.bounded import value_and_slope_of_block, value_of_block

__all__ = ["edge_messages", "edge_messages_backward", "edge_messages_scatter"]


@numba.njit(fastmath=LOOSE, **INNER)
def _mapped(
    first: int,
    n_rows: int,
    centre: Any,
    neighbour: Any,
    edge: Any,
    panels: Any,
    none: Any,
    projected: Any,
    other: int,
    y: Any,
) -> None:
    """The affine maps of a block of edges and both their atoms; ``y`` has a column for each output."""
    block_product_onto(edge, first, 0, panels, none, y, 0, 0, n_rows)
    width = y.shape[1]
    for r in range(n_rows):
        one = projected[centre[first + r], :width]
        two = projected[neighbour[first + r], other : other + width]
        row = y[r]
        for c in range(width):
            row[c] += one[c] + two[c]


@kernel(fastmath=LOOSE)
def edge_messages(
    start: int,
    stop: int,
    edge_start: Any,
    centre: Any,
    neighbour: Any,
    bond_of: Any,
    weight: Any,
    direction: Any,
    edge: Any,
    node: Any,
    projected: Any,
    other: int,
    panels: Any,
    none: Any,
    act: Any,
    residual: Any,
    rest: Any,
    messages: Any,
    vectors: Any,
    new_edge: Any,
) -> None:
    """Messages to atoms ``start`` to ``stop``, their symmetrised surroundings, and their edges' own update.

    Args:
        start: First atom.
        stop: Atom after the last.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        centre: ``(n_edges,)``.
        neighbour: ``(n_edges,)``.
        bond_of: ``(n_edges,)`` position among bonds, or -1.
        weight: ``(n_edges,)`` the switch.
        direction: ``(n_edges, 3)`` times the switch.
        edge: ``(n_edges + spare, e)``.
        node: ``(n_atoms, n)``.
        projected: Atoms' features times the weights of all maps that they enter: those at the centre of an
            edge (n + e columns), those at its other end, then others.
        other: Where the columns of the other end start in it.
        panels: Weights of the edge in both maps, ``e`` to ``n + e``; in the last layer, whose edges nobody
            reads, of the message alone.
        none: ``(n + e,)`` zeros.
        act: Parameters of the non-linearity.
        residual: ``(e,)`` weight of the edges' own update.
        rest: ``(e,)`` what an edge without angles is given for them.
        messages: ``(n_atoms, n)`` result.
        vectors: ``(n_atoms, 3, e + n)`` result, not normalised.
        new_edge: ``(n_edges + spare, e)`` result.
    """
    e_dim, n_dim = edge.shape[1], node.shape[1]
    width = panels.shape[0] * panels.shape[2]
    y = np.empty((BLOCK, width), edge.dtype)
    messages[start:stop] = 0
    vectors[start:stop] = 0
    last = edge_start[stop]
    for first in range(edge_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        _mapped(first, n_rows, centre, neighbour, edge, panels, none, projected, other, y)
        value_of_block(y, n_rows, act)
        for r in range(n_rows):
            e = first + r
            i, w = centre[e], weight[e]
            row, old, sent, message = y[r], edge[e], node[neighbour[e]], messages[i]
            for c in range(n_dim):
                message[c] += w * row[c]
            for a in range(3):
                d, of_edges, of_atoms = direction[e, a], vectors[i, a], vectors[i, a, e_dim:]
                for c in range(e_dim):
                    of_edges[c] += d * old[c]
                for c in range(n_dim):
                    of_atoms[c] += d * sent[c]
            if width == n_dim:
                continue
            row, new = y[r, n_dim:], new_edge[e]
            for c in range(e_dim):
                new[c] = old[c] + residual[c] * row[c]
            if bond_of[e] < 0:
                for c in range(e_dim):
                    new[c] += rest[c]


@kernel(fastmath=LOOSE)
def edge_messages_backward(
    start: int,
    stop: int,
    edge_start: Any,
    centre: Any,
    neighbour: Any,
    bond_of: Any,
    weight: Any,
    direction: Any,
    edge: Any,
    node: Any,
    projected: Any,
    other: int,
    panels: Any,
    none: Any,
    act: Any,
    residual: Any,
    panels_back: Any,
    message_gradient: Any,
    vector_gradient: Any,
    bond_gradient: Any,
    edge_gradient: Any,
    mapped_gradient: Any,
    projected_gradient: Any,
    weight_gradient: Any,
    direction_gradient: Any,
) -> None:
    """The way back through :func:`edge_messages`.

    ``edge_gradient`` comes in for the new edges and leaves for the old ones; ``bond_gradient`` (n_bonds, e)
    is what angles have for old edges. ``mapped_gradient`` (n_edges, n + e) is written, for the other end to
    collect; ``projected_gradient``, ``weight_gradient`` and ``direction_gradient`` are added to.
    """
    e_dim, n_dim = edge.shape[1], node.shape[1]
    zero = act.dtype.type(0)
    width = panels.shape[0] * panels.shape[2]
    y, slopes = np.empty((BLOCK, width), edge.dtype), np.empty((BLOCK, width), edge.dtype)
    back = np.empty((BLOCK, e_dim), edge.dtype)
    last = edge_start[stop]
    for first in range(edge_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        _mapped(first, n_rows, centre, neighbour, edge, panels, none, projected, other, y)
        value_and_slope_of_block(y, slopes, n_rows, act)
        for r in range(n_rows):
            e = first + r
            i, w = centre[e], weight[e]
            row, gradient, bend, along = y[r], message_gradient[i], slopes[r], zero
            for c in range(n_dim):
                along += gradient[c] * row[c]
                row[c] = gradient[c] * w * bend[c]
            weight_gradient[e] += along
            row, gradient, bend = y[r, n_dim:], edge_gradient[e], slopes[r, n_dim:]
            for c in range(width - n_dim):
                row[c] = gradient[c] * residual[c] * bend[c]
            row, at_centre = y[r], projected_gradient[i]
            for c in range(width):
                at_centre[c] += row[c]
            copy_rows(y, r, mapped_gradient, e, 1)
        copy_rows(edge_gradient, first, back, 0, n_rows)
        block_product(y, 0, 0, panels_back, back, 0, n_rows)
        for r in range(n_rows):
            e = first + r
            i, row = centre[e], back[r]
            if bond_of[e] >= 0:
                more = bond_gradient[bond_of[e]]
                for c in range(e_dim):
                    row[c] += more[c]
            old, sent = edge[e], node[neighbour[e]]
            for a in range(3):
                d, of_edges, of_atoms = direction[e, a], vector_gradient[i, a], vector_gradient[i, a, e_dim:]
                along = zero
                for c in range(e_dim):
                    row[c] += d * of_edges[c]
                    along += of_edges[c] * old[c]
                for c in range(n_dim):
                    along += of_atoms[c] * sent[c]
                direction_gradient[e, a] += along
        copy_rows(back, 0, edge_gradient, first, n_rows)


@kernel(fastmath=LOOSE)
def edge_messages_scatter(
    start: int,
    stop: int,
    edge_start: Any,
    neighbour: Any,
    reverse: Any,
    direction: Any,
    vector_gradient: Any,
    mapped_gradient: Any,
    projected_gradient: Any,
    node_gradient: Any,
    other: int,
) -> None:
    """What atoms ``start`` to ``stop`` are given as the neighbours of others."""
    width, n_dim = mapped_gradient.shape[1], node_gradient.shape[1]
    e_dim = vector_gradient.shape[2] - n_dim
    for j in range(start, stop):
        there, features = projected_gradient[j, other : other + width], node_gradient[j]
        for e in range(edge_start[j], edge_start[j + 1]):
            back, i = reverse[e], neighbour[e]
            row = mapped_gradient[back]
            for c in range(width):
                there[c] += row[c]
            for a in range(3):
                d, vector = direction[back, a], vector_gradient[i, a, e_dim:]
                for c in range(n_dim):
                    features[c] += d * vector[c]

"""Distances, angles and their bases, and the way back from them to forces; all in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from atomml.kernels.activations import EXACT, sine_cosine
from atomml.kernels.compile import kernel
from atomml.kernels.gemm import BLOCK, block_product
from atomml.kernels.rows import copy_rows
from atomml.potentials.chgnet.model import COSINE_SHRINK

_ROOT_PI = 1 / math.sqrt(math.pi)
_CONSTANT = 0.70710676908493042 / math.sqrt(math.pi)


@kernel
def topology(centre: Any, reverse: Any, distances: Any, n_atoms: int, bond_cutoff: float) -> Any:
    """Undirected bonds, short bonds and angles of a graph whose edges are in canonical order.

    Returns:
        ``edge_start`` (n_atoms + 1,), ``undirected`` (n_edges,), ``primary`` (n_bonds,),
        ``short_of`` (n_bonds,) or -1, ``short_start`` (n_atoms + 1,), ``short_edge`` (n_short,),
        ``short_reverse``, ``short_bond`` (n_short,), ``pair`` (n_short / 2, 2) the two directed short
        edges of each short bond, ``pair_bond`` its number among all bonds,
        ``angle_start`` (n_atoms + 1,), ``angles`` (n_angles, 2) positions among the short edges.
    """
    n_edges = len(centre)
    edge_start = np.zeros(n_atoms + 1, np.int64)
    short_start = np.zeros(n_atoms + 1, np.int64)
    undirected = np.empty(n_edges, np.int32)
    primary = np.empty(n_edges // 2, np.int32)
    short_of = np.full(n_edges // 2, -1, np.int32)
    short_index = np.full(n_edges, -1, np.int32)
    n_bonds = 0
    n_short = 0
    for e in range(n_edges):
        edge_start[centre[e] + 1] += 1
        first = min(e, reverse[e])
        if first == e:
            undirected[e] = n_bonds
            primary[n_bonds] = e
            n_bonds += 1
        else:
            undirected[e] = undirected[first]
        if distances[first] < bond_cutoff:
            short_start[centre[e] + 1] += 1
            short_index[e] = n_short
            n_short += 1
    angle_start = np.zeros(n_atoms + 1, np.int64)
    for i in range(n_atoms):
        angle_start[i + 1] = angle_start[i] + short_start[i + 1] * (short_start[i + 1] - 1)
        edge_start[i + 1] += edge_start[i]
        short_start[i + 1] += short_start[i]
    short_edge = np.empty(n_short, np.int32)
    short_reverse = np.empty(n_short, np.int32)
    short_bond = np.empty(n_short, np.int32)
    pair = np.empty((n_short // 2, 2), np.int32)
    pair_bond = np.empty(n_short // 2, np.int32)
    n_pairs = 0
    for e in range(n_edges):
        s = short_index[e]
        if s < 0:
            continue
        u = undirected[e]
        short_edge[s] = e
        short_reverse[s] = short_index[reverse[e]]
        if short_of[u] < 0:
            short_of[u] = n_pairs
            pair[n_pairs, 0] = s
            pair[n_pairs, 1] = short_reverse[s]
            pair_bond[n_pairs] = u
            n_pairs += 1
        short_bond[s] = short_of[u]
    angles = np.empty((angle_start[n_atoms], 2), np.int32)
    row = 0
    for i in range(n_atoms):
        for s in range(short_start[i], short_start[i + 1]):
            for t in range(short_start[i], short_start[i + 1]):
                if s != t:
                    angles[row, 0] = s
                    angles[row, 1] = t
                    row += 1
    return (
        edge_start, undirected, primary, short_of, short_start, short_edge, short_reverse,
        short_bond, pair, pair_bond, angle_start, angles,
    )  # fmt: skip


@kernel(fastmath=EXACT)
def radial_basis(
    start: int,
    stop: int,
    edges: Any,
    distances: Any,
    frequencies: Any,
    cutoff: float,
    power: int,
    basis: Any,
    slope: Any,
) -> None:
    """Bessel functions times the envelope, and their derivative, of bonds ``start`` to ``stop``.

    See :class:`atomml.nn.bases.BesselBasis`. Columns beyond the frequencies become zero.
    """
    a, b, c = -(power + 1.0) * (power + 2.0) / 2, power * (power + 2.0), -power * (power + 1.0) / 2
    norm = math.sqrt(2.0 / cutoff)
    n = len(frequencies)
    for u in range(start, stop):
        r = distances[edges[u]]
        x = r / cutoff
        lower = x ** (power - 1)
        envelope = norm * (1.0 + lower * x * (a + x * (b + x * c)))
        steep = norm * lower * (power * a + x * ((power + 1) * b + x * (power + 2) * c)) / cutoff
        if x >= 1.0:
            envelope = 0.0
            steep = 0.0
        for k in range(n):
            w = frequencies[k] / cutoff
            s, q = sine_cosine(w * r)
            basis[u, k] = envelope * s / r
            slope[u, k] = (steep * s + envelope * (w * q - s / r)) / r
        for k in range(n, basis.shape[1]):
            basis[u, k] = 0
            slope[u, k] = 0


@kernel(fastmath=EXACT)
def angular_basis(
    start: int,
    stop: int,
    angles: Any,
    short_edge: Any,
    vectors: Any,
    distances: Any,
    frequencies: Any,
    basis: Any,
    slope: Any,
) -> None:
    """Fourier functions of angles ``start`` to ``stop``, and d(angle)/d(cosine) in ``slope``."""
    n = len(frequencies)
    for row in range(start, stop):
        e, f = short_edge[angles[row, 0]], short_edge[angles[row, 1]]
        dot = vectors[e, 0] * vectors[f, 0] + vectors[e, 1] * vectors[f, 1] + vectors[e, 2] * vectors[f, 2]
        x = COSINE_SHRINK * dot / (distances[e] * distances[f])
        theta = math.acos(x)
        slope[row] = -COSINE_SHRINK / math.sqrt(1.0 - x * x)
        basis[row, 0] = _CONSTANT
        for k in range(n):
            s, q = sine_cosine(frequencies[k] * theta)
            basis[row, 1 + k] = s * _ROOT_PI
            basis[row, 1 + n + k] = q * _ROOT_PI
        for k in range(2 * n + 1, basis.shape[1]):
            basis[row, k] = 0


@kernel
def radial_backward(
    start: int,
    stop: int,
    edges: Any,
    reverse: Any,
    edge_weight_gradient: Any,
    weights_back: Any,
    basis_gradient: Any,
    slope: Any,
    total: Any,
) -> None:
    """dE/d(length) of bonds ``start`` to ``stop``, added to ``total``.

    The gradient with respect to the bond's weights arrives on its two directed edges and is
    brought back to the basis by ``weights_back``; ``basis_gradient`` holds the rest.
    """
    c = edge_weight_gradient.shape[1]
    weight_rows = np.zeros((BLOCK, c), slope.dtype)
    back = np.empty((BLOCK, basis_gradient.shape[1]), slope.dtype)
    for first in range(start, stop, BLOCK):
        n_rows = min(BLOCK, stop - first)
        for i in range(n_rows):
            e = edges[first + i]
            for j in range(c):
                weight_rows[i, j] = edge_weight_gradient[e, j] + edge_weight_gradient[reverse[e], j]
        copy_rows(basis_gradient, first, back, 0, n_rows)
        block_product(weight_rows, 0, 0, weights_back, back, 0, n_rows)
        for i in range(n_rows):
            gradient = 0.0
            for k in range(back.shape[1]):
                gradient += back[i, k] * slope[first + i, k]
            total[first + i] += gradient


@kernel
def geometry_backward(
    start: int,
    stop: int,
    edge_start: Any,
    angle_start: Any,
    angles: Any,
    short_edge: Any,
    vectors: Any,
    distances: Any,
    undirected: Any,
    reverse: Any,
    length_gradient: Any,
    frequencies: Any,
    basis: Any,
    slope: Any,
    basis_gradient: Any,
    angle_gradient: Any,
    embedding_back: Any,
    edge_gradient: Any,
) -> None:
    """dE/d(vector) of every edge that leaves atoms ``start`` to ``stop``."""
    n = len(frequencies)
    total = np.zeros((BLOCK, basis.shape[1]), basis.dtype)
    for e in range(edge_start[start], edge_start[stop]):
        along = length_gradient[undirected[e]] / distances[e] if e < reverse[e] else 0.0
        for k in range(3):
            edge_gradient[e, k] = along * vectors[e, k]
    last = angle_start[stop]
    for first in range(angle_start[start], last, BLOCK):
        n_rows = min(BLOCK, last - first)
        copy_rows(basis_gradient, first, total, 0, n_rows)
        block_product(angle_gradient, first, 0, embedding_back, total, 0, n_rows)
        for i in range(n_rows):
            row = first + i
            gradient = 0.0
            for k in range(n):
                turn = total[i, 1 + k] * basis[row, 1 + n + k] - total[i, 1 + n + k] * basis[row, 1 + k]
                gradient += frequencies[k] * turn
            gradient *= slope[row]
            e, f = short_edge[angles[row, 0]], short_edge[angles[row, 1]]
            re, rf = 1.0 / distances[e], 1.0 / distances[f]
            dot = (
                vectors[e, 0] * vectors[f, 0] + vectors[e, 1] * vectors[f, 1] + vectors[e, 2] * vectors[f, 2]
            )
            cosine = dot * re * rf
            for k in range(3):
                a, b = vectors[e, k] * re, vectors[f, k] * rf
                edge_gradient[e, k] += gradient * (b - cosine * a) * re
                edge_gradient[f, k] += gradient * (a - cosine * b) * rf

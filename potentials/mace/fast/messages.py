"""Messages of all neighbours of an atom, coupled and summed in one pass; features of edges are never kept.

Features and sums are ``(rows, channels)``: blocks one after the other, in a block all atoms, for each atom
the components (for sums: times the paths that end in this irrep). A link is a pair of a feature's component
and a result's component on one path; its factor is a sum of harmonics times coupling coefficients.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel

_ZERO, _ONE, _TWO, _THREE, _FOUR, _SIX = (np.float32(n) for n in (0, 1, 2, 3, 4, 6))
"""numba makes float64 of a float32 and a whole number, so numbers have a type of their own."""


@numba.njit(**INNER, fastmath=LOOSE)
def _spline(table: Any, knot: int, t: float, width: int, value: Any) -> None:
    """Cubic Hermite splines of all columns; rows of the table hold values, then slopes times the spacing."""
    t2 = t * t
    t3 = t2 * t
    c, b, d = _THREE * t2 - _TWO * t3, t3 - _TWO * t2 + t, t3 - t2
    a = _ONE - c
    low, low_slope = table[knot, :width], table[knot, width:]
    high, high_slope = table[knot + 1, :width], table[knot + 1, width:]
    for k in range(width):
        value[k] = a * low[k] + b * low_slope[k] + c * high[k] + d * high_slope[k]


@numba.njit(**INNER, fastmath=LOOSE)
def _spline_slope(table: Any, knot: int, t: float, width: int, value: Any) -> None:
    """Derivative of :func:`_spline` with respect to the fraction."""
    t2 = t * t
    a, b, d = _SIX * (t2 - t), _THREE * t2 - _FOUR * t + _ONE, _THREE * t2 - _TWO * t
    low, low_slope = table[knot, :width], table[knot, width:]
    high, high_slope = table[knot + 1, :width], table[knot + 1, width:]
    for k in range(width):
        value[k] = a * (low[k] - high[k]) + b * low_slope[k] + d * high_slope[k]


@numba.njit(**INNER)
def _factors(harmonics: Any, e: int, terms: Any, weights: Any, term_start: Any, factor: Any) -> None:
    """Factor of each link on an edge."""
    for q in range(len(factor)):
        total = _ZERO
        for s in range(term_start[q], term_start[q + 1]):
            total += weights[s] * harmonics[e, terms[s]]
        factor[q] = total


@kernel(fastmath=LOOSE)
def sum_messages(
    start: int,
    stop: int,
    edge_start: Any,
    sender: Any,
    knots: Any,
    fractions: Any,
    harmonics: Any,
    table: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    features: Any,
    sums: Any,
    extras: Any,
) -> None:
    """Add the messages of atoms ``start`` to ``stop`` to their sums.

    Args:
        start: First atom.
        stop: Atom after the last.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        sender: ``(n_edges,)``.
        knots: ``(n_edges,)``.
        fractions: ``(n_edges,)``.
        harmonics: ``(n_edges, 16)``.
        table: ``(n_knots, 2 * width)`` splines: a column for each path and channel, the last two for sums of
            their own (a repulsion and a density).
        links: ``(n_links, 6)`` path, first row and step of the feature, whether it is the first of its
            feature and path, first row and step of the result.
        terms: Harmonic of each term.
        weights: Its coefficient.
        term_start: ``(n_links + 1,)``.
        features: ``(rows, channels)``.
        sums: The result.
        extras: ``(n_atoms, 2)`` sums of the last two columns, result.
    """
    channels = features.shape[1]
    width = table.shape[1] // 2
    radial = np.empty(width, table.dtype)
    scaled = np.empty(channels, table.dtype)
    n_links = len(links)
    factor = np.empty(n_links, table.dtype)
    for i in range(start, stop):
        for e in range(edge_start[i], edge_start[i + 1]):
            _spline(table, knots[e], fractions[e], width, radial)
            _factors(harmonics, e, terms, weights, term_start, factor)
            extras[i, 0] += radial[width - 2]
            extras[i, 1] += radial[width - 1]
            skip_to = 0
            for q in range(len(links)):
                if links[q, 3]:
                    source = features[links[q, 1] + sender[e] * links[q, 2]]
                    first = links[q, 0] * channels
                    distance = radial[first : first + channels]
                    for k in range(channels):
                        scaled[k] = source[k] * distance[k]
                if q < skip_to:
                    continue
                target, m = sums[links[q, 4] + i * links[q, 5]], factor[q]
                if q + 1 < n_links and not links[q + 1, 3]:  # two at a time: half of the loads
                    other, m2 = sums[links[q + 1, 4] + i * links[q + 1, 5]], factor[q + 1]
                    for k in range(channels):
                        target[k] += m * scaled[k]
                        other[k] += m2 * scaled[k]
                    skip_to = q + 2
                else:
                    for k in range(channels):
                        target[k] += m * scaled[k]


@kernel(fastmath=LOOSE)
def edge_gradients(
    start: int,
    stop: int,
    edge_start: Any,
    sender: Any,
    knots: Any,
    fractions: Any,
    harmonics: Any,
    table: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    features: Any,
    above: Any,
    extras_above: Any,
    spacing: float,
    radial_out: Any,
    angular_out: Any,
) -> None:
    """Add the derivatives of the energy with respect to lengths and harmonics of the edges of atoms.

    Args as of :func:`sum_messages`; ``above`` and ``extras_above`` are the derivatives with respect to its
    results, ``radial_out`` ``(n_edges,)`` and ``angular_out`` ``(n_edges, 16)`` those with respect to edges.
    """
    channels = features.shape[1]
    width = table.shape[1] // 2
    radial = np.empty(width, table.dtype)
    slope = np.empty(width, table.dtype)
    scaled = np.empty(channels, table.dtype)
    back = np.zeros(channels, table.dtype)
    factor = np.empty(len(links), table.dtype)
    n_links = len(links)
    for i in range(start, stop):
        for e in range(edge_start[i], edge_start[i + 1]):
            _spline(table, knots[e], fractions[e], width, radial)
            _spline_slope(table, knots[e], fractions[e], width, slope)
            _factors(harmonics, e, terms, weights, term_start, factor)
            along = extras_above[i, 0] * slope[width - 2] + extras_above[i, 1] * slope[width - 1]
            skip_to = 0
            for q in range(n_links):
                source = features[links[q, 1] + sender[e] * links[q, 2]]
                first = links[q, 0] * channels
                if links[q, 3]:
                    distance = radial[first : first + channels]
                    for k in range(channels):
                        scaled[k] = source[k] * distance[k]
                        back[k] = 0
                if q >= skip_to:
                    one, m = above[links[q, 4] + i * links[q, 5]], factor[q]
                    turn, turn2 = _ZERO, _ZERO
                    if q + 1 < n_links and not links[q + 1, 3]:  # two at a time: half of the loads
                        two, m2 = above[links[q + 1, 4] + i * links[q + 1, 5]], factor[q + 1]
                        for k in range(channels):
                            turn += scaled[k] * one[k]
                            turn2 += scaled[k] * two[k]
                            back[k] += m * one[k] + m2 * two[k]
                        skip_to = q + 2
                        for s in range(term_start[q + 1], term_start[q + 2]):
                            angular_out[e, terms[s]] += weights[s] * turn2
                    else:
                        for k in range(channels):
                            turn += scaled[k] * one[k]
                            back[k] += m * one[k]
                    for s in range(term_start[q], term_start[q + 1]):
                        angular_out[e, terms[s]] += weights[s] * turn
                if q == n_links - 1 or links[q + 1, 3]:
                    part = _ZERO
                    change = slope[first : first + channels]
                    for k in range(channels):
                        part += change[k] * source[k] * back[k]
                    along += part
            radial_out[e] += along / spacing


@kernel(fastmath=LOOSE)
def feature_gradients(
    start: int,
    stop: int,
    edge_start: Any,
    receiver: Any,
    knots: Any,
    fractions: Any,
    harmonics: Any,
    table: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    above: Any,
    below: Any,
) -> None:
    """Add the derivatives with respect to features of atoms as senders; ``receiver`` is at the other end.

    ``weights`` carry the sign of harmonics seen from the other end. Other arguments as of
    :func:`edge_gradients`; ``below`` is the result.
    """
    channels = above.shape[1]
    width = table.shape[1] // 2
    radial = np.empty(width, table.dtype)
    back = np.zeros(channels, table.dtype)
    factor = np.empty(len(links), table.dtype)
    n_links = len(links)
    for i in range(start, stop):
        for e in range(edge_start[i], edge_start[i + 1]):
            _spline(table, knots[e], fractions[e], width, radial)
            _factors(harmonics, e, terms, weights, term_start, factor)
            skip_to = 0
            for q in range(n_links):
                if links[q, 3]:
                    for k in range(channels):
                        back[k] = 0
                if q >= skip_to:
                    one, m = above[links[q, 4] + receiver[e] * links[q, 5]], factor[q]
                    if q + 1 < n_links and not links[q + 1, 3]:
                        two, m2 = above[links[q + 1, 4] + receiver[e] * links[q + 1, 5]], factor[q + 1]
                        for k in range(channels):
                            back[k] += m * one[k] + m2 * two[k]
                        skip_to = q + 2
                    else:
                        for k in range(channels):
                            back[k] += m * one[k]
                if q == n_links - 1 or links[q + 1, 3]:
                    target = below[links[q, 1] + i * links[q, 2]]
                    first = links[q, 0] * channels
                    distance = radial[first : first + channels]
                    for k in range(channels):
                        target[k] += distance[k] * back[k]

"""Messages summed over neighbours, alone and with tangents, and the way back to what they are made from.

Rows of features and sums are those of :mod:`~atomml.potentials.mace.fast.messages`. With tangents there are
twice as many atoms: the tangent of atom i is that of atom i + n. Nothing of an edge is kept but the radial
weights, which both directions of a pair share.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel


@numba.njit(**INNER)
def _factors(harmonics: Any, terms: Any, weights: Any, term_start: Any, factor: Any) -> None:
    """Factor of each link on an edge."""
    for q in range(len(factor)):
        total = factor.dtype.type(0)
        for s in range(term_start[q], term_start[q + 1]):
            total += weights[s] * harmonics[terms[s]]
        factor[q] = total


@kernel(fastmath=LOOSE)
def messages(
    start: int,
    stop: int,
    parts: Any,
    edge_start: Any,
    sender: Any,
    pair: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    harmonics: Any,
    radial: Any,
    features: Any,
    sums: Any,
) -> None:
    """Add the messages of the atoms of parts ``start`` to ``stop`` to their sums.

    Args:
        start: First part.
        stop: Part after the last.
        parts: ``(n_parts + 1,)`` first atom of each.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        sender: ``(n_edges,)``.
        pair: ``(n_edges,)`` row of the radial weights.
        links: ``(n_links, 6)`` path, first row and step of the feature, whether it is the first of its
            feature and path, first row and step of the result.
        terms: Harmonic of each term.
        weights: Its coefficient.
        term_start: ``(n_links + 1,)``.
        harmonics: ``(1, n_edges, n_harmonics)``.
        radial: ``(1, n_pairs, n_paths * channels)``.
        features: ``(rows, channels)``.
        sums: The result.
    """
    channels = features.shape[1]
    scaled = np.empty(channels, features.dtype)
    factor = np.empty(len(links), features.dtype)
    for i in range(parts[start], parts[stop]):
        for e in range(edge_start[i], edge_start[i + 1]):
            _factors(harmonics[0, e], terms, weights, term_start, factor)
            for q in range(len(links)):
                if links[q, 3]:
                    source = features[links[q, 1] + sender[e] * links[q, 2]]
                    first = links[q, 0] * channels
                    distance = radial[0, pair[e], first : first + channels]
                    for k in range(channels):
                        scaled[k] = source[k] * distance[k]
                target, m = sums[links[q, 4] + i * links[q, 5]], factor[q]
                for k in range(channels):
                    target[k] += m * scaled[k]


@kernel(fastmath=LOOSE)
def messages_backward(
    start: int,
    stop: int,
    parts: Any,
    copies: Any,
    edge_start: Any,
    sender: Any,
    pair: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    harmonics: Any,
    radial: Any,
    features: Any,
    above: Any,
    harmonics_bar: Any,
    radial_bar: Any,
    features_bar: Any,
) -> None:
    """Derivatives with respect to harmonics, radial weights and features.

    Args as of :func:`messages`; ``copies`` says which copy of the last two results each part adds to, and
    ``above`` is the derivative with respect to the sums.
    """
    channels = features.shape[1]
    scaled = np.empty(channels, features.dtype)
    back = np.zeros(channels, features.dtype)
    factor = np.empty(len(links), features.dtype)
    n_links = len(links)
    for part in range(start, stop):
        for i in range(parts[part], parts[part + 1]):
            for e in range(edge_start[i], edge_start[i + 1]):
                _factors(harmonics[0, e], terms, weights, term_start, factor)
                for q in range(n_links):
                    row = links[q, 1] + sender[e] * links[q, 2]
                    first = links[q, 0] * channels
                    source, distance = features[row], radial[0, pair[e], first : first + channels]
                    if links[q, 3]:
                        for k in range(channels):
                            scaled[k] = source[k] * distance[k]
                            back[k] = 0
                    one, m = above[links[q, 4] + i * links[q, 5]], factor[q]
                    turn = factor.dtype.type(0)
                    for k in range(channels):
                        turn += scaled[k] * one[k]
                        back[k] += m * one[k]
                    for s in range(term_start[q], term_start[q + 1]):
                        harmonics_bar[0, e, terms[s]] += weights[s] * turn
                    if q == n_links - 1 or links[q + 1, 3]:
                        to_radial = radial_bar[copies[part], 0, pair[e], first : first + channels]
                        for k in range(channels):
                            to_radial[k] += source[k] * back[k]
                        to_features = features_bar[copies[part], row]
                        for k in range(channels):
                            to_features[k] += distance[k] * back[k]


@kernel(fastmath=LOOSE)
def dual_messages(
    start: int,
    stop: int,
    parts: Any,
    edge_start: Any,
    sender: Any,
    pair: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    harmonics: Any,
    radial: Any,
    features: Any,
    sums: Any,
) -> None:
    """As :func:`messages`, with tangents: harmonics and radial weights have two, all rows twice the atoms."""
    n = len(edge_start) - 1
    channels = features.shape[1]
    scaled, along = np.empty(channels, features.dtype), np.empty(channels, features.dtype)
    factor, turn = np.empty(len(links), features.dtype), np.empty(len(links), features.dtype)
    for i in range(parts[start], parts[stop]):
        for e in range(edge_start[i], edge_start[i + 1]):
            _factors(harmonics[0, e], terms, weights, term_start, factor)
            _factors(harmonics[1, e], terms, weights, term_start, turn)
            for q in range(len(links)):
                if links[q, 3]:
                    step = links[q, 2]
                    source = features[links[q, 1] + sender[e] * step]
                    moving = features[links[q, 1] + (sender[e] + n) * step]
                    first = links[q, 0] * channels
                    distance = radial[0, pair[e], first : first + channels]
                    stretch = radial[1, pair[e], first : first + channels]
                    for k in range(channels):
                        scaled[k] = source[k] * distance[k]
                        along[k] = moving[k] * distance[k] + source[k] * stretch[k]
                m, dm = factor[q], turn[q]
                target = sums[links[q, 4] + i * links[q, 5]]
                tangent = sums[links[q, 4] + (i + n) * links[q, 5]]
                for k in range(channels):
                    target[k] += m * scaled[k]
                    tangent[k] += m * along[k] + dm * scaled[k]


@kernel(fastmath=LOOSE)
def dual_messages_backward(
    start: int,
    stop: int,
    parts: Any,
    copies: Any,
    edge_start: Any,
    sender: Any,
    pair: Any,
    links: Any,
    terms: Any,
    weights: Any,
    term_start: Any,
    harmonics: Any,
    radial: Any,
    features: Any,
    above: Any,
    radial_bar: Any,
    features_bar: Any,
) -> None:
    """Derivatives of :func:`dual_messages` with respect to radial weights and features, with tangents."""
    n = len(edge_start) - 1
    channels = features.shape[1]
    back, back_along = np.zeros(channels, features.dtype), np.zeros(channels, features.dtype)
    factor, turn = np.empty(len(links), features.dtype), np.empty(len(links), features.dtype)
    n_links = len(links)
    for part in range(start, stop):
        for i in range(parts[part], parts[part + 1]):
            for e in range(edge_start[i], edge_start[i + 1]):
                _factors(harmonics[0, e], terms, weights, term_start, factor)
                _factors(harmonics[1, e], terms, weights, term_start, turn)
                for q in range(n_links):
                    if links[q, 3]:
                        for k in range(channels):
                            back[k] = 0
                            back_along[k] = 0
                    m, dm = factor[q], turn[q]
                    one = above[links[q, 4] + i * links[q, 5]]
                    two = above[links[q, 4] + (i + n) * links[q, 5]]
                    for k in range(channels):
                        back[k] += m * one[k] + dm * two[k]
                        back_along[k] += m * two[k]
                    if q == n_links - 1 or links[q + 1, 3]:
                        row = links[q, 1] + sender[e] * links[q, 2]
                        tangent = row + n * links[q, 2]
                        first, copy = links[q, 0] * channels, copies[part]
                        _to_factor(
                            features[row],
                            features[tangent],
                            back,
                            back_along,
                            radial_bar[copy, 0, pair[e], first : first + channels],
                            radial_bar[copy, 1, pair[e], first : first + channels],
                        )
                        _to_factor(
                            radial[0, pair[e], first : first + channels],
                            radial[1, pair[e], first : first + channels],
                            back,
                            back_along,
                            features_bar[copy, row],
                            features_bar[copy, tangent],
                        )


@numba.njit(fastmath=LOOSE, **INNER)
def _to_factor(x: Any, dx: Any, back: Any, back_along: Any, value: Any, tangent: Any) -> None:
    """Derivatives with respect to one factor of a product whose other factor is x with tangent dx."""
    for k in range(len(back)):
        value[k] += x[k] * back[k] + dx[k] * back_along[k]
    for k in range(len(back)):
        tangent[k] += x[k] * back_along[k]

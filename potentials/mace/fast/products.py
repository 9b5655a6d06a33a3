"""Polynomials of each channel's messages, over the monomials that symmetry allows, and their derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import kernel


@kernel(fastmath=LOOSE)
def polynomials(
    start: int,
    stop: int,
    rows: Any,
    inputs: Any,
    factors: Any,
    entry_start: Any,
    entries: Any,
    coefficients: Any,
    messages: Any,
    results: Any,
) -> None:
    """Add the polynomials of atoms ``start`` to ``stop`` to every hidden component.

    Args:
        start: First atom.
        stop: Atom after the last.
        rows: Row of each atom's coefficients.
        inputs: ``(n_components, 2)`` first row and step of each component of the messages.
        factors: ``(n_monomials, 3)`` components; ``n_components`` stands for one.
        entry_start: ``(n_monomials + 1,)``.
        entries: ``(n_entries, 2)`` first row and step of the result that a monomial adds to.
        coefficients: ``(n_rows, n_entries, channels)``.
        messages: ``(rows, channels)``.
        results: The result.
    """
    n = len(inputs)
    channels = messages.shape[1]
    x = np.ones((n + 1, channels), messages.dtype)
    product = np.empty(channels, messages.dtype)
    for i in range(start, stop):
        for m in range(n):
            source = messages[inputs[m, 0] + i * inputs[m, 1]]
            for k in range(channels):
                x[m, k] = source[k]
        for m in range(len(factors)):
            a, b, c = x[factors[m, 0]], x[factors[m, 1]], x[factors[m, 2]]
            for k in range(channels):
                product[k] = a[k] * b[k] * c[k]
            for s in range(entry_start[m], entry_start[m + 1]):
                target = results[entries[s, 0] + i * entries[s, 1]]
                weight = coefficients[rows[i], s]
                for k in range(channels):
                    target[k] += weight[k] * product[k]


@kernel(fastmath=LOOSE)
def polynomial_gradients(
    start: int,
    stop: int,
    rows: Any,
    inputs: Any,
    factors: Any,
    entry_start: Any,
    entries: Any,
    coefficients: Any,
    messages: Any,
    above: Any,
    below: Any,
) -> None:
    """Derivatives with respect to the messages; arguments as of :func:`polynomials`."""
    n = len(inputs)
    channels = messages.shape[1]
    x = np.ones((n + 1, channels), messages.dtype)
    d = np.empty((n + 1, channels), messages.dtype)
    weighted = np.empty(channels, messages.dtype)
    for i in range(start, stop):
        for m in range(n):
            source = messages[inputs[m, 0] + i * inputs[m, 1]]
            for k in range(channels):
                x[m, k] = source[k]
        for m in range(n + 1):
            for k in range(channels):
                d[m, k] = 0
        for m in range(len(factors)):
            for k in range(channels):
                weighted[k] = 0
            for s in range(entry_start[m], entry_start[m + 1]):
                source = above[entries[s, 0] + i * entries[s, 1]]
                weight = coefficients[rows[i], s]
                for k in range(channels):
                    weighted[k] += weight[k] * source[k]
            a, b, c = factors[m, 0], factors[m, 1], factors[m, 2]
            for k in range(channels):
                xa, xb, xc, w = x[a, k], x[b, k], x[c, k], weighted[k]
                d[a, k] += w * xb * xc
                d[b, k] += w * xa * xc
                d[c, k] += w * xa * xb
        for m in range(n):
            target = below[inputs[m, 0] + i * inputs[m, 1]]
            for k in range(channels):
                target[k] = d[m, k]

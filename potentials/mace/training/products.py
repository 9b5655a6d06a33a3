"""Polynomials of the messages with the atoms of one element side by side, alone and with tangents.

Arrays are ``(k, channels, components, atoms)``, k being 1, or 2 with tangents; a channel is a range of work,
so that no two threads ever add to one number. ``BLOCK`` atoms are worked on at a time, whether they count or
not, as LLVM vectorises these loops only where their length is known.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE
from atomml.kernels.compile import INNER, kernel

BLOCK = 16
"""Atoms at a time."""


@numba.njit(**INNER)
def _load(source: Any, channel: int, first: int, n: int, block: Any) -> None:
    """Values, then tangents, of up to ``BLOCK`` atoms; zeros where there are none."""
    for t in range(len(source)):
        for m in range(source.shape[2]):
            for k in range(BLOCK):
                block[m, t * BLOCK + k] = 0
            for k in range(n):
                block[m, t * BLOCK + k] = source[t, channel, m, first + k]


@numba.njit(**INNER)
def _store(block: Any, channel: int, first: int, n: int, target: Any) -> None:
    """The inverse of :func:`_load`."""
    for t in range(len(target)):
        for m in range(target.shape[2]):
            for k in range(n):
                target[t, channel, m, first + k] = block[m, t * BLOCK + k]


@kernel(fastmath=LOOSE)
def polynomials(
    start: int, stop: int, groups: Any, factors: Any, entry_start: Any, entries: Any,
    coefficients: Any, messages: Any, results: Any,
) -> None:  # fmt: skip
    """The polynomials of channels ``start`` to ``stop``.

    Args:
        start: First channel.
        stop: Channel after the last.
        groups: ``(n_groups + 1,)`` first atom of each element.
        factors: ``(n_monomials, 3)`` components; the last component of the messages is one.
        entry_start: ``(n_monomials + 1,)``.
        entries: ``(n_entries,)`` the component of the result that a monomial adds to.
        coefficients: ``(n_groups, channels, n_entries)``.
        messages: ``(1, channels, n_components + 1, n_atoms)``.
        results: ``(1, channels, n_results, n_atoms)``, the result.
    """
    x = np.zeros((messages.shape[2], BLOCK), messages.dtype)
    total = np.zeros((results.shape[2], BLOCK), messages.dtype)
    product = np.zeros(BLOCK, messages.dtype)
    for channel in range(start, stop):
        for group in range(len(groups) - 1):
            weights = coefficients[group, channel]
            for first in range(groups[group], groups[group + 1], BLOCK):
                n = min(BLOCK, groups[group + 1] - first)
                _load(messages, channel, first, n, x)
                total[:] = 0
                for m in range(len(factors)):
                    a, b, c = x[factors[m, 0]], x[factors[m, 1]], x[factors[m, 2]]
                    for k in range(BLOCK):
                        product[k] = a[k] * b[k] * c[k]
                    for s in range(entry_start[m], entry_start[m + 1]):
                        target, w = total[entries[s]], weights[s]
                        for k in range(BLOCK):
                            target[k] += w * product[k]
                _store(total, channel, first, n, results)


@kernel(fastmath=LOOSE)
def polynomials_backward(
    start: int, stop: int, groups: Any, factors: Any, entry_start: Any, entries: Any,
    coefficients: Any, messages: Any, above: Any, messages_bar: Any,
) -> None:  # fmt: skip
    """Derivatives with respect to the messages; ``above`` is that with respect to the results."""
    x = np.zeros((messages.shape[2], BLOCK), messages.dtype)
    d = np.zeros((messages.shape[2], BLOCK), messages.dtype)
    up = np.zeros((above.shape[2], BLOCK), messages.dtype)
    weighted = np.zeros(BLOCK, messages.dtype)
    for channel in range(start, stop):
        for group in range(len(groups) - 1):
            weights = coefficients[group, channel]
            for first in range(groups[group], groups[group + 1], BLOCK):
                n = min(BLOCK, groups[group + 1] - first)
                _load(messages, channel, first, n, x)
                _load(above, channel, first, n, up)
                d[:] = 0
                for m in range(len(factors)):
                    for k in range(BLOCK):
                        weighted[k] = 0
                    for s in range(entry_start[m], entry_start[m + 1]):
                        source, w = up[entries[s]], weights[s]
                        for k in range(BLOCK):
                            weighted[k] += w * source[k]
                    a, b, c = factors[m, 0], factors[m, 1], factors[m, 2]
                    _to_factor(weighted, x[b], x[c], d[a])
                    _to_factor(weighted, x[a], x[c], d[b])
                    _to_factor(weighted, x[a], x[b], d[c])
                _store(d, channel, first, n, messages_bar)


@numba.njit(fastmath=LOOSE, **INNER)
def _to_factor(weighted: Any, y: Any, z: Any, d: Any) -> None:
    """Add the derivative with respect to one factor."""
    for k in range(BLOCK):
        d[k] += weighted[k] * y[k] * z[k]


@numba.njit(fastmath=LOOSE, **INNER)
def _dual_product(a: Any, b: Any, c: Any, product: Any) -> None:
    """Three factors with tangents."""
    for k in range(BLOCK):
        ab = a[k] * b[k]
        along = a[BLOCK + k] * b[k] + a[k] * b[BLOCK + k]
        product[k] = ab * c[k]
        product[BLOCK + k] = along * c[k] + ab * c[BLOCK + k]


@numba.njit(fastmath=LOOSE, **INNER)
def _to_dual_factor(weighted: Any, y: Any, z: Any, d: Any) -> None:
    """Add the derivatives with respect to one factor and its tangent."""
    for k in range(BLOCK):
        yz = y[k] * z[k]
        along = y[BLOCK + k] * z[k] + y[k] * z[BLOCK + k]
        d[k] += weighted[k] * yz + weighted[BLOCK + k] * along
        d[BLOCK + k] += weighted[BLOCK + k] * yz


@kernel(fastmath=LOOSE)
def dual_polynomials(
    start: int, stop: int, groups: Any, factors: Any, entry_start: Any, entries: Any,
    coefficients: Any, messages: Any, results: Any,
) -> None:  # fmt: skip
    """As :func:`polynomials`, with tangents; the tangent of one is zero."""
    x = np.zeros((messages.shape[2], 2 * BLOCK), messages.dtype)
    total = np.zeros((results.shape[2], 2 * BLOCK), messages.dtype)
    product = np.zeros(2 * BLOCK, messages.dtype)
    for channel in range(start, stop):
        for group in range(len(groups) - 1):
            weights = coefficients[group, channel]
            for first in range(groups[group], groups[group + 1], BLOCK):
                n = min(BLOCK, groups[group + 1] - first)
                _load(messages, channel, first, n, x)
                total[:] = 0
                for m in range(len(factors)):
                    _dual_product(x[factors[m, 0]], x[factors[m, 1]], x[factors[m, 2]], product)
                    for s in range(entry_start[m], entry_start[m + 1]):
                        target, w = total[entries[s]], weights[s]
                        for k in range(2 * BLOCK):
                            target[k] += w * product[k]
                _store(total, channel, first, n, results)


@kernel(fastmath=LOOSE)
def dual_polynomials_backward(
    start: int, stop: int, groups: Any, factors: Any, entry_start: Any, entries: Any,
    coefficients: Any, messages: Any, above: Any, messages_bar: Any, coefficients_bar: Any,
) -> None:  # fmt: skip
    """Derivatives with respect to messages, with tangents, and coefficients."""
    x = np.zeros((messages.shape[2], 2 * BLOCK), messages.dtype)
    d = np.zeros((messages.shape[2], 2 * BLOCK), messages.dtype)
    up = np.zeros((above.shape[2], 2 * BLOCK), messages.dtype)
    product = np.zeros(2 * BLOCK, messages.dtype)
    weighted = np.zeros(2 * BLOCK, messages.dtype)
    for channel in range(start, stop):
        for group in range(len(groups) - 1):
            weights, weights_bar = coefficients[group, channel], coefficients_bar[group, channel]
            for first in range(groups[group], groups[group + 1], BLOCK):
                n = min(BLOCK, groups[group + 1] - first)
                _load(messages, channel, first, n, x)
                _load(above, channel, first, n, up)
                d[:] = 0
                for m in range(len(factors)):
                    a, b, c = factors[m, 0], factors[m, 1], factors[m, 2]
                    _dual_product(x[a], x[b], x[c], product)
                    for k in range(2 * BLOCK):
                        weighted[k] = 0
                    for s in range(entry_start[m], entry_start[m + 1]):
                        source, w = up[entries[s]], weights[s]
                        dot = w * 0
                        for k in range(2 * BLOCK):
                            weighted[k] += w * source[k]
                            dot += product[k] * source[k]
                        weights_bar[s] += dot
                    _to_dual_factor(weighted, x[b], x[c], d[a])
                    _to_dual_factor(weighted, x[a], x[c], d[b])
                    _to_dual_factor(weighted, x[a], x[b], d[c])
                _store(d, channel, first, n, messages_bar)

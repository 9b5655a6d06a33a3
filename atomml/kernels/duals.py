"""Activations of values and their tangents together, and the way back through both.

A training step needs the derivative of a directional derivative: forwards carries for each
number its tangent along one direction, backwards brings the gradient of both to both. A block
holds the values in its first ``half`` rows and their tangents in the next.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE, NORM_EPSILON, sigmoid

__all__ = ["gate_duals", "gate_duals_backward", "silu_duals", "silu_duals_backward"]


@numba.njit(fastmath=LOOSE, error_model="numpy")
def silu_duals(x: Any, result: Any, half: int) -> None:
    """``result = silu(x)`` with tangents, both ``(2 * half, width)``."""
    one = x.dtype.type(1)
    for i in range(half):
        for j in range(x.shape[1]):
            v = x[i, j]
            p = sigmoid(v)
            result[i, j] = v * p
            result[half + i, j] = x[half + i, j] * p * (one + v * (one - p))


@numba.njit(fastmath=LOOSE, error_model="numpy")
def silu_duals_backward(x: Any, gradient: Any, half: int) -> None:
    """Turn the gradient of :func:`silu_duals`' result into that of its argument, in place."""
    one, two = x.dtype.type(1), x.dtype.type(2)
    for i in range(half):
        for j in range(x.shape[1]):
            v = x[i, j]
            p = sigmoid(v)
            slope = p * (one + v * (one - p))
            curvature = p * (one - p) * (two + v * (one - two * p))
            along = gradient[half + i, j]
            gradient[i, j] = gradient[i, j] * slope + along * curvature * x[half + i, j]
            gradient[half + i, j] = along * slope


@numba.njit(fastmath=LOOSE, error_model="numpy")
def _norm_of(y: Any, i: int, half: int, first: int, c: int) -> Any:
    """1 / standard deviation of a centred row, and the mean of its normalised row times its tangent."""
    zero = y.dtype.type(0)
    square, along = zero, zero
    for j in range(first, first + c):
        square += y[i, j] * y[i, j]
        along += y[i, j] * y[half + i, j]
    width = y.dtype.type(c)
    inverse = y.dtype.type(1) / np.sqrt(square / width + y.dtype.type(NORM_EPSILON))
    return inverse, inverse * along / width


@numba.njit(fastmath=LOOSE, error_model="numpy")
def gate_duals(y: Any, half: int, n_rows: int, scale: Any, shift: Any, message: Any) -> None:
    """Layer norm of core and gate, then ``silu(core) * sigmoid(gate)``, with tangents.

    Args:
        y: ``(2 * half, 2c)`` core and gate, each already without its mean.
        half: Where tangents start.
        n_rows: Rows that count, at most ``half``.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        message: ``(2 * half, c)`` the result.
    """
    c = message.shape[1]
    one = y.dtype.type(1)
    for i in range(n_rows):
        r0, p0 = _norm_of(y, i, half, 0, c)
        r1, p1 = _norm_of(y, i, half, c, c)
        for j in range(c):
            n0, n1 = y[i, j] * r0, y[i, c + j] * r1
            a, b = n0 * scale[j] + shift[j], n1 * scale[c + j] + shift[c + j]
            da = r0 * (y[half + i, j] - n0 * p0) * scale[j]
            db = r1 * (y[half + i, c + j] - n1 * p1) * scale[c + j]
            p, q = sigmoid(a), sigmoid(b)
            message[i, j] = a * p * q
            message[half + i, j] = p * q * ((one + a * (one - p)) * da + a * (one - q) * db)


@numba.njit(fastmath=LOOSE, error_model="numpy")
def gate_duals_backward(
    y: Any,
    half: int,
    n_rows: int,
    scale: Any,
    shift: Any,
    gradient: Any,
    message: Any,
    back: Any,
    scale_gradient: Any,
    shift_gradient: Any,
) -> None:
    """The way back through :func:`gate_duals`, whose arguments it shares.

    Args:
        y: As there.
        half: As there.
        n_rows: As there.
        scale: As there.
        shift: As there.
        gradient: ``(2 * half, c)`` with respect to the message.
        message: ``(2 * half, c)`` the message again, recomputed on the way.
        back: ``(2 * half, 2c)`` gradient with respect to ``y``; its mean is taken off by the
            centred weights.
        scale_gradient: ``(2c,)``, added to.
        shift_gradient: ``(2c,)``, added to.
    """
    c = message.shape[1]
    for i in range(n_rows):
        r0, p0 = _norm_of(y, i, half, 0, c)
        r1, p1 = _norm_of(y, i, half, c, c)
        _gate_row_backward(y, i, half, r0, p0, r1, p1, scale, shift, gradient, message, back)
        _norm_backward(y, i, half, 0, c, r0, p0, scale, back, scale_gradient, shift_gradient)
        _norm_backward(y, i, half, c, c, r1, p1, scale, back, scale_gradient, shift_gradient)


@numba.njit(fastmath=LOOSE, error_model="numpy")
def _gate_row_backward(
    y: Any, i: int, half: int, r0: Any, p0: Any, r1: Any, p1: Any,
    scale: Any, shift: Any, gradient: Any, message: Any, back: Any,
) -> None:  # fmt: skip
    """One row of :func:`gate_duals_backward`, back to what the norms gave.

    Not one loop with :func:`_norm_backward`: LLVM gives up vectorising where too many arrays might overlap.
    """
    c = message.shape[1]
    one, two = y.dtype.type(1), y.dtype.type(2)
    for j in range(c):
        n0, n1 = y[i, j] * r0, y[i, c + j] * r1
        a, b = n0 * scale[j] + shift[j], n1 * scale[c + j] + shift[c + j]
        da = r0 * (y[half + i, j] - n0 * p0) * scale[j]
        db = r1 * (y[half + i, c + j] - n1 * p1) * scale[c + j]
        p, q = sigmoid(a), sigmoid(b)
        silu, slope = a * p, p * (one + a * (one - p))
        curvature = p * (one - p) * (two + a * (one - two * p))
        steep = q * (one - q)
        bend = steep * (one - two * q)
        message[i, j] = silu * q
        message[half + i, j] = slope * da * q + silu * steep * db
        value, along = gradient[i, j], gradient[half + i, j]
        back[i, j] = value * slope * q + along * (curvature * da * q + slope * steep * db)
        back[half + i, j] = along * slope * q
        back[i, c + j] = value * silu * steep + along * (slope * da * steep + silu * bend * db)
        back[half + i, c + j] = along * silu * steep


@numba.njit(fastmath=LOOSE, error_model="numpy")
def _norm_backward(
    y: Any, i: int, half: int, first: int, c: int, r: Any, p: Any,
    scale: Any, back: Any, scale_gradient: Any, shift_gradient: Any,
) -> None:  # fmt: skip
    """From the gradient of a norm's scaled result to that of the centred row, in place in ``back``.

    With n the normalised row, n' its tangent, z' the centred row's, and h and g the gradients of
    n and n': r is 1 / standard deviation, and p, u, q, e are the means of n z', h n, g n and g n'.
    """
    u = y.dtype.type(0)
    q, e, width = u, u, y.dtype.type(c)
    for j in range(first, first + c):
        n = y[i, j] * r
        dn = r * (y[half + i, j] - n * p)
        to_value, to_along = back[i, j], back[half + i, j]
        scale_gradient[j] += to_value * n + to_along * dn
        shift_gradient[j] += to_value
        u += to_value * scale[j] * n
        q += to_along * scale[j] * n
        e += to_along * scale[j] * dn
    u, q, e = u / width, q / width, e / width
    total = e + u - y.dtype.type(2) * r * p * q
    for j in range(first, first + c):
        n = y[i, j] * r
        h, g = back[i, j] * scale[j], back[half + i, j] * scale[j]
        back[i, j] = r * (h - r * (p * g + q * y[half + i, j]) - n * total)
        back[half + i, j] = r * (g - q * n)

"""Activations of values and their tangents together, and the way back through both.

A training step needs the derivative of a directional derivative: forwards carries for each
number its tangent along one direction, backwards brings the gradient of both to both. A block
holds values in its first ``HALF`` rows and their tangents in the next; all rows are worked on,
whether they count or not, as LLVM vectorises these loops only where their length is known.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from atomml.kernels.activations import LOOSE, NORM_EPSILON, sigmoid
from atomml.kernels.compile import INNER
from atomml.kernels.gemm import BLOCK

__all__ = ["HALF", "gate_duals", "gate_duals_backward", "silu_duals", "silu_duals_backward"]

HALF = BLOCK // 2
"""Rows that are worked on at a time, with as many of tangents."""


@numba.njit(fastmath=LOOSE, **INNER)
def silu_duals(x: Any, result: Any) -> None:
    """``result = silu(x)`` with tangents, both ``(2 * HALF, width)``."""
    one = x.dtype.type(1)
    for i in range(HALF):
        for j in range(x.shape[1]):
            v = x[i, j]
            p = sigmoid(v)
            result[i, j] = v * p
            result[HALF + i, j] = x[HALF + i, j] * p * (one + v * (one - p))


@numba.njit(fastmath=LOOSE, **INNER)
def silu_duals_backward(x: Any, gradient: Any) -> None:
    """Turn the gradient of :func:`silu_duals`' result into that of its argument, in place."""
    one, two = x.dtype.type(1), x.dtype.type(2)
    for i in range(HALF):
        for j in range(x.shape[1]):
            v = x[i, j]
            p = sigmoid(v)
            slope = p * (one + v * (one - p))
            curvature = p * (one - p) * (two + v * (one - two * p))
            along = gradient[HALF + i, j]
            gradient[i, j] = gradient[i, j] * slope + along * curvature * x[HALF + i, j]
            gradient[HALF + i, j] = along * slope


@numba.njit(fastmath=LOOSE, **INNER)
def _norm_of(y: Any, i: int, first: int, c: int) -> Any:
    """1 / standard deviation of a centred row, and the mean of its normalised row times its tangent."""
    zero = y.dtype.type(0)
    square, along = zero, zero
    for j in range(first, first + c):
        square += y[i, j] * y[i, j]
        along += y[i, j] * y[HALF + i, j]
    width = y.dtype.type(c)
    inverse = y.dtype.type(1) / np.sqrt(square / width + y.dtype.type(NORM_EPSILON))
    return inverse, inverse * along / width


@numba.njit(fastmath=LOOSE, **INNER)
def gate_duals(y: Any, scale: Any, shift: Any, message: Any) -> None:
    """Layer norm of core and gate, then ``silu(core) * sigmoid(gate)``, with tangents.

    Args:
        y: ``(2 * HALF, 2c)`` core and gate, each already without its mean.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        message: ``(2 * HALF, c)`` the result.
    """
    c = message.shape[1]
    one = y.dtype.type(1)
    for i in range(HALF):
        r0, p0 = _norm_of(y, i, 0, c)
        r1, p1 = _norm_of(y, i, c, c)
        for j in range(c):
            n0, n1 = y[i, j] * r0, y[i, c + j] * r1
            a, b = n0 * scale[j] + shift[j], n1 * scale[c + j] + shift[c + j]
            da = r0 * (y[HALF + i, j] - n0 * p0) * scale[j]
            db = r1 * (y[HALF + i, c + j] - n1 * p1) * scale[c + j]
            p, q = sigmoid(a), sigmoid(b)
            message[i, j] = a * p * q
            message[HALF + i, j] = p * q * ((one + a * (one - p)) * da + a * (one - q) * db)


@numba.njit(fastmath=LOOSE, **INNER)
def gate_duals_backward(
    y: Any,
    scale: Any,
    shift: Any,
    gradient: Any,
    message: Any,
    back: Any,
    scale_gradient: Any,
    shift_gradient: Any,
) -> None:
    """The way back through :func:`gate_duals`.

    Args:
        y: ``(2 * HALF, 2c)`` core and gate as they went in, centred; values, then tangents.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        gradient: ``(2 * HALF, c)`` with respect to the message.
        message: ``(2 * HALF, c)`` the message again, recomputed on the way.
        back: ``(2 * HALF, 2c)`` gradient with respect to ``y``; its mean is taken off by the
            centred weights.
        scale_gradient: ``(2c,)``, added to.
        shift_gradient: ``(2c,)``, added to.
    """
    # Not one loop: LLVM gives up vectorising where too many arrays might overlap.
    _gates_backward(y, scale, shift, gradient, message, back)
    _norms_backward(y, scale, back, scale_gradient, shift_gradient)


@numba.njit(fastmath=LOOSE, **INNER)
def _gates_backward(y: Any, scale: Any, shift: Any, gradient: Any, message: Any, back: Any) -> None:
    """All rows of a block, back to what the norms gave."""
    c = message.shape[1]
    for i in range(HALF):
        r0, p0 = _norm_of(y, i, 0, c)
        r1, p1 = _norm_of(y, i, c, c)
        _gate_backward(y, i, r0, p0, r1, p1, scale, shift, gradient, message, back)


@numba.njit(fastmath=LOOSE, **INNER)
def _norms_backward(y: Any, scale: Any, back: Any, scale_gradient: Any, shift_gradient: Any) -> None:
    """All rows of a block, back through both norms."""
    c = y.shape[1] // 2
    for i in range(HALF):
        r0, p0 = _norm_of(y, i, 0, c)
        r1, p1 = _norm_of(y, i, c, c)
        _norm_backward(y, i, 0, c, r0, p0, scale, back, scale_gradient, shift_gradient)
        _norm_backward(y, i, c, c, r1, p1, scale, back, scale_gradient, shift_gradient)


@numba.njit(fastmath=LOOSE, **INNER)
def _gate_backward(
    y: Any, i: int, r0: Any, p0: Any, r1: Any, p1: Any,
    scale: Any, shift: Any, gradient: Any, message: Any, back: Any,
) -> None:  # fmt: skip
    """Row ``i`` of :func:`gate_duals_backward`, back to what the norms gave."""
    c = message.shape[1]
    one, two = y.dtype.type(1), y.dtype.type(2)
    for j in range(c):
        n0, n1 = y[i, j] * r0, y[i, c + j] * r1
        a, b = n0 * scale[j] + shift[j], n1 * scale[c + j] + shift[c + j]
        da = r0 * (y[HALF + i, j] - n0 * p0) * scale[j]
        db = r1 * (y[HALF + i, c + j] - n1 * p1) * scale[c + j]
        p, q = sigmoid(a), sigmoid(b)
        silu, slope = a * p, p * (one + a * (one - p))
        curvature = p * (one - p) * (two + a * (one - two * p))
        steep = q * (one - q)
        bend = steep * (one - two * q)
        message[i, j] = silu * q
        message[HALF + i, j] = slope * da * q + silu * steep * db
        value, along = gradient[i, j], gradient[HALF + i, j]
        back[i, j] = value * slope * q + along * (curvature * da * q + slope * steep * db)
        back[HALF + i, j] = along * slope * q
        back[i, c + j] = value * silu * steep + along * (slope * da * steep + silu * bend * db)
        back[HALF + i, c + j] = along * silu * steep


@numba.njit(fastmath=LOOSE, **INNER)
def _norm_backward(
    y: Any, i: int, first: int, c: int, r: Any, p: Any,
    scale: Any, back: Any, scale_gradient: Any, shift_gradient: Any,
) -> None:  # fmt: skip
    """From the gradient of a norm's scaled result to that of the centred row, in place in ``back``.

    With n the normalised row, n' its tangent, z' the centred row's, and h and g the gradients of
    n and n': r is 1 / standard deviation, and p, u, q, e are the means of n z', h n, g n and g n'.
    """
    width = y.dtype.type(c)
    u = y.dtype.type(0)
    q, e = u, u
    for j in range(first, first + c):
        n = y[i, j] * r
        dn = r * (y[HALF + i, j] - n * p)
        to_value, to_along = back[i, j], back[HALF + i, j]
        scale_gradient[j] += to_value * n + to_along * dn
        shift_gradient[j] += to_value
        u += to_value * scale[j] * n
        q += to_along * scale[j] * n
        e += to_along * scale[j] * dn
    u, q, e = u / width, q / width, e / width
    total = e + u - y.dtype.type(2) * r * p * q
    for j in range(first, first + c):
        n = y[i, j] * r
        h, g = back[i, j] * scale[j], back[HALF + i, j] * scale[j]
        back[i, j] = r * (h - r * (p * g + q * y[HALF + i, j]) - n * total)
        back[HALF + i, j] = r * (g - q * n)

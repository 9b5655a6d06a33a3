"""Exponentials, gates and layer norms on rows, written so that the compiler vectorises them."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from atomml.kernels.compile import INNER

__all__ = [
    "NORM_EPSILON",
    "exponential",
    "gate_backward",
    "gate_forward",
    "sigmoid",
    "sigmoids",
    "silu_backward",
    "silu_rows",
    "sine_cosine",
]

EXACT = {"contract", "nnan", "ninf", "nsz"}
"""Fast-math without reassociation: the split of a range reduction must stay as written."""

LOOSE = {"contract", "nnan", "ninf", "nsz", "reassoc", "arcp"}
"""With it, so that sums over a row become vector sums; the order is fixed at compile time."""

NORM_EPSILON = 1e-5
"""What every layer norm here adds to a variance, as torch's does by default."""

_LOG2E = 1.4426950408889634
_EXP32 = tuple(1 / math.factorial(k) for k in range(8))
_EXP64 = tuple(1 / math.factorial(k) for k in range(14))


@intrinsic
def _power_of_two(typingctx: Any, exponent: Any) -> Any:
    """2 to a whole number given as a float, by writing the exponent's bits."""
    if exponent not in (types.float32, types.float64):
        return None
    single = exponent == types.float32

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """The exponent's bits, set by shift."""
        word = ir.IntType(32 if single else 64)
        bias, shift = (127, 23) if single else (1023, 52)
        whole = builder.fptosi(arguments[0], word)
        bits = builder.shl(builder.add(whole, word(bias)), word(shift))
        return builder.bitcast(bits, ir.FloatType() if single else ir.DoubleType())

    return exponent(exponent), emit


def exponential(x: Any) -> Any:
    """``exp(x)``, clipped to the normal range; within 1 ulp or two of libm's.

    Taylor series after reduction by ln 2: |r| <= ln2/2, so the first term left out is
    below 4e-9 (float32, degree 7) and 4e-18 (float64, degree 13) of the result.
    """
    raise NotImplementedError


@overload(exponential, jit_options={"fastmath": EXACT, **INNER}, inline="never")
def _exponential(x: Any) -> Any:
    if x == types.float32:
        log2e, high, low = np.float32(_LOG2E), np.float32(0.693359375), np.float32(-2.12194440e-4)
        limit, half = np.float32(87.0), np.float32(0.5)
        c2, c3, c4, c5, c6, c7 = (np.float32(c) for c in _EXP32[2:])
        one = np.float32(1.0)

        def single(x: Any) -> Any:
            """exp(x) in float32."""
            x = min(max(x, -limit), limit)
            n = np.floor(x * log2e + half)
            r = (x - n * high) - n * low
            series = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))
            return (one + (r + r * r * series)) * _power_of_two(n)

        return single
    high64, low64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13 = _EXP64[2:]

    def double(x: Any) -> Any:
        """exp(x) in float64."""
        x = min(max(x, -700.0), 700.0)
        n = np.floor(x * _LOG2E + 0.5)
        r = (x - n * high64) - n * low64
        tail = d8 + r * (d9 + r * (d10 + r * (d11 + r * (d12 + r * d13))))
        series = d2 + r * (d3 + r * (d4 + r * (d5 + r * (d6 + r * (d7 + r * tail)))))
        return (1.0 + (r + r * r * series)) * _power_of_two(n)

    return double


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` in the type of ``x``."""
    raise NotImplementedError


@overload(sigmoid, jit_options={"fastmath": EXACT, **INNER}, inline="never")
def _sigmoid(x: Any) -> Any:
    # numba makes float64 of a float32 and a whole number, so 1 has a type of its own.
    one = np.float32(1.0) if x == types.float32 else np.float64(1.0)

    def typed(x: Any) -> Any:
        """1 / (1 + exp(-x)) in the type of its argument."""
        return one / (one + exponential(-x))

    return typed


def sigmoids(a: Any, b: Any) -> Any:
    """``sigmoid(a), sigmoid(b)`` by one division; below -43 (float64: -350) they are those of the limit."""
    raise NotImplementedError


@overload(sigmoids, jit_options={"fastmath": EXACT, **INNER}, inline="never")
def _sigmoids(a: Any, b: Any) -> Any:
    one = np.float32(1.0) if a == types.float32 else np.float64(1.0)
    limit = np.float32(43.0) if a == types.float32 else np.float64(350.0)  # the product below stays finite

    def typed(a: Any, b: Any) -> Any:
        """Both in the type of the arguments."""
        u, v = one + exponential(min(-a, limit)), one + exponential(min(-b, limit))
        r = one / (u * v)
        return v * r, u * r

    return typed


@numba.njit(fastmath=EXACT, **INNER)
def sine_cosine(x: float) -> tuple[float, float]:
    """Sine and cosine in float64 for |x| below some thousands, vectorisable.

    Taylor series after reduction by pi: |r| <= pi/2, first terms left out below 1e-17.
    """
    n = np.floor(x * 0.31830988618379067154 + 0.5)
    r = ((x - n * 3.1415926535846666) - n * 5.126688e-12) - n * 4.45e-19
    sign = 1.0 - 2.0 * (n - 2.0 * np.floor(n * 0.5))
    q = r * r
    s = -1.9572941063391263e-20 * q + 8.22063524662433e-18
    s = s * q - 2.8114572543455206e-15
    s = s * q + 7.647163731819816e-13
    s = s * q - 1.6059043836821613e-10
    s = s * q + 2.505210838544172e-08
    s = s * q - 2.7557319223985893e-06
    s = s * q + 1.984126984126984e-04
    s = s * q - 8.333333333333333e-03
    s = s * q + 1.6666666666666666e-01
    c = -8.896791392450574e-22 * q + 4.110317623312165e-19
    c = c * q - 1.5619206968586225e-16
    c = c * q + 4.779477332387385e-14
    c = c * q - 1.1470745597729725e-11
    c = c * q + 2.08767569878681e-09
    c = c * q - 2.755731922398589e-07
    c = c * q + 2.48015873015873e-05
    c = c * q - 1.388888888888889e-03
    c = c * q + 4.1666666666666664e-02
    c = c * q - 0.5
    return sign * (r - r * q * s), sign * (1.0 + q * c)


@numba.njit(fastmath=LOOSE, **INNER)
def silu_rows(h: Any, s: Any, n_rows: int) -> None:
    """``s = silu(h)`` for the first rows of two equal blocks."""
    for i in range(n_rows):
        for j in range(h.shape[1]):
            x = h[i, j]
            s[i, j] = x * sigmoid(x)


@numba.njit(fastmath=LOOSE, **INNER)
def silu_backward(h: Any, h_row: int, gradient: Any, n_rows: int) -> None:
    """Multiply ``gradient`` by the derivative of SiLU at rows ``h[h_row:]``."""
    one = h.dtype.type(1)
    for i in range(n_rows):
        for j in range(gradient.shape[1]):
            x = h[h_row + i, j]
            p = sigmoid(x)
            gradient[i, j] *= p * (one + x * (one - p))


@numba.njit(fastmath=LOOSE, **INNER)
def gate_forward(
    y: Any, n_rows: int, scale: Any, shift: Any, normed: Any, row: int, inverse: Any, message: Any
) -> None:
    """Layer norm of core and gate, then ``silu(core) * sigmoid(gate)``.

    Args:
        y: ``(>= n_rows, 2c)`` core and gate, each already without its mean.
        n_rows: Rows of the block.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        normed: ``(n, 2c)``; the normalised rows go to ``normed[row:]``, for the way back.
        row: First row of the block in ``normed`` and ``inverse``.
        inverse: ``(n, 2)`` 1 / standard deviation of core and gate.
        message: ``(>= n_rows, c)`` the result.
    """
    c = message.shape[1]
    one, width, epsilon = y.dtype.type(1), y.dtype.type(c), y.dtype.type(NORM_EPSILON)
    for i in range(n_rows):
        v0 = y.dtype.type(0)
        v1 = v0
        for j in range(c):
            v0 += y[i, j] * y[i, j]
            v1 += y[i, c + j] * y[i, c + j]
        inverse[row + i, 0] = one / np.sqrt(v0 / width + epsilon)
        inverse[row + i, 1] = one / np.sqrt(v1 / width + epsilon)
        r0 = inverse[row + i, 0]
        r1 = inverse[row + i, 1]
        for j in range(c):
            n0 = y[i, j] * r0
            n1 = y[i, c + j] * r1
            normed[row + i, j] = n0
            normed[row + i, c + j] = n1
            a = n0 * scale[j] + shift[j]
            b = n1 * scale[c + j] + shift[c + j]
            p, q = sigmoids(a, b)
            message[i, j] = a * p * q


@numba.njit(fastmath=LOOSE, **INNER)
def gate_backward(
    gradient: Any,
    n_rows: int,
    scale: Any,
    shift: Any,
    normed: Any,
    row: int,
    inverse: Any,
    message: Any,
    back: Any,
) -> None:
    """The way back through :func:`gate_forward`.

    Args:
        gradient: ``(>= n_rows, c)`` with respect to the message.
        n_rows: Rows of the block.
        scale: ``(2c,)`` of the layer norms.
        shift: ``(2c,)`` of the layer norms.
        normed: ``(n, 2c)`` normalised rows, as the way forwards left them.
        row: First row of the block in ``normed`` and ``inverse``.
        inverse: ``(n, 2)`` 1 / standard deviation of core and gate.
        message: ``(>= n_rows, c)`` the message again, recomputed on the way.
        back: ``(>= n_rows, 2c)`` gradient with respect to the centred rows; its mean is taken
            off by the centred weights.
    """
    c = message.shape[1]
    one, width = gradient.dtype.type(1), gradient.dtype.type(c)
    for i in range(n_rows):
        t0 = gradient.dtype.type(0)
        t1 = t0
        for j in range(c):
            n0 = normed[row + i, j]
            n1 = normed[row + i, c + j]
            a = n0 * scale[j] + shift[j]
            b = n1 * scale[c + j] + shift[c + j]
            p, q = sigmoids(a, b)
            message[i, j] = a * p * q
            d0 = gradient[i, j] * q * p * (one + a * (one - p)) * scale[j]
            d1 = gradient[i, j] * a * p * q * (one - q) * scale[c + j]
            back[i, j] = d0
            back[i, c + j] = d1
            t0 += d0 * n0
            t1 += d1 * n1
        t0 = t0 / width
        t1 = t1 / width
        r0 = inverse[row + i, 0]
        r1 = inverse[row + i, 1]
        for j in range(c):
            back[i, j] = (back[i, j] - normed[row + i, j] * t0) * r0
            back[i, c + j] = (back[i, c + j] - normed[row + i, c + j] * t1) * r1

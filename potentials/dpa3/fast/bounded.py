"""The non-linearities of DPA3 as one: SiLU up to a threshold, above it a tanh.

Blocks are done by whole vectors of the machine, emitted here: what LLVM makes of a loop uses vectors of half
that width on processors with AVX-512, and such a chain of operations, each waiting for the one before, takes
as long for a half as for a whole.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from atomml.kernels.activations import LOOSE, exponential
from atomml.kernels.compile import INNER
from atomml.kernels.vectors import Vectors, vector_lanes

__all__ = [
    "bounded_parameters",
    "slope",
    "value",
    "value_and_bends_of_block",
    "value_and_slope_of_block",
    "value_of_block",
]


def bounded_parameters(name: str, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Threshold, rate, shift and offset of a non-linearity; None of one that is not of this kind.

    Above the threshold it is ``2 / (1 + exp(shift - rate x)) - 1 + offset``, which is a tanh.
    """
    kind, _, given = name.lower().partition(":")
    if kind == "silu":
        return np.array([1e30, 1.0, 0.0, 0.0], dtype)
    if kind == "tanh":
        return np.array([-1e30, 2.0, 0.0, 0.0], dtype)
    if kind not in ("silut", "custom_silu"):
        return None
    threshold = float(given or 3.0)
    sigmoid = 1 / (1 + math.exp(-threshold))
    rate = 2 * (sigmoid + threshold * sigmoid * (1 - sigmoid))
    return np.array([threshold, rate, rate * threshold, threshold * sigmoid], dtype)


@numba.njit(fastmath=LOOSE, **INNER)
def value(x: Any, one: Any, threshold: Any, rate: Any, shift: Any, offset: Any) -> Any:
    """The non-linearity."""
    below = x < threshold
    u = one / (one + exponential(-x if below else shift - rate * x))
    return x * u if below else u + u - one + offset


@numba.njit(fastmath=LOOSE, **INNER)
def slope(x: Any, one: Any, threshold: Any, rate: Any, shift: Any) -> Any:
    """Its derivative."""
    below = x < threshold
    u = one / (one + exponential(-x if below else shift - rate * x))
    return u * (one + x * (one - u)) if below else (rate + rate) * u * (one - u)


@numba.njit(**INNER)
def value_of_block(y: Any, n_rows: int, act: Any) -> None:
    """Replace the first rows of a block by their values; ``act`` as :func:`bounded_parameters` gives it.

    The block's width is a multiple of a vector's.
    """
    threshold, rate, shift, offset = act[0], act[1], act[2], act[3]
    for at in range(0, n_rows * y.shape[1], vector_lanes(y)):
        _value_of_vector(y, at, threshold, rate, shift, offset)


@numba.njit(**INNER)
def value_and_slope_of_block(y: Any, slopes: Any, n_rows: int, act: Any) -> None:
    """Replace the first rows of a block by their values, and write their derivatives to another."""
    threshold, rate, shift, offset = act[0], act[1], act[2], act[3]
    for at in range(0, n_rows * y.shape[1], vector_lanes(y)):
        _value_and_slope_of_vector(y, at, threshold, rate, shift, offset, slopes)


@numba.njit(**INNER)
def value_and_bends_of_block(y: Any, slopes: Any, curvatures: Any, n_rows: int, act: Any) -> None:
    """Replace the first rows of a block by their values, and write first and second derivatives to others."""
    threshold, rate, shift, offset = act[0], act[1], act[2], act[3]
    for at in range(0, n_rows * y.shape[1], vector_lanes(y)):
        _value_and_bends_of_vector(y, at, threshold, rate, shift, offset, slopes, curvatures)


@intrinsic
def _value_of_vector(
    typingctx: Any, y: Any, at: Any, threshold: Any, rate: Any, shift: Any, offset: Any
) -> Any:
    """The value in place of the numbers from ``at`` on in memory."""
    signature = types.void(y, types.intp, y.dtype, y.dtype, y.dtype, y.dtype)
    return signature, _emit


@intrinsic
def _value_and_slope_of_vector(
    typingctx: Any, y: Any, at: Any, threshold: Any, rate: Any, shift: Any, offset: Any, slopes: Any
) -> Any:
    """The same, and the derivative at the same place of another array."""
    signature = types.void(y, types.intp, y.dtype, y.dtype, y.dtype, y.dtype, slopes)
    return signature, _emit


@intrinsic
def _value_and_bends_of_vector(
    typingctx: Any,
    y: Any,
    at: Any,
    threshold: Any,
    rate: Any,
    shift: Any,
    offset: Any,
    slopes: Any,
    curvatures: Any,
) -> Any:
    """The same, and the second derivative at the same place of a third array."""
    signature = types.void(y, types.intp, y.dtype, y.dtype, y.dtype, y.dtype, slopes, curvatures)
    return signature, _emit


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM code of one vector."""
    v = Vectors(context, builder, signature.args[0].dtype)
    place = v.pointer(signature.args[0], arguments[0], arguments[1])
    x = v.load(place)
    threshold, rate, shift, offset = (v.spread(number) for number in arguments[2:6])
    one = v.constant(1.0)
    below = builder.fcmp_ordered("<", x, threshold)
    above = v.multiply_add(builder.fneg(rate), x, shift)
    u = builder.fdiv(one, builder.fadd(one, v.exponential(builder.select(below, builder.fneg(x), above))))
    bent = builder.fadd(v.multiply_add(u, v.constant(2.0), v.constant(-1.0)), offset)
    v.store(builder.select(below, builder.fmul(x, u), bent), place)
    if len(arguments) >= 7:
        rest, double = builder.fsub(one, u), builder.fadd(rate, rate)
        inner = v.multiply_add(x, rest, one)
        factor = builder.select(below, inner, builder.fmul(double, rest))
        v.store(builder.fmul(u, factor), v.pointer(signature.args[6], arguments[6], arguments[1]))
    if len(arguments) == 8:
        tilt = builder.fsub(rest, u)
        inner = v.multiply_add(x, tilt, v.constant(2.0))
        factor = builder.select(below, inner, builder.fmul(builder.fmul(double, rate), tilt))
        bend = builder.fmul(builder.fmul(u, rest), factor)
        v.store(bend, v.pointer(signature.args[7], arguments[7], arguments[1]))
    return context.get_dummy_value()

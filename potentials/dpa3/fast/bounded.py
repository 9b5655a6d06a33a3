"""The non-linearities of DPA3 as one: SiLU up to a threshold, above it a tanh."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from atomml.kernels.activations import LOOSE, exponential
from atomml.kernels.compile import INNER

__all__ = ["bounded_parameters", "slope", "value", "value_and_slope"]


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


@numba.njit(fastmath=LOOSE, **INNER)
def value_and_slope(x: Any, one: Any, threshold: Any, rate: Any, shift: Any, offset: Any) -> Any:
    """Both."""
    below = x < threshold
    u = one / (one + exponential(-x if below else shift - rate * x))
    if below:
        return x * u, u * (one + x * (one - u))
    return u + u - one + offset, (rate + rate) * u * (one - u)

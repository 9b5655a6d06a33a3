"""Affine maps as DeePMD-kit keeps them, maps of joined features, and non-linearities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from atomml.errors import ModelError

__all__ = ["Affine", "JoinedAffine", "activation"]


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """A non-linearity by DeePMD-kit's name; ``silut:3.0`` (``custom_silu:3.0``) becomes a tanh at 3.

    Raises:
        ModelError: None of that name.
    """
    kind, _, threshold = name.lower().partition(":")
    if kind in ("silut", "custom_silu"):
        return _bounded_silu(float(threshold or 3.0))
    if kind not in _ACTIVATIONS or threshold:
        raise ModelError(
            f"DPA3 has no activation {name!r}: there are {', '.join(_ACTIVATIONS)} and silut:3.0."
        )
    return _ACTIVATIONS[kind]


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "gelu": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "gelu_tf": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "relu6": nn.functional.relu6,
    "softplus": nn.functional.softplus,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
    "none": lambda x: x,
}


def _bounded_silu(threshold: float) -> Callable[[Tensor], Tensor]:
    """SiLU up to a threshold, above it a tanh that continues its value and slope."""
    sigmoid = 1 / (1 + math.exp(-threshold))
    value, slope = threshold * sigmoid, sigmoid + threshold * sigmoid * (1 - sigmoid)

    def apply(x: Tensor) -> Tensor:
        """The two branches, each of the whole input."""
        return torch.where(x < threshold, nn.functional.silu(x), torch.tanh(slope * (x - threshold)) + value)

    return apply


class Affine(nn.Module):
    """``x @ weight + bias``; the weight is ``(n_in, n_out)``, drawn as DeePMD-kit draws it."""

    linear_weights = ("weight",)

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in + n_out))
        self.bias = nn.Parameter(torch.randn(n_out)) if bias else None

    @property
    def offset(self) -> Tensor:
        """The bias, where there must be one."""
        assert self.bias is not None
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        """``(..., n_in)`` to ``(..., n_out)``."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class JoinedAffine(Affine):
    """An affine map of several features side by side, which is a sum of maps of each.

    What many rows share is so multiplied once, and gathered afterwards.
    """

    def __init__(self, widths: Sequence[int], n_out: int) -> None:
        super().__init__(sum(widths), n_out)
        self.widths = list(widths)

    def parts(self) -> tuple[Tensor, ...]:
        """The rows of the weight that belong to each of the features."""
        return torch.split(self.weight, self.widths)

"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from atomml.base_model import Model

__all__ = ["MovingAverage"]


class MovingAverage:
    """``a_t = d_t a_(t-1) + (1 - d_t) w_t`` with ``d_t = min(decay, (1 + t) / (10 + t))``.

    The rising decay (as in TensorFlow's ``ExponentialMovingAverage``) lets the first weights be
    forgotten soon. Only parameters that learn are averaged.

    Args:
        model: Its present weights are where the average starts.
        decay: Largest decay; 0 is no averaging.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.weights = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and decay > 0
        }

    def decay_at(self, step: int) -> float:
        """The decay of the ``step``-th update, counted from 1."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take the model's present weights in, after step ``step`` (from 1)."""
        if not self.weights:
            return
        decay = self.decay_at(step)
        present = dict(model.named_parameters())
        for name, average in self.weights.items():
            average.lerp_(present[name].detach(), 1.0 - decay)

    @contextmanager
    def in_place_of(self, model: Model) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own, to the bit."""
        present = dict(model.named_parameters())
        own: dict[str, Tensor] = {name: present[name].detach().clone() for name in self.weights}
        try:
            with torch.no_grad():
                for name, average in self.weights.items():
                    present[name].copy_(average)
            yield
        finally:
            with torch.no_grad():
                for name, tensor in own.items():
                    present[name].copy_(tensor)

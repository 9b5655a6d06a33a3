"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from atomml.train.low_rank import Weights

__all__ = ["MovingAverage"]


class MovingAverage:
    """``a_t = d_t a_(t-1) + (1 - d_t) w_t`` with ``d_t = min(decay, (1 + t) / (10 + t))``.

    The rising decay (as in TensorFlow's ``ExponentialMovingAverage``) lets the first weights be
    forgotten soon. Only parameters that learn are averaged.

    Args:
        weights: What learns, whose present values are where the average starts.
        decay: Largest decay; 0 is no averaging.
    """

    def __init__(self, weights: Weights, decay: float) -> None:
        self.decay, self._learning = decay, weights
        self.weights = {
            name: parameter.detach().clone() for name, parameter in weights.learning().items() if decay > 0
        }

    def decay_at(self, step: int) -> float:
        """The decay of the ``step``-th update, counted from 1."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the present weights in, after step ``step`` (from 1)."""
        if not self.weights:
            return
        decay = self.decay_at(step)
        present = self._learning.learning()
        for name, average in self.weights.items():
            average.lerp_(present[name].detach(), 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own, to the bit."""
        if not self.weights:
            yield
            return
        present = self._learning.learning()
        own: dict[str, Tensor] = {name: present[name].detach().clone() for name in self.weights}
        try:
            self._put(self.weights)
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        present = self._learning.learning()
        for name, value in values.items():
            present[name].copy_(value)
        self._learning.put()

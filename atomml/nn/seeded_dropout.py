"""Dropout whose draws follow from a seed and a step, so that a resumed training draws the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SeededDropout"]


class SeededDropout(nn.Module):
    """Leaves out a share of the channels in training, and scales the others up.

    Srivastava et al., J. Mach. Learn. Res. 15, 1929 (2014).

    Args:
        share: Probability that a channel is left out.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._generator: torch.Generator | None = None

    def begin_step(self, step: int, seed: int) -> None:
        """What is drawn from here on follows from seed and step."""
        self._generator = torch.Generator().manual_seed(1_000_003 * seed + step)

    def forward(self, h: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or self.share <= 0:
            return h
        kept = torch.rand(h.shape, generator=self._generator) >= self.share
        return h * kept.to(h) / (1.0 - self.share)

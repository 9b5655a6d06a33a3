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
        self._seeds: tuple[int, int] | None = None
        self._draws = 0
        self._rows = slice(0, None, 1)

    def begin_step(self, step: int, seed: int) -> None:
        """What is drawn from here on follows from seed and step."""
        self._seeds, self._draws = (seed, step), 0

    def share_rows(self, rank: int, n: int) -> None:
        """From now on rows are every n-th of a batch, from ``rank`` on; as one process would draw."""
        self._rows = slice(rank, None, n)

    def forward(self, h: Tensor) -> Tensor:
        """The same shape, ``(n_rows, n_channels)``."""
        if not self.training or self.share <= 0:
            return h
        whole = (len(h) * self._rows.step, *h.shape[1:])
        kept = torch.rand(whole, generator=self._generator())[self._rows] >= self.share
        return h * kept.to(h) / (1.0 - self.share)

    def _generator(self) -> torch.Generator | None:
        """A new one for each draw: how many rows the last one had is no matter."""
        if self._seeds is None:
            return None
        seed, step = self._seeds
        self._draws += 1
        return torch.Generator().manual_seed((1_000_003 * seed + step) * 1009 + self._draws)

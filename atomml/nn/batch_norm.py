"""Batch normalisation whose rows may count with weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BatchNorm"]


class BatchNorm(nn.BatchNorm1d):
    """Ioffe and Szegedy, ICML 2015, over the rows of ``(n_rows, n_channels)``.

    Rows with weights enter mean and variance by these, as if each stood there so many times. One row alone
    has no variance: the running statistics serve then, as they do after training.
    """

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Normalised rows.

        Args:
            x: ``(n_rows, n_channels)``.
            weights: ``(n_rows,)``; None counts every row once.
        """
        learning = self.training and (len(x) if weights is None else float(weights.sum())) > 1
        if weights is None or not learning:
            if learning and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            return F.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                learning,
                self.momentum or 0.1,
                self.eps,
            )
        return self._weighted(x, weights)

    def _weighted(self, x: Tensor, weights: Tensor) -> Tensor:
        share = (weights / weights.sum())[:, None].to(x)
        mean = (share * x).sum(0)
        centred = x - mean
        variance = (share * centred.square()).sum(0)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            n = float(weights.sum())
            rate = self.momentum or 0.1
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * (n / max(n - 1.0, 1.0)), rate)
            self.num_batches_tracked.add_(1)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    def folded(self) -> tuple[Tensor, Tensor]:
        """Factor and shift that it is once its statistics stand, ``(n_channels,)`` each."""
        assert self.running_mean is not None
        assert self.running_var is not None
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        return factor, self.bias - self.running_mean * factor

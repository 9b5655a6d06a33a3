"""Batch normalisation whose rows may count with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BatchNorm"]


class BatchNorm(nn.BatchNorm1d):
    """Ioffe and Szegedy, ICML 2015, over the rows of ``(n_rows, n_channels)``.

    Rows with weights enter mean and variance by these, as if each stood there so many times. One row alone
    has no variance: the running statistics serve then, as they do after training.

    Attributes:
        sum_over_processes: Sums a tensor over the processes that have a share of the rows each; statistics
            are those of all shares then, and every process must take part. None where one has them all.
    """

    sum_over_processes: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Normalised rows.

        Args:
            x: ``(n_rows, n_channels)``.
            weights: ``(n_rows,)``; None counts every row once.
        """
        if self.training and self.sum_over_processes is not None:
            return self._shared(x, x.new_ones(len(x)) if weights is None else weights.to(x))
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
        self._track(mean, variance, float(weights.sum()))
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    def _shared(self, x: Tensor, weights: Tensor) -> Tensor:
        """The same over the rows of all processes; this one may have none."""
        first = torch.cat([weights.sum()[None], (weights[:, None] * x).sum(0)])
        n, *_ = total = _SumOverProcesses.apply(first, self.sum_over_processes)  # type: ignore[no-untyped-call]
        mean = total[1:] / n
        centred = x - mean
        squares = (weights[:, None] * centred.square()).sum(0)
        variance = _SumOverProcesses.apply(squares, self.sum_over_processes) / n  # type: ignore[no-untyped-call]
        if float(n.detach()) <= 1:
            assert self.running_mean is not None
            assert self.running_var is not None
            centred, variance = x - self.running_mean, self.running_var
        else:
            self._track(mean, variance, float(n.detach()))
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    def _track(self, mean: Tensor, variance: Tensor, n: float) -> None:
        """Let the running statistics follow those of ``n`` rows."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            rate = self.momentum or 0.1
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * (n / max(n - 1.0, 1.0)), rate)
            self.num_batches_tracked.add_(1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Factor and shift that it is once its statistics stand, ``(n_channels,)`` each."""
        assert self.running_mean is not None
        assert self.running_var is not None
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        return factor, self.bias - self.running_mean * factor


class _SumOverProcesses(torch.autograd.Function):
    """A sum that every process reads: the gradient of a share is the sum of the gradients that they have."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum."""
        ctx.total = total
        return total(values.detach().clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Summed likewise."""
        return ctx.total(gradients[0].contiguous().clone()), None

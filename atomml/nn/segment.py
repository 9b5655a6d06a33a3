"""Sums over segments whose order, and so whose bits, never change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["segment_sum"]


class _SegmentSum(torch.autograd.Function):
    """Sum of rows per segment; its gradient is a gather, whose gradient is this sum again."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_segments: int) -> Tensor:
        """The sums ``(n_segments, ...)``."""
        ctx.save_for_backward(index)
        if values.device.type == "cpu":  # one thread adds in order
            total = values.new_zeros((n_segments, *values.shape[1:]))
            return total.index_add_(0, index, values)
        order = torch.argsort(index, stable=True)  # atomics on a GPU would add in any order
        lengths = torch.bincount(index, minlength=n_segments)
        return torch.segment_reduce(values[order], "sum", lengths=lengths, axis=0, initial=0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of a row is that of its segment."""
        (index,) = ctx.saved_tensors
        return gather(gradients[0], index), None, None


class _Gather(torch.autograd.Function):
    """Rows by index; its gradient is a deterministic segment sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        """The rows ``values[index]``."""
        ctx.save_for_backward(index)
        ctx.n_rows = values.shape[0]
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of a source is the sum over the rows that read it."""
        (index,) = ctx.saved_tensors
        return segment_sum(gradients[0], index, ctx.n_rows), None


def segment_sum(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Sum the rows of ``values`` that share an index.

    Args:
        values: ``(n_rows, ...)``.
        index: ``(n_rows,)`` int64 in ``[0, n_segments)``.
        n_segments: Number of rows of the result.

    Returns:
        ``(n_segments, ...)``; differentiable any number of times, the same bits each time.
    """
    return _SegmentSum.apply(values, index, n_segments)  # type: ignore[no-untyped-call]


def gather(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` whose gradient is :func:`segment_sum`: deterministic on every device."""
    return _Gather.apply(values, index)  # type: ignore[no-untyped-call]

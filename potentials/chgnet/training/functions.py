"""The kernels of a training step as autograd functions: one for weighted sums, one for rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.kernels.gemm import TILE_ROWS, pack_panels
from atomml.kernels.parts import Parts
from atomml.kernels.threads import run_ranges
from atomml.potentials.chgnet.training import messages as kernels

__all__ = ["Gates", "Messages", "Parts", "Rows"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Rows of one kind, edges or angles: whose they are and what they read.

    Attributes:
        parts: ``(n_parts + 1,)`` first owner of each part.
        copies: As in :class:`Parts`.
        start: ``(n_owners + 1,)`` first row of each owner.
        owner: ``(n_rows,)`` ascending.
        gathered: Three ``(n_rows,)`` indices: which row of each gathered input.
        weight: ``(n_rows,)`` which row of the weights.
    """

    parts: Array
    copies: Array
    start: Array
    owner: Array
    gathered: tuple[Array, Array, Array]
    weight: Array

    def bounds(self) -> NDArray[np.int64]:
        """Every part is a range of its own."""
        return np.arange(len(self.copies) + 1)

    def inputs(self, tables: tuple[Tensor, ...]) -> list[Array]:
        """Arguments of a kernel: each gathered input and its index, then the row's own."""
        a, b, d, own = (table.detach().contiguous().numpy() for table in tables)
        ia, ib, id_ = self.gathered
        return [a, ia, b, ib, d, id_, own]

    def gradients(self, tables: tuple[Tensor, ...]) -> list[Array]:
        """Zeros to add the gathered inputs' gradients to, and room for the row's own."""
        n_copies = int(self.copies[-1]) + 1
        shared = [np.zeros((n_copies, *table.shape), _dtype(table)) for table in tables[:3]]
        return [*shared, np.empty(tables[3].shape, _dtype(tables[3]))]


class Messages(torch.autograd.Function):
    """Sums over each owner's rows of weighted gated MLPs; see :func:`kernels.messages`.

    All features are ``(2, n, ...)``, values and tangents. ``core`` and ``gate`` are ``(c, c)``, as a
    linear layer holds them, centred over their outputs.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, a: Tensor, b: Tensor, d: Tensor, own: Tensor,
        core: Tensor, gate: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, weights: Tensor,
    ) -> Tensor:  # fmt: skip
        """Sums ``(2, n_owners, c)``."""
        ctx.rows = rows
        ctx.save_for_backward(a, b, d, own, core, gate, bias, scale, shift, weights)
        sums = a.new_empty((2, len(rows.start) - 1, weights.shape[2]))
        run_ranges(
            kernels.messages, rows.bounds(), rows.parts, rows.start, rows.owner,
            *rows.inputs((a, b, d, own)), _panels(core.T), _panels(gate.T),
            *map(_array, (bias, scale, shift, weights)), rows.weight, sums.numpy(),
        )  # fmt: skip
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, sums_bar: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, in their order."""
        rows: Rows = ctx.rows
        *tables, core, gate, bias, scale, shift, weights = ctx.saved_tensors
        c = core.shape[0]
        inputs_bar = rows.gradients(tables)
        n_parts, n_copies = len(rows.copies), len(inputs_bar[0])
        matrix_bar = np.zeros((n_parts, 2, c + TILE_ROWS, c), _dtype(core))
        vector_bar = np.zeros((n_parts, 3, 2 * c), _dtype(core))
        weights_bar = np.zeros((n_copies, *weights.shape), _dtype(core))
        run_ranges(
            kernels.messages_backward, rows.bounds(), rows.parts, rows.copies, rows.start, rows.owner,
            *rows.inputs(tuple(tables)), _panels(core.T), _panels(gate.T), _panels(core), _panels(gate),
            *map(_array, (bias, scale, shift, weights)), rows.weight, _array(sums_bar),
            *inputs_bar, matrix_bar, vector_bar, weights_bar,
        )  # fmt: skip
        core_bar, gate_bar = torch.from_numpy(matrix_bar.sum(0)[:, :c]).transpose(1, 2)
        return (
            None, *_inputs(inputs_bar), core_bar, gate_bar, *torch.from_numpy(vector_bar.sum(0)),
            _summed(weights_bar),
        )  # fmt: skip


class Gates(torch.autograd.Function):
    """Gated MLPs without a hidden layer, one for each row; see :func:`kernels.gates`."""

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, a: Tensor, b: Tensor, d: Tensor, own: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        """Messages ``(2, n_rows, c)``."""
        ctx.rows = rows
        ctx.save_for_backward(a, b, d, own, scale, shift)
        result = a.new_empty((2, len(rows.owner), len(scale) // 2))
        run_ranges(
            kernels.gates, rows.bounds(), rows.parts, rows.start, *rows.inputs((a, b, d, own)),
            _array(scale), _array(shift), result.numpy(),
        )  # fmt: skip
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, result_bar: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, in their order."""
        rows: Rows = ctx.rows
        *tables, scale, shift = ctx.saved_tensors
        inputs_bar = rows.gradients(tables)
        vector_bar = np.zeros((len(rows.copies), 3, len(scale)), _dtype(scale))
        run_ranges(
            kernels.gates_backward, rows.bounds(), rows.parts, rows.copies, rows.start,
            *rows.inputs(tuple(tables)), _array(scale), _array(shift), _array(result_bar),
            *inputs_bar, vector_bar,
        )  # fmt: skip
        return (None, *_inputs(inputs_bar), *torch.from_numpy(vector_bar.sum(0)[1:]))


def _inputs(gradients: list[Array]) -> list[Tensor]:
    """Gradients of the gathered inputs, their copies summed, and of the row's own."""
    return [*map(_summed, gradients[:3]), torch.from_numpy(gradients[3])]


def _summed(copies: Array) -> Tensor:
    return torch.from_numpy(copies[0] if len(copies) == 1 else copies.sum(0))


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


def _panels(matrix: Tensor) -> Array:
    return pack_panels(_array(matrix))


def _dtype(tensor: Tensor) -> Any:
    return np.float32 if tensor.dtype == torch.float32 else np.float64

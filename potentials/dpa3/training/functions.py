"""The kernels of a training step as autograd functions, which differentiate once, in features and weights.

All features are ``(2, n, ...)``, values and their tangents along one direction.
"""

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
from atomml.potentials.dpa3.training import angles, edges

__all__ = ["AngleMessages", "EdgeMessages", "Placed"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Placed:
    """Edges and angles of a graph, and what of them depends on geometry alone.

    Attributes:
        parts: How atoms are split over threads.
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        centre, neighbour: ``(n_edges,)``.
        bonds: ``(n_bonds,)`` the edges that enclose angles.
        bond_atom: ``(n_bonds,)`` their centre.
        bond_start, angle_start: ``(n_atoms + 1,)`` first bond and first angle of each atom.
        seen: ``(2, n_edges, 1)`` what edges are embedded by.
        weight: ``(2, n_edges)`` switch.
        direction: ``(2, n_edges, 3)`` normalised, twice times the switch.
        angle_weight: ``(2, n_bonds)`` switch of bonds.
        cosine: ``(2, n_angles, 1)``.
        act: Parameters of the non-linearity.
    """

    parts: Parts
    edge_start: Array
    centre: Array
    neighbour: Array
    bonds: Tensor
    bond_atom: Tensor
    bond_start: Array
    angle_start: Array
    seen: Tensor
    weight: Array
    direction: Array
    angle_weight: Tensor
    cosine: Tensor
    act: Array

    def bounds(self) -> NDArray[np.int64]:
        """Every part is a range of its own."""
        return np.arange(len(self.parts.copies) + 1)

    @property
    def n_copies(self) -> int:
        """Copies of what several parts add to."""
        return int(self.parts.copies[-1]) + 1

    def edges(self) -> tuple[Any, ...]:
        """What kernels of edges read of this."""
        return self.edge_start, self.centre, self.neighbour, self.weight, self.direction

    def angles(self) -> tuple[Any, ...]:
        """What kernels of angles read of this."""
        return self.bond_start, self.angle_start, self.angle_weight.numpy()


class EdgeMessages(torch.autograd.Function):
    """Sums of messages and surroundings of atoms, and new features of edges; see :func:`edges.edge_duals`."""

    @staticmethod
    def forward(
        ctx: Any, placed: Placed, edge: Tensor, node: Tensor, here: Tensor, there: Tensor, matrix: Tensor,
        residual: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Messages ``(2, n_atoms, n)``, vectors ``(2, n_atoms, 3, e + n)``, new edges ``(2, n_edges, e)``."""
        ctx.placed = placed
        ctx.save_for_backward(edge, node, here, there, matrix, residual)
        (n_edges, e), (n_atoms, n) = edge.shape[1:], node.shape[1:]
        messages, vectors = node.new_zeros((2, n_atoms, n)), node.new_zeros((2, n_atoms, 3, e + n))
        new_edge = edge.new_empty((2, n_edges if here.shape[2] > n else 0, e))
        run_ranges(
            edges.edge_duals, placed.bounds(), placed.parts.atoms, *placed.edges(),
            *map(_array, (edge, node, here, there)), _panels(matrix), placed.act, _array(residual),
            messages.numpy(), vectors.numpy(), new_edge.numpy(),
        )  # fmt: skip
        return messages, vectors, new_edge

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, in their order."""
        placed: Placed = ctx.placed
        edge, node, here, there, matrix, residual = ctx.saved_tensors
        n_parts, n_copies = len(placed.parts.copies), placed.n_copies
        edge_bar, here_bar = torch.empty_like(edge), torch.zeros_like(here)
        node_bar, there_bar = (own.new_zeros((n_copies, *own.shape)) for own in (node, there))
        matrix_bar = matrix.new_zeros((n_parts, len(matrix) + TILE_ROWS, matrix.shape[1]))
        residual_bar = residual.new_zeros((n_parts, len(residual)))
        found = (edge_bar, node_bar, here_bar, there_bar, matrix_bar, residual_bar)
        run_ranges(
            edges.edge_duals_backward, placed.bounds(), placed.parts.atoms, placed.parts.copies,
            *placed.edges(), *map(_array, (edge, node, here, there)), _panels(matrix), placed.act,
            _array(residual), _panels(matrix.T), *map(_array, above), *(bar.numpy() for bar in found),
        )  # fmt: skip
        shared = (_summed(node_bar), here_bar, _summed(there_bar))
        return None, edge_bar, *shared, _summed(matrix_bar)[: len(matrix)], _summed(residual_bar)


class AngleMessages(torch.autograd.Function):
    """Sums of messages of bonds, and new features of angles; see :func:`angles.angle_duals`."""

    @staticmethod
    def forward(
        ctx: Any, placed: Placed, is_first: bool, keeps: bool, angle: Tensor, one: Tensor, two: Tensor,
        matrix: Tensor, embedding: Tensor, residual: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Sums ``(2, n_bonds, e)`` and, where somebody reads them, angles ``(2, n_angles, a)``."""
        ctx.placed, ctx.is_first = placed, is_first
        ctx.save_for_backward(angle, one, two, matrix, embedding, residual)
        a = len(residual)
        sums = one.new_zeros((2, one.shape[1], one.shape[2] - (a if keeps else 0)))
        new_angle = angle.new_empty((2, angle.shape[1] if keeps else 0, a))
        run_ranges(
            angles.angle_duals, placed.bounds(), placed.parts.atoms, *placed.angles(), _array(angle),
            is_first, _array(one), _array(two), _panels(matrix), _array(embedding), placed.act,
            _array(residual), sums.numpy(), new_angle.numpy(),
        )  # fmt: skip
        return sums, new_angle

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, in their order; the first layer's angles are no weight's."""
        placed: Placed = ctx.placed
        angle, one, two, matrix, embedding, residual = ctx.saved_tensors
        n_parts = len(placed.parts.copies)
        angle_bar = angle.new_empty((0, 0, 0)) if ctx.is_first else torch.empty_like(angle)
        one_bar, two_bar = torch.zeros_like(one), torch.zeros_like(two)
        matrix_bar = matrix.new_zeros((n_parts, len(matrix) + TILE_ROWS, matrix.shape[1]))
        vectors_bar = residual.new_zeros((2, n_parts, len(residual)))
        run_ranges(
            angles.angle_duals_backward, placed.bounds(), placed.parts.atoms, *placed.angles(),
            _array(angle), ctx.is_first, _array(one), _array(two), _panels(matrix), _array(embedding),
            placed.act, _array(residual), _panels(matrix.T), *map(_array, above), angle_bar.numpy(),
            one_bar.numpy(), two_bar.numpy(), matrix_bar.numpy(), *vectors_bar.numpy(),
        )  # fmt: skip
        residual_bar, embedding_bar = vectors_bar.sum(1)
        whole = _summed(matrix_bar)[: len(matrix)]
        back, embedded = (None, embedding_bar) if ctx.is_first else (angle_bar, None)
        return None, None, None, back, one_bar, two_bar, whole, embedded, residual_bar


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array


def _panels(matrix: Tensor) -> Array:
    return pack_panels(_array(matrix))


def _summed(copies: Tensor) -> Tensor:
    """One copy is taken as it is; several are added in order."""
    return copies[0] if len(copies) == 1 else copies.sum(0)

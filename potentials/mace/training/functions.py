"""The kernels of a training step as autograd functions.

Without tangents (k = 1) they differentiate in what depends on positions, with tangents (k = 2) in what
depends on weights: a step needs no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.parts import Parts
from atomml.kernels.threads import run_ranges, split_tapered
from atomml.potentials.mace.fast.links import Links
from atomml.potentials.mace.training import messages as message_kernels
from atomml.potentials.mace.training import products as product_kernels

__all__ = ["Edges", "Messages", "Monomials", "Products"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Edges:
    """The edges of a graph, as kernels take them.

    Attributes:
        parts: Split over threads.
        start: ``(n_atoms + 1,)`` first edge of each atom.
        sender: ``(n_edges,)``.
        pair: ``(n_edges,)`` the pair of atoms, both directions of which share radial weights.
        primary: ``(n_pairs,)`` an edge of each pair.
    """

    parts: Parts
    start: Array
    sender: Array
    pair: Array
    primary: Tensor

    @classmethod
    def of(cls, graph: AtomGraph) -> Edges:
        """Those of a graph or a batch."""
        centre, sender = graph.edge_index.numpy()
        start = np.zeros(graph.n_atoms + 1, np.int64)
        np.cumsum(np.bincount(centre, minlength=graph.n_atoms), out=start[1:])
        reverse = graph.edge_reverse.numpy()
        own = np.arange(graph.n_edges)
        first = own <= reverse
        pair = (np.cumsum(first) - 1)[np.minimum(own, reverse)]
        parts = Parts.of(graph.atoms_per_graph().numpy(), start, torch.get_num_threads())
        return cls(parts, start, np.ascontiguousarray(sender), pair, torch.from_numpy(np.flatnonzero(first)))

    def arguments(self, links: Links, n_rows: int, dtype: Any) -> tuple[Any, ...]:
        """What all kernels of messages take behind parts: edges and links of so many rows of atoms."""
        terms = (links.terms, links.weights.astype(dtype), links.term_start)
        return (self.start, self.sender, self.pair, links.for_atoms(n_rows), *terms)

    def bounds(self) -> NDArray[np.int64]:
        """Every part is a range of its own."""
        return np.arange(len(self.parts.copies) + 1)

    @property
    def n_copies(self) -> int:
        """Copies of shared results."""
        return int(self.parts.copies[-1]) + 1


class Messages(torch.autograd.Function):
    """Sums of the messages that atoms receive, ``(k * n_atoms * rows of an atom, channels)``."""

    @staticmethod
    def forward(
        ctx: Any, edges: Edges, links: Links, harmonics: Tensor, radial: Tensor, features: Tensor
    ) -> Tensor:
        """Harmonics ``(k, n_edges, n)``, radial weights ``(k, n_pairs, columns)``, flat features."""
        k, n_atoms = len(harmonics), len(edges.start) - 1
        ctx.edges, ctx.links = edges, links
        ctx.save_for_backward(harmonics, radial, features)
        sums = features.new_zeros((k * n_atoms * sum(links.results), features.shape[1]))
        around = edges.arguments(links, k * n_atoms, sums.numpy().dtype)
        kernel = message_kernels.messages if k == 1 else message_kernels.dual_messages
        given = (_array(harmonics), _array(radial), _array(features))
        run_ranges(kernel, edges.bounds(), edges.parts.atoms, *around, *given, sums.numpy())
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of harmonics (where there are no tangents), radial weights and features."""
        edges: Edges = ctx.edges
        harmonics, radial, features = ctx.saved_tensors
        k, n_atoms = len(harmonics), len(edges.start) - 1
        around = edges.arguments(ctx.links, k * n_atoms, _array(features).dtype)
        before = (edges.bounds(), edges.parts.atoms, edges.parts.copies, *around)
        given = (_array(harmonics), _array(radial), _array(features), _array(above))
        radial_bar = radial.new_zeros((edges.n_copies, *radial.shape))
        features_bar = features.new_zeros((edges.n_copies, *features.shape))
        found = (radial_bar.numpy(), features_bar.numpy())
        harmonics_bar = None
        if k == 1:
            harmonics_bar = torch.zeros_like(harmonics)
            slope = harmonics_bar.numpy()
            run_ranges(message_kernels.messages_backward, *before, *given, slope, *found)
        else:
            run_ranges(message_kernels.dual_messages_backward, *before, *given, *found)
        return None, None, harmonics_bar, _summed(radial_bar), _summed(features_bar)


@dataclass(frozen=True)
class Monomials:
    """What a product multiplies and adds to; see :mod:`~atomml.potentials.mace.training.products`.

    Attributes:
        factors: ``(n_monomials, 3)``.
        entry_start: ``(n_monomials + 1,)``.
        entries: ``(n_entries,)``.
        n_results: Components of the result.
    """

    factors: Array
    entry_start: Array
    entries: Array
    n_results: int


class Products(torch.autograd.Function):
    """Polynomials of messages, ``(k, channels, n_results, n_atoms)``, atoms sorted by element."""

    @staticmethod
    def forward(ctx: Any, shape: Monomials, groups: Array, coefficients: Tensor, messages: Tensor) -> Tensor:
        """Coefficients ``(n_groups, channels, n_entries)``, messages ``(k, channels, components, n)``."""
        k, channels, _, n_atoms = messages.shape
        ctx.shape, ctx.groups = shape, groups
        ctx.save_for_backward(coefficients, messages)
        results = messages.new_empty((k, channels, shape.n_results, n_atoms))
        kernel = product_kernels.polynomials if k == 1 else product_kernels.dual_polynomials
        given = (groups, shape.factors, shape.entry_start, shape.entries)
        run_ranges(
            kernel, _channels(channels), *given, _array(coefficients), _array(messages), results.numpy()
        )
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of coefficients (where there are tangents) and messages."""
        coefficients, messages = ctx.saved_tensors
        shape: Monomials = ctx.shape
        messages_bar = torch.empty_like(messages)
        terms = (ctx.groups, shape.factors, shape.entry_start, shape.entries, _array(coefficients))
        arrays = (_array(messages), _array(above), messages_bar.numpy())
        given: tuple[Any, ...] = (_channels(messages.shape[1]), *terms, *arrays)
        if len(messages) == 1:
            run_ranges(product_kernels.polynomials_backward, *given)
            return None, None, None, messages_bar
        coefficients_bar = torch.zeros_like(coefficients)
        run_ranges(product_kernels.dual_polynomials_backward, *given, coefficients_bar.numpy())
        return None, None, coefficients_bar, messages_bar


def _channels(n: int) -> NDArray[np.int64]:
    """Ranges of channels."""
    return split_tapered(n, torch.get_num_threads(), 8)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array


def _summed(copies: Tensor) -> Tensor:
    """One copy is taken as it is; several are added in order."""
    return copies[0] if len(copies) == 1 else copies.sum(0)

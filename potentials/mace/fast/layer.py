"""One layer of a MACE with its weights folded, forwards and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.kernels.threads import run_ranges, split_tapered
from atomml.potentials.mace.fast.linear import Array, ByElement, ByIrrep, Groups, Matrix
from atomml.potentials.mace.fast.links import Links, Polynomials, starts
from atomml.potentials.mace.fast.messages import edge_gradients, feature_gradients, sum_messages
from atomml.potentials.mace.fast.products import polynomial_gradients, polynomials
from atomml.potentials.mace.interaction import Interaction
from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.product import Product

__all__ = ["Edges", "FoldedLayer"]

_ATOMS = 4
"""Atoms of the shortest range of a product."""


@dataclass(frozen=True)
class Edges:
    """What kernels need of the edges of a graph.

    Attributes:
        bounds: Ranges of atoms of about equal work.
        start: ``(n_atoms + 1,)`` first edge of each atom.
        neighbour: ``(n_edges,)``.
        knots, fractions: ``(n_edges,)`` where edges lie in the splines.
        harmonics: ``(n_edges, 16)`` float32.
        spacing: Å between knots.
        groups: Row and atoms of each element.
        radial, angular: ``(n_edges,)`` and ``(n_edges, 16)`` derivatives, which layers add to.
    """

    bounds: NDArray[np.int64]
    start: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    knots: NDArray[np.int64]
    fractions: Array
    harmonics: Array
    spacing: float
    groups: Groups
    radial: Array
    angular: Array

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.start) - 1


@dataclass
class Kept:
    """What the way back needs of a layer.

    Attributes:
        lifted: Features as they were sent.
        raw: Messages before they were divided by the density.
        norm: ``(n_atoms, 1)`` one over one plus the density; None where there is none.
        messages: What went into the product.
        repulsion: ``(n_atoms,)``.
    """

    lifted: Array
    raw: Array
    norm: Array | None
    messages: Array
    repulsion: Array


class FoldedLayer:
    """An interaction and its product.

    Args:
        interaction: Its weights are folded as they are now.
        product: Likewise.
        features: Blocks of the features that come in.
    """

    def __init__(self, interaction: Interaction, product: Product, features: list[Block]) -> None:
        self.product, self.features, self.targets = product, features, interaction.down.outputs
        self.by_density, self.residual = interaction.by_density, interaction.residual
        self.up = ByIrrep(interaction.up, features)
        self.links = Links.of(interaction.convolution, self.up.outputs, self.targets)
        factor = 1.0 if self.by_density else 1.0 / interaction.neighbours
        self.down = [
            Matrix(weights.detach().double() * scale * factor) if len(weights) else None
            for weights, scale in zip(interaction.down.weights, interaction.down.scales, strict=True)
        ]
        self.skip = ByElement(interaction.skip, features if self.residual else self.targets)
        self.polynomials = Polynomials.of(product, self.targets)
        self.outputs = product.linear.outputs
        self.linear = ByIrrep(product.linear, self.outputs)
        self._coefficients: dict[int, Array] = {}

    def forwards(self, features: Array, edges: Edges, table: Array) -> tuple[Array, Kept]:
        """Flat features of the next layer, and what the way back needs."""
        n = edges.n_atoms
        lifted = self.up(features, n)
        sums = np.zeros((n * sum(self.links.results), lifted.shape[1]), np.float32)
        extras = np.zeros((n, 2), np.float32)
        terms = (self.links.terms, self.links.weights, self.links.term_start)
        run_ranges(sum_messages, edges.bounds, *self._around(edges, table), *terms, lifted, sums, extras)
        raw = self._down(sums, n)
        norm = np.reciprocal(1 + extras[:, 1:], dtype=np.float32) if self.by_density else None
        messages = raw if norm is None else self._divided(raw, norm)
        skip = None
        if self.residual:
            skip = self.skip(features, n, edges.groups)
        else:
            messages = self.skip(messages, n, edges.groups)
        hidden = self.linear(self._contracted(messages, edges), n)
        if skip is not None and self.product.add_skip:
            hidden += skip
        return hidden, Kept(lifted, raw, norm, messages, extras[:, 0])

    def backwards(
        self, above: Array, repulsion: float, kept: Kept, edges: Edges, table: Array, *, to_features: bool
    ) -> Array | None:
        """Derivatives with respect to the features, None if not wanted; those of edges are added to them.

        Args:
            above: Derivatives with respect to the result.
            repulsion: The derivative with respect to each atom's repulsion.
            kept: From the way forwards.
            edges: Likewise.
            table: Likewise.
            to_features: Whether features depend on positions.
        """
        n = edges.n_atoms
        slope = self._contracted_back(self.linear.back(above, n), kept.messages, edges)
        if not self.residual:
            slope = self.skip.back(slope, n, edges.groups)
        extras = np.zeros((n, 2), np.float32)
        extras[:, 0] = repulsion
        if kept.norm is not None:
            extras[:, 1:] = -(kept.norm**2) * self._summed(slope * kept.raw, n)
            slope = self._divided(slope, kept.norm)
        sums = self._down_back(slope, n)
        around = self._around(edges, table)
        links = self.links
        run_ranges(
            edge_gradients,
            edges.bounds,
            *(*around, links.terms, links.weights, links.term_start, kept.lifted),
            *(sums, extras, edges.spacing, edges.radial, edges.angular),
        )
        if not to_features:
            return None
        below = np.zeros_like(kept.lifted)
        terms = (links.terms, links.back_weights, links.term_start)
        run_ranges(feature_gradients, edges.bounds, *around, *terms, sums, below)
        result = self.up.back(below, n)
        if self.residual and self.product.add_skip:
            result += self.skip.back(above, n, edges.groups)
        return result

    def _around(self, edges: Edges, table: Array) -> tuple[Any, ...]:
        placed = self.links.for_atoms(edges.n_atoms)
        graph = (edges.start, edges.neighbour, edges.knots, edges.fractions, edges.harmonics)
        return (*graph, table, placed)

    def _down(self, sums: Array, n: int) -> Array:
        """The linear map after the sum."""
        first, place = starts([n * size for size in self.links.results]), self._message_starts(n)
        result = np.empty((place[-1], self.targets[0].channels), np.float32)
        for k, matrix in enumerate(self.down):
            target = result[place[k] : place[k + 1]]
            if matrix is None:
                target[:] = 0
            else:
                matrix(sums[first[k] : first[k + 1]].reshape(len(target), -1), target)
        return result

    def _down_back(self, slope: Array, n: int) -> Array:
        first, place = starts([n * size for size in self.links.results]), self._message_starts(n)
        result = np.empty((first[-1], slope.shape[1]), np.float32)
        for k, matrix in enumerate(self.down):
            if matrix is not None:
                part = slope[place[k] : place[k + 1]]
                matrix.back(part, result[first[k] : first[k + 1]].reshape(len(part), -1))
        return result

    def _message_starts(self, n: int) -> list[int]:
        return starts([n * block.dim for block in self.targets])

    def _divided(self, messages: Array, norm: Array) -> Array:
        """Messages times a number for each atom."""
        place = self._message_starts(len(norm))
        result = np.empty_like(messages)
        for k in range(len(self.targets)):
            part = messages[place[k] : place[k + 1]].reshape(len(norm), -1)
            np.multiply(part, norm, out=result[place[k] : place[k + 1]].reshape(len(norm), -1))
        return result

    def _summed(self, values: Array, n: int) -> Array:
        """Sum over components and channels of each atom, ``(n, 1)``."""
        place = self._message_starts(n)
        parts = [values[place[k] : place[k + 1]].reshape(n, -1).sum(axis=1) for k in range(len(self.targets))]
        return np.sum(parts, axis=0)[:, None]

    def _contracted(self, messages: Array, edges: Edges) -> Array:
        """Polynomials of the messages."""
        n_rows = edges.n_atoms * sum(block.dim for block in self.outputs)
        results = np.zeros((n_rows, messages.shape[1]), np.float32)
        run_ranges(polynomials, *self._polynomial_arguments(edges), messages, results)
        return results

    def _contracted_back(self, above: Array, messages: Array, edges: Edges) -> Array:
        below = np.empty_like(messages)
        run_ranges(polynomial_gradients, *self._polynomial_arguments(edges), messages, above, below)
        return below

    def _polynomial_arguments(self, edges: Edges) -> tuple[Any, ...]:
        """Bounds, rows, inputs, monomials and coefficients of these atoms."""
        shape, n = self.polynomials, edges.n_atoms
        rows = np.zeros(n, np.int64)
        for place, (_, atoms) in enumerate(edges.groups):
            rows[atoms] = 0 if self.product.shared else place
        present = [0] if self.product.shared else [row for row, _ in edges.groups]
        for row in present:
            if row not in self._coefficients:
                self._coefficients[row] = shape.coefficients(self.product, row)
        coefficients = np.stack([self._coefficients[row] for row in present])
        bounds = split_tapered(n, torch.get_num_threads(), _ATOMS)
        inputs = _rows(self.targets, n, shape.components)
        entries = _rows(self.outputs, n, shape.entries)
        return bounds, rows, inputs, shape.factors, shape.entry_start, entries, coefficients


def _rows(blocks: list[Block], n_atoms: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """First row and step of components of blocks."""
    first = np.array(starts([n_atoms * block.dim for block in blocks]), np.int64)
    steps = np.array([block.dim for block in blocks], np.int64)
    return np.stack([first[places[:, 0]] + places[:, 1], steps[places[:, 0]]], axis=1)

"""A MACE on values, or on values and their tangents along one direction, with fused sums and products.

All of a layer but products of two features is linear, and a linear map of tangents is that of values:
atoms and their tangents are rows of one batch, tangents behind. ``k`` is 1, or 2 with tangents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomml.nn import segment_sum
from atomml.potentials.mace.fast.links import Links, Polynomials, starts
from atomml.potentials.mace.interaction import Interaction
from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.product import Contraction, Product
from atomml.potentials.mace.radial import ACTIVATIONS, RadialNetwork
from atomml.potentials.mace.readout import LinearReadout, NonlinearReadout
from atomml.potentials.mace.training.functions import Array, Edges, Messages, Monomials, Products

__all__ = ["Layer", "Placed", "readout"]


@dataclass(frozen=True)
class Placed:
    """Atoms, edges, and what depends on geometry alone.

    Attributes:
        k: 1, or 2 with tangents.
        edges: Of the graph.
        centre: ``(n_edges,)``.
        pair: ``(n_edges,)`` as a tensor.
        harmonics: ``(k, n_edges, n_harmonics)``.
        basis: ``(k * n_pairs, n_radial)``.
        cut: ``(k * n_pairs, 1)``, or None where the basis was cut off.
        elements: Rows of the elements that are there, ascending.
        order: Atoms sorted by element.
        bounds: ``(n_elements + 1,)`` where each starts in that order.
    """

    k: int
    edges: Edges
    centre: Tensor
    pair: Tensor
    harmonics: Tensor
    basis: Tensor
    cut: Tensor | None
    elements: Tensor
    order: Tensor
    bounds: Array

    @property
    def n_atoms(self) -> int:
        """Atoms, tangents not counted."""
        return len(self.order)

    def groups(self) -> list[tuple[int, Tensor]]:
        """Row and batch rows (values and tangents) of each element."""
        found = []
        for place, row in enumerate(self.elements.tolist()):
            atoms = self.order[self.bounds[place] : self.bounds[place + 1]]
            found.append((row, torch.cat([atoms + t * self.n_atoms for t in range(self.k)])))
        return found


class Layer:
    """One interaction and its product, by the weights that they have at each call."""

    def __init__(self, interaction: Interaction, product: Product, features: list[Block]) -> None:
        self.interaction, self.product = interaction, product
        self.targets, self.outputs = interaction.down.outputs, product.linear.outputs
        lifted = interaction.up.outputs
        self.links = Links.of(interaction.convolution, lifted, self.targets, np.float64)
        found = Polynomials.of(product, self.targets)
        first = np.array(starts([block.dim for block in self.outputs]))
        entries = first[found.entries[:, 0]] + found.entries[:, 1]
        self.monomials = Monomials(found.factors, found.entry_start, entries, int(first[-1]))
        self._tables = found.tables

    def __call__(
        self, features: list[Tensor], placed: Placed, groups: list[tuple[int, Tensor]]
    ) -> list[Tensor]:
        """Blocks ``(k * n_atoms, 2l + 1, channels)`` to those of the next layer."""
        interaction = self.interaction
        radial = _radial(interaction.radial, placed)
        if placed.cut is not None:
            radial = _times(radial, placed.cut, placed.k)
        lifted = torch.cat([block.flatten(0, 1) for block in interaction.up(features)])
        radial = radial.reshape(placed.k, -1, radial.shape[1])
        sums = Messages.apply(placed.edges, self.links, placed.harmonics, radial, lifted)  # type: ignore[no-untyped-call]
        messages = self._normed(self._down(sums, placed), placed)
        if interaction.residual:
            skip = interaction.skip(features, groups)
        else:
            messages, skip = interaction.skip(messages, groups), None
        hidden: list[Tensor] = self.product.linear(self._contracted(messages, placed))
        if skip is None or not self.product.add_skip:
            return hidden
        return [value + old for value, old in zip(hidden, skip, strict=True)]

    def _down(self, sums: Tensor, placed: Placed) -> list[Tensor]:
        """The linear map after the sum; paths of one irrep lie side by side already."""
        n = placed.k * placed.n_atoms
        first, linear = starts([n * rows for rows in self.links.results]), self.interaction.down
        mapped = []
        for i, block in enumerate(self.targets):
            if not self.links.results[i]:
                mapped.append(sums.new_zeros((n, block.dim, block.channels)))
                continue
            joined = sums[first[i] : first[i + 1]].reshape(n * block.dim, -1)
            mapped.append((joined @ (linear.weights[i] * linear.scales[i])).reshape(n, block.dim, -1))
        return mapped

    def _normed(self, messages: list[Tensor], placed: Placed) -> list[Tensor]:
        """Divided by the mean number of neighbours, or by one plus the learned density of them."""
        network = self.interaction.density
        if network is None:
            return [block / self.interaction.neighbours for block in messages]
        raw = _radial(network, placed)
        each = _tanh(_times(raw, raw, placed.k), placed.k)
        each = each if placed.cut is None else _times(each, placed.cut, placed.k)
        sums = [
            segment_sum(part.index_select(0, placed.pair), placed.centre, placed.n_atoms)
            for part in each.chunk(placed.k)
        ]
        inverse = 1 / (1 + sums[0])
        if placed.k == 2:
            inverse = torch.cat([inverse, -(inverse**2) * sums[1]])
        return [_times(block, inverse[:, :, None], placed.k) for block in messages]

    def _contracted(self, messages: list[Tensor], placed: Placed) -> list[Tensor]:
        """Polynomials of the messages, by irrep."""
        joined = torch.cat(messages, dim=1).reshape(placed.k, placed.n_atoms, -1, messages[0].shape[2])
        shared = self.product.shared
        if not shared:
            joined = joined.index_select(1, placed.order)
        turned = joined.permute(0, 3, 2, 1)
        one = turned.new_zeros((*turned.shape[:2], 1, turned.shape[3]))
        one[0] = 1
        bounds = np.array([0, placed.n_atoms]) if shared else placed.bounds
        elements = torch.zeros(1, dtype=torch.int64) if shared else placed.elements
        coefficients = self._coefficients(elements)
        if placed.k == 1:  # without tangents no gradient of weights is wanted
            coefficients = coefficients.detach()
        found = Products.apply(self.monomials, bounds, coefficients, torch.cat([turned, one], dim=2))  # type: ignore[no-untyped-call]
        back = found.permute(0, 3, 2, 1)
        if not shared:
            back = back.index_select(1, torch.argsort(placed.order))
        return list(torch.split(back.flatten(0, 1), [block.dim for block in self.outputs], dim=1))

    def _coefficients(self, elements: Tensor) -> Tensor:
        """Of each monomial in each result, ``(n_elements, channels, n_entries)``."""
        made, places = [], []
        for number, contraction in enumerate(self.product.contractions):
            assert isinstance(contraction, Contraction)
            for position, order in enumerate(contraction.orders):
                chosen = np.flatnonzero((self._tables[:, 0] == number) & (self._tables[:, 1] == position))
                rows, components = torch.from_numpy(self._tables[chosen][:, 2:]).T
                table = contraction.get_buffer(f"coefficients_{order}")[rows, :, components]
                weights = contraction.weights[position].index_select(0, elements)
                made.append(table @ weights)
                places.append(chosen)
        placed_order = torch.from_numpy(np.argsort(np.concatenate(places)))
        return torch.cat(made, dim=1).index_select(1, placed_order).transpose(1, 2).contiguous()


def readout(module: LinearReadout | NonlinearReadout, features: list[Tensor], head: int, k: int) -> Tensor:
    """Energies of one head, ``(k * n_atoms,)``."""
    if isinstance(module, LinearReadout):
        return module(features, head)
    own = slice(head * module.width, (head + 1) * module.width)
    hidden = features[module.index][:, 0] @ (module.first[:, own] / math.sqrt(len(module.first)))
    return _activated(module.gate, hidden, k) @ (module.second[own, head] / math.sqrt(len(module.second)))


def _radial(network: RadialNetwork, placed: Placed) -> Tensor:
    """:class:`RadialNetwork` of the pairs, ``(k * n_pairs, n)``."""
    x = placed.basis
    for layer, weight in enumerate(network.weights):
        x = x @ (weight / math.sqrt(len(weight)))
        if layer < len(network.weights) - 1:
            x = _activated("silu", x, placed.k)
    return x


def _times(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Products of rows."""
    if k == 1:
        return x * y
    (value, along), (other, turn) = x.chunk(2), y.chunk(2)
    return torch.cat([value * other, along * other + value * turn])


def _tanh(x: Tensor, k: int) -> Tensor:
    value = torch.tanh(x[: len(x) // k])
    return value if k == 1 else torch.cat([value, (1 - value**2) * x[len(value) :]])


def _activated(name: str, x: Tensor, k: int) -> Tensor:
    """A normalised non-linearity of rows."""
    function, factor = ACTIVATIONS[name]
    if k == 1:
        return function(x) * factor
    value, along = x.chunk(2)
    if name == "silu":
        p = torch.sigmoid(value)
        result, slope = value * p, p * (1 + value * (1 - p))
    elif name == "tanh":
        result = torch.tanh(value)
        slope = 1 - result**2
    elif name == "abs":
        result, slope = value.abs(), torch.sign(value)
    else:
        result, slope = value, torch.ones_like(value)
    return torch.cat([result, slope * along]) * factor

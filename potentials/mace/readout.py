"""From the features of a layer to the energy of each atom, by head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.radial import activate

__all__ = ["LinearReadout", "NonlinearReadout"]


def _scalars(features: list[Block]) -> int:
    """Position of the invariant block.

    Raises:
        ValueError: There is none.
    """
    return [block.irrep for block in features].index((0, 1))


class LinearReadout(nn.Module):
    """A weighted sum of invariants for each head."""

    linear_weights = ("weights",)

    def __init__(self, features: list[Block], n_heads: int) -> None:
        super().__init__()
        self.index = _scalars(features)
        self.weights = nn.Parameter(torch.randn(features[self.index].channels, n_heads))

    def forward(self, features: list[Tensor], head: int) -> Tensor:
        """Energies ``(n_atoms,)`` of one head."""
        column = self.weights[:, head] / math.sqrt(len(self.weights))
        return features[self.index][:, 0] @ column

    def grown(self, like: int) -> dict[str, Tensor]:
        """Parameters with one head more, a copy of another."""
        weights = self.weights.detach()
        return {"weights": torch.cat([weights, weights[:, like : like + 1]], dim=1)}


class NonlinearReadout(nn.Module):
    """One hidden layer; each head has units of its own in it."""

    linear_weights = ("first", "second")

    def __init__(self, features: list[Block], width: int, gate: str, n_heads: int) -> None:
        super().__init__()
        self.index, self.width, self.gate = _scalars(features), width, gate
        self.first = nn.Parameter(torch.randn(features[self.index].channels, n_heads * width))
        self.second = nn.Parameter(torch.randn(n_heads * width, n_heads))

    def forward(self, features: list[Tensor], head: int) -> Tensor:
        """Energies ``(n_atoms,)`` of one head."""
        own = slice(head * self.width, (head + 1) * self.width)
        hidden = features[self.index][:, 0] @ (self.first[:, own] / math.sqrt(len(self.first)))
        return activate(self.gate, hidden) @ (self.second[own, head] / math.sqrt(len(self.second)))

    def grown(self, like: int) -> dict[str, Tensor]:
        """Parameters with one head more, a copy of another."""
        first, second = self.first.detach(), self.second.detach()
        width, n_heads = self.width, second.shape[1]
        own = slice(like * width, (like + 1) * width)
        # what hidden units are divided by grows with their number
        larger = second.new_zeros(len(second) + width, n_heads + 1)
        larger[: len(second), :n_heads] = second
        larger[len(second) :, n_heads] = second[own, like]
        larger *= math.sqrt((n_heads + 1) / n_heads)
        return {"first": torch.cat([first, first[:, own]], dim=1), "second": larger}

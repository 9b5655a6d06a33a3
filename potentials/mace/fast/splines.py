"""Radial networks as cubic splines: what an edge needs of them depends on its length and two elements."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.potentials.mace.interaction import Interaction
from atomml.potentials.mace.model import MACE

__all__ = ["N_KNOTS", "SplineTables"]

N_KNOTS = 1025
"""For one pair: 6 mÅ apart at a cutoff of 6 Å, where cubic splines of the bases are off by less than
float32's rounding (the fourth derivative of the tenth Bessel function is some 750 Å^-4 at unit height)."""

_PAD = 16
_AT_ONCE = 128
"""Knots that are computed together: the way back keeps a dozen arrays of all their columns."""


@dataclass(frozen=True)
class _Networks:
    """A layer's radial networks in float64."""

    radial: nn.Module
    density: nn.Module | None

    @classmethod
    def of(cls, layer: nn.Module) -> _Networks:
        """Copies of those of an interaction."""
        assert isinstance(layer, Interaction)
        density = None if layer.density is None else copy.deepcopy(layer.density).double()
        return cls(copy.deepcopy(layer.radial).double(), density)


class SplineTables:
    """Splines of every layer, built for each pair of elements when it is first met.

    Attributes:
        pair_table: ``(n_elements, n_elements)`` int32, which splines a pair has; -1 where not built.
        tables: For each layer ``(n_pairs * N_KNOTS, 2 * width)`` float32: a column for each path and
            channel, in the last two the pair repulsion (first layer) and the density; values, then slopes
            times the spacing.
    """

    def __init__(self, model: MACE) -> None:
        self.config = model.config
        self.spacing = model.config.cutoff / (N_KNOTS - 1)
        self.basis = copy.deepcopy(model.basis).double()
        self.networks = [_Networks.of(layer) for layer in model.interactions]
        self._lock = threading.Lock()  # two threads may meet an element at once
        n_elements = len(model.config.elements)
        self.repulsion = copy.deepcopy(model.repulsion).double() if model.repulsion is not None else None
        self.by_pair = model.config.distance_transform != "none" or self.repulsion is not None
        self.pair_table = np.full((n_elements, n_elements), -1, np.int32)
        self.tables: list[NDArray[np.float32]] = []
        self.n_pairs = 0

    def cover(self, rows: NDArray[np.int64]) -> None:
        """Build what is missing for atoms of these elements."""
        present = np.unique(rows)
        with self._lock:
            if not self.by_pair and not self.n_pairs:
                self._add(0, 0)
                self.pair_table[:] = 0
            for n, first in enumerate(present):
                for second in present[n:]:
                    if self.pair_table[first, second] < 0:
                        self._add(int(first), int(second))
                        self.pair_table[first, second] = self.pair_table[second, first] = self.n_pairs - 1

    def _add(self, first: int, second: int) -> None:
        """Splines of one pair of elements, in every layer."""
        lengths = torch.linspace(0.0, self.config.cutoff, N_KNOTS, dtype=torch.float64).clamp_min(1e-3)
        pair = torch.tensor([[self.config.elements[first]], [self.config.elements[second]]])
        added = []
        for number, networks in enumerate(self.networks):

            def columns(r: Tensor, networks: _Networks = networks, number: int = number) -> Tensor:
                """Of one layer."""
                return self._columns(r, pair, networks, number)

            rows = []
            for part in torch.split(lengths, _AT_ONCE):
                values, slopes = _with_slopes(columns, part)
                rows.append(torch.cat([values, slopes * self.spacing], dim=1).to(torch.float32).numpy())
            added.append(np.concatenate(rows))
        if self.tables:
            added = [np.concatenate(both) for both in zip(self.tables, added, strict=True)]
        self.tables = added
        self.n_pairs += 1

    def _columns(self, r: Tensor, pair: Tensor, networks: _Networks, number: int) -> Tensor:
        """Weights of all paths, nothing, the repulsion and the density: a multiple of 16 columns."""
        pairs = pair.expand(2, len(r))
        basis, cut = self.basis(r[:, None], pairs)
        if self.config.early_cutoff:
            basis, cut = basis * cut, torch.ones_like(cut)
        weights = networks.radial(basis) * cut
        density, repulsion = torch.zeros_like(cut), torch.zeros_like(cut)
        if networks.density is not None:
            density = torch.tanh(networks.density(basis) ** 2) * cut
        if self.repulsion is not None and number == 0:
            repulsion = self.repulsion.halves(r[:, None], pairs)[:, None]
        empty = weights.new_zeros(len(weights), -(weights.shape[1] + 2) % _PAD)
        return torch.cat([weights, empty, repulsion, density], dim=1)


def _with_slopes(columns: Callable[[Tensor], Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Every column at every length, and its derivative there; a row depends on its own length only.

    The gradient of a weighted sum is linear in the weights, and its gradient with respect to them is what is
    sought: two passes back, where torch's forward mode would compile parts of itself first.
    """
    with torch.enable_grad():
        lengths = lengths.clone().requires_grad_()
        values = columns(lengths)
        weights = torch.ones_like(values, requires_grad=True)
        (along,) = torch.autograd.grad((values * weights).sum(), lengths, create_graph=True)
        (slopes,) = torch.autograd.grad(along.sum(), weights)
    return values.detach(), slopes

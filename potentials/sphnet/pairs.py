"""Pair construction: features of each atom with itself and of each ordered pair, natural and unnatural."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.potentials.sphnet.config import SPHNetConfig
from atomml.potentials.sphnet.degrees import n_components, paths_of
from atomml.potentials.sphnet.gated_product import GatedProduct, PathWeights
from atomml.potentials.sphnet.gates import PairGate
from atomml.potentials.sphnet.layers import DegreeLinear, NormGate
from atomml.potentials.sphnet.products import Pairing
from atomml.potentials.sphnet.spherical import invariants_of
from atomml.potentials.sphnet.surroundings import Pairs, near

__all__ = ["AtomLayer", "BothParities", "PairLayer"]


class BothParities(nn.Module):
    """Linear maps of natural and unnatural features, which never mix.

    Args:
        max_degree: Of the natural ones; the unnatural ones end one before.
        n_in, n_out: Channels.
    """

    def __init__(self, max_degree: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.split = n_components(max_degree)
        self.natural = DegreeLinear(max_degree, n_in, n_out)
        self.unnatural = DegreeLinear(max_degree - 1, n_in, n_out, lowest=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, n_in)`` to ``(components, rows, n_out)``."""
        natural, unnatural = torch.split(x, [self.split, len(x) - self.split])
        return torch.cat([self.natural(natural), self.unnatural(unnatural)])


class AtomLayer(nn.Module):
    """Features of an atom times themselves."""

    def __init__(self, config: SPHNetConfig) -> None:
        super().__init__()
        degree, channels = config.max_degree, config.channels
        self.before, self.mix = NormGate(degree, 0, channels), DegreeLinear(degree, channels, channels)
        self.product = GatedProduct(paths_of(degree, degree, degree, unnatural=True), config, 0)
        self.after = NormGate(degree, degree - 1, channels)
        self.last = BothParities(degree, channels, channels)

    def forward(self, x: Tensor, bounds: Tensor) -> Tensor:
        """Natural features ``(components, n_atoms, channels)`` to those of both parities.

        ``bounds`` is the first atom of each molecule, and the number of atoms.
        """
        atoms = torch.arange(x.shape[1], device=x.device)
        own = self.mix(self.before(x))
        made = self.product(own, own, Pairing(atoms, atoms, bounds))
        natural, unnatural = torch.split(made, [len(x), len(made) - len(x)])
        made = torch.cat([natural + x, unnatural])
        found: Tensor = self.last(self.after(made))
        return found


class PairLayer(nn.Module):
    """Features of an atom times those of another.

    Args:
        config: Shape.
        first: Whether this is the first layer, which looks at every pair.
    """

    def __init__(self, config: SPHNetConfig, first: bool) -> None:
        super().__init__()
        degree, channels = config.max_degree, config.channels
        self.max_degree = degree
        n_invariants = (degree + 2) * channels
        self.before, self.mix = NormGate(degree, 0, channels), DegreeLinear(degree, channels, channels)
        self.product = GatedProduct(paths_of(degree, degree, degree, unnatural=True), config, n_invariants)
        self.gate = None
        if config.pair_sparsity > 0 and not first:
            self.gate = PairGate(n_invariants, config.pair_sparsity)
        self.own_direction = first and config.pair_harmonics
        if self.own_direction:
            self.by_distance = PathWeights(config.radial, degree + 1, channels)
            self.by_invariants = PathWeights(n_invariants, degree + 1, channels)
            sizes = torch.tensor([2 * d + 1 for d in range(degree + 1)])
            self.register_buffer("_sizes", sizes, persistent=False)
            self._sizes: Tensor
        self.after = NormGate(degree, degree - 1, channels)
        self.last = BothParities(degree, channels, channels)

    def forward(self, x: Tensor, pairs: Pairs, radial: Tensor, before: Tensor | None) -> Tensor:
        """Features of all pairs; what an earlier layer gave is added, and stays where this one passes over.

        Args:
            x: ``(components, n_atoms, channels)``, natural.
            pairs: All ordered pairs.
            radial: ``(n_pairs, n_radial)``.
            before: ``(components, n_pairs, channels)`` of both parities; None in the first layer.
        """
        own = self.mix(self.before(x))
        invariants = invariants_of(own, pairs.centre, pairs.neighbour, self.max_degree)
        kept = None
        if self.gate is not None:
            kept, factor = self.gate(invariants, pairs.molecule)
            pairs, radial, invariants = near(pairs, kept), radial[kept], invariants[kept] * factor
        made = self.product(own, own, pairs.pairing(), radial, invariants)
        if self.own_direction:
            weight = self.by_distance(radial) * self.by_invariants(invariants)
            weight = weight.transpose(0, 1).repeat_interleave(self._sizes, dim=0)
            natural, unnatural = torch.split(made, [len(own), len(made) - len(own)])
            made = torch.cat([natural + pairs.harmonics * weight, unnatural])
        found: Tensor = self.last(self.after(made))
        if before is None:
            return found
        return before + found if kept is None else before.index_add(1, kept, found)

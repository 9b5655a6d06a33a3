"""Spherical node interaction: messages of features by harmonics of the edges' directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.nn.segment import segment_sum
from atomml.potentials.sphnet.config import SPHNetConfig
from atomml.potentials.sphnet.degrees import by_degree, n_components, paths_of
from atomml.potentials.sphnet.gated_product import GatedProduct
from atomml.potentials.sphnet.gates import PairGate
from atomml.potentials.sphnet.layers import DegreeLinear, DegreeNorm, NormGate
from atomml.potentials.sphnet.surroundings import Pairs, near

__all__ = ["SphericalLayer", "invariants_of"]


def invariants_of(x: Tensor, centre: Tensor, neighbour: Tensor, max_degree: int) -> Tensor:
    """Scalars of both atoms of each pair, and the inner product of their features of each degree.

    ``(n_pairs, (max_degree + 2) channels)``; of scalars alone ``(n_pairs, 2 channels)``.
    """
    if len(x) == 1:
        return torch.cat([x[0][centre], x[0][neighbour]], dim=1)
    scalars, others = torch.split(x, [1, len(x) - 1])
    products = by_degree(others[:, centre] * others[:, neighbour], max_degree, 1)
    parts = [scalars[0][centre], scalars[0][neighbour], *(part.mean(dim=0) for part in products)]
    return torch.cat(parts, dim=1)


class SphericalLayer(nn.Module):
    """One layer; the first makes all degrees of scalars, and later ones may pass over pairs.

    Args:
        config: Shape.
        first: Whether this is the first.
    """

    def __init__(self, config: SPHNetConfig, first: bool) -> None:
        super().__init__()
        degree, channels = config.max_degree, config.channels
        self.max_degree, self.first = degree, first
        n_invariants = (2 if first else degree + 2) * channels
        paths = paths_of(0 if first else degree, degree, degree, unnatural=False)
        self.product = GatedProduct(paths, config, n_invariants, sparse=False)
        self.before = None if first else NormGate(degree, 0, channels)
        self.mix = None if first else DegreeLinear(degree, channels, channels)
        gated = config.pair_sparsity > 0 and not first
        self.gate = PairGate(n_invariants, config.pair_sparsity) if gated else None
        self.norm = DegreeNorm(degree, channels)
        self.after = DegreeLinear(degree, channels, channels)

    def forward(self, x: Tensor, pairs: Pairs, radial: Tensor) -> Tensor:
        """Natural features ``(components, n_atoms, channels)``; only scalars come into the first layer."""
        n_atoms = x.shape[1]
        invariants = invariants_of(x, pairs.centre, pairs.neighbour, self.max_degree)
        if self.gate is not None:
            kept, factor = self.gate(invariants, pairs.molecule)
            pairs, radial, invariants = near(pairs, kept), radial[kept], invariants[kept] * factor
        source = x
        if self.before is not None and self.mix is not None:
            source = self.mix(self.before(x))
        message = self.product(source, pairs.harmonics, pairs.messages(), radial, invariants)
        message = message[: n_components(self.max_degree)].transpose(0, 1).contiguous()
        total = self.norm(segment_sum(message, pairs.centre, n_atoms).transpose(0, 1))
        if self.first:
            scalars, others = torch.split(total, [1, len(total) - 1])
            total = torch.cat([scalars + x, others])
        else:
            total = total + x
        mixed: Tensor = self.after(total)
        return mixed

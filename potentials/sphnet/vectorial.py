"""Vectorial node interaction: equivariant attention whose vectors are dropped at the end.

Thölke and De Fabritiis, "TorchMD-NET: Equivariant transformers for neural network based molecular
potentials", ICLR 2022, eqs. 5 to 12. SPHNet adds messages between atoms and clusters of them, which are found
by an iteration that depends on the order of the atoms; they are left out here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.nn.segment import gather, segment_sum
from atomml.potentials.sphnet.surroundings import ExpNormal, Pairs, cosine_cutoff

__all__ = ["VectorialInteraction"]


class VectorialLayer(nn.Module):
    """One layer of attention."""

    def __init__(self, channels: int, heads: int, n_radial: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value = nn.Linear(channels, 3 * channels)
        self.radial_key = nn.Linear(n_radial, channels)
        self.radial_value = nn.Linear(n_radial, 3 * channels)
        self.mix = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, 3 * channels)

    def forward(
        self, scalars: Tensor, vectors: Tensor, radial: Tensor, envelope: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """Changes of scalars ``(n_atoms, channels)`` and vectors ``(3, n_atoms, channels)``."""
        n, channels = scalars.shape
        normed = self.norm(scalars)
        centre, neighbour = pairs.centre, pairs.neighbour
        key = gather(self.key(normed), neighbour) * nn.functional.silu(self.radial_key(radial))
        by_head = len(centre), self.heads, channels // self.heads  # an atom far from all others has no pairs
        match = (gather(self.query(normed), centre) * key).view(by_head).sum(dim=2)
        attention = nn.functional.silu(match) * envelope[:, None]
        filters = nn.functional.silu(self.radial_value(radial))
        value, along, new = torch.split(gather(self.value(normed), neighbour) * filters, channels, dim=1)
        weighted = value.reshape(by_head) * attention[:, :, None]
        message = vectors[:, neighbour] * along + pairs.direction.T[:, :, None] * new
        received = segment_sum(weighted.flatten(1), centre, n)
        turned = segment_sum(message.transpose(0, 1).contiguous(), centre, n).transpose(0, 1)
        one, two, three = self.mix(vectors).split(channels, dim=2)
        first, second, third = self.out(received).split(channels, dim=1)
        return (one * two).sum(dim=0) * second + third, three * first + turned


class VectorialInteraction(nn.Module):
    """Layers of attention within a short cutoff; invariants of each atom come out.

    Args:
        channels, heads, layers, n_radial: Shape.
        cutoff: Å.
    """

    def __init__(self, channels: int, heads: int, layers: int, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.radial = ExpNormal(n_radial, cutoff)
        self.layers = nn.ModuleList(VectorialLayer(channels, heads, n_radial) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.last = nn.Linear(channels, channels)

    def forward(self, scalars: Tensor, pairs: Pairs) -> Tensor:
        """``(n_atoms, channels)``; ``pairs`` are those within the cutoff."""
        radial, envelope = self.radial(pairs.distance), cosine_cutoff(pairs.distance, self.cutoff)
        vectors = scalars.new_zeros(3, *scalars.shape)
        for layer in self.layers:
            more, turned = layer(scalars, vectors, radial, envelope, pairs)
            scalars, vectors = scalars + more, vectors + turned
        found: Tensor = self.last(self.norm(scalars))
        return found

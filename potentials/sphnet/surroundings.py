"""What all layers share of a batch: pairs, directions, distances, radial functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.sphnet.degrees import harmonics
from atomml.potentials.sphnet.products import Pairing

__all__ = ["ExpNormal", "Pairs", "near", "pairs_of"]


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of different atoms of the same molecule.

    Attributes:
        centre, neighbour: ``(n,)`` atoms; by centre, then neighbour.
        distance: ``(n,)`` Å.
        direction: ``(n, 3)`` unit vectors from centre to neighbour.
        harmonics: ``(components, n, 1)`` of the directions.
        molecule: ``(n,)`` ascending.
        bounds: ``(n_molecules + 1,)`` first pair of each molecule.
    """

    centre: Tensor
    neighbour: Tensor
    distance: Tensor
    direction: Tensor
    harmonics: Tensor
    molecule: Tensor
    bounds: Tensor

    def pairing(self) -> Pairing:
        """Centre times neighbour."""
        return Pairing(self.centre, self.neighbour, self.bounds)

    def messages(self) -> Pairing:
        """Neighbour times the pair's own row."""
        own = torch.arange(len(self.centre), device=self.centre.device)
        return Pairing(self.neighbour, own, self.bounds)


def pairs_of(graph: AtomGraph, max_degree: int, dtype: torch.dtype) -> Pairs:
    """All pairs of a graph that has an edge for each."""
    centre, neighbour = graph.edge_index
    vectors = graph.edge_vectors()
    distance = torch.linalg.vector_norm(vectors, dim=1)
    direction = vectors / distance[:, None]
    molecule = graph.batch[centre]
    counts = torch.bincount(molecule, minlength=graph.n_graphs)
    bounds = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    components = harmonics(direction, max_degree)[:, :, None].to(dtype)
    return Pairs(centre, neighbour, distance.to(dtype), direction.to(dtype), components, molecule, bounds)


def near(pairs: Pairs, chosen: Tensor) -> Pairs:
    """Some of the pairs, by ascending positions."""
    molecule = pairs.molecule[chosen]
    counts = torch.bincount(molecule, minlength=len(pairs.bounds) - 1)
    return Pairs(
        pairs.centre[chosen],
        pairs.neighbour[chosen],
        pairs.distance[chosen],
        pairs.direction[chosen],
        pairs.harmonics[:, chosen],
        molecule,
        torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)]),
    )


class ExpNormal(nn.Module):
    """Gaussians of ``exp(-r)`` with learned centres and widths, times a cosine cutoff.

    Unke and Meuwly, PhysNet, J. Chem. Theory Comput. 15, 3678 (2019), eq. 7.
    """

    def __init__(self, n: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        low = math.exp(-cutoff)
        self.centres = nn.Parameter(torch.linspace(low, 1.0, n))
        self.widths = nn.Parameter(torch.full((n,), (2.0 / n * (1.0 - low)) ** -2))

    def forward(self, distance: Tensor) -> Tensor:
        """``(n_edges,)`` Å to ``(n_edges, n)``."""
        away = torch.exp(-distance)[:, None] - self.centres
        return torch.exp(-self.widths * away.square()) * cosine_cutoff(distance, self.cutoff)[:, None]


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """``(1 + cos(pi r / c)) / 2`` within the cutoff, 0 beyond."""
    value = 0.5 * (1 + torch.cos(math.pi * distance / cutoff))
    return torch.where(distance < cutoff, value, torch.zeros_like(value))

"""ALIGNN on the shared graph and the line graph of its bonds, folded by symmetry.

A bond is a message from one atom to another; an edge of the line graph goes from each bond into an atom to
each bond out of it, its own way back included (:mod:`atomml.property.folding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

from atomml.base_model import ModelInfo
from atomml.potentials.alignn.convolution import EdgeGatedConvolution, LineGraphConvolution, NormedLayer, Ways
from atomml.property.crystal_network import CrystalNetwork
from atomml.property.element_bins import N_BINS, check_binned
from atomml.property.folding import fold_angles, mean_over_atoms
from atomml.property.nearest import nearest_graph
from atomml.property.property_model import (
    PropertyBatch,
    PropertyInput,
    PropertyOutputs,
)
from atomml.property.targets import Target

__all__ = ["ALIGNN", "ALIGNNConfig"]


@dataclass(frozen=True)
class ALIGNNConfig:
    """The shape of a network; the defaults are the published ones.

    Attributes:
        channels: Of atoms, bonds and angles.
        embedding: Channels in the middle of the embeddings of bonds and angles.
        line_layers: Convolutions on atoms and on the line graph.
        layers: Convolutions on atoms that follow.
        distance_waves: Gaussians of a distance.
        angle_waves: Gaussians of the cosine of an angle.
        neighbours: Nearest neighbours whose shells an atom sees.
        cutoff: Å; neighbours are nearer.
    """

    channels: int = 256
    embedding: int = 64
    line_layers: int = 4
    layers: int = 4
    distance_waves: int = 80
    angle_waves: int = 40
    neighbours: int = 12
    cutoff: float = 8.0


class Gaussians(nn.Module):
    """``exp(-gamma (x - c)^2)`` with centres c from low to high, gamma one over their distance.

    The public code takes the inverse of the distance itself, and not of its square, for gamma.
    """

    def __init__(self, low: float, high: float, n: int) -> None:
        super().__init__()
        self.low, self.high, self.n = low, high, n
        self.gamma = (n - 1) / (high - low)

    def forward(self, x: Tensor) -> Tensor:
        """``(n_rows,)`` to ``(n_rows, n)``."""
        centres = torch.linspace(self.low, self.high, self.n, dtype=x.dtype, device=x.device)
        return torch.exp(-self.gamma * (x[:, None] - centres) ** 2)


class ALIGNN(CrystalNetwork):
    """See :class:`~atomml.property.crystal_network.CrystalNetwork`.

    Args:
        info: Its description.
        targets: What it predicts.
        config: Its shape.
    """

    family = "alignn"
    shape = ALIGNNConfig
    citation = "Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021)"
    on_bonds = True
    config: ALIGNNConfig

    def __init__(
        self, info: ModelInfo, targets: Sequence[Target], config: ALIGNNConfig | None = None
    ) -> None:
        super().__init__(info, targets, config)
        c = self.config
        self.atom_embedding = NormedLayer(N_BINS, c.channels)
        self.edge_embedding = _embedding(0.0, 8.0, c.distance_waves, c)
        self.angle_embedding = _embedding(-1.0, 1.0, c.angle_waves, c)
        self.alignn_layers = nn.ModuleList(LineGraphConvolution(c.channels) for _ in range(c.line_layers))
        self.gcn_layers = nn.ModuleList(EdgeGatedConvolution(c.channels) for _ in range(c.layers))
        self.fc = nn.Linear(c.channels, self.n_outputs)

    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """The graph of the shells of nearest neighbours and the line graph of its bonds, folded."""
        check_binned(atoms.numbers.tolist(), where)
        c = self.config
        graph = nearest_graph(atoms, c.neighbours, c.cutoff, where)
        return PropertyInput(graph, folded=fold_angles(graph))

    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        """Convolutions on atoms and line graph, convolutions on atoms, the mean over atoms."""
        g = given.folded
        assert g is not None
        kind, bonds, angles = self.dtype, g.bond_times, g.angle_times
        atom_ways = Ways(g.source, g.target, g.count.to(kind), g.times, bonds)
        bond_ways = Ways(g.angle_source, g.angle_target, g.angle_count.to(kind), bonds, angles)
        x = self.atom_embedding(self.inputs.to(kind)[g.numbers], g.times)
        y = _embedded(self.edge_embedding, g.length.to(kind), bonds)
        z = _embedded(self.angle_embedding, g.cosine.to(kind), angles)
        layer: Any
        for depth, layer in enumerate(self.alignn_layers, start=1):
            x, m = layer.node_update(x, y, atom_ways)
            y, z = layer.edge_update(m, z, bond_ways, last=depth == len(self.alignn_layers))
        for depth, convolution in enumerate(self.gcn_layers, start=1):
            x, y = convolution(x, y, atom_ways, last=depth == len(self.gcn_layers))
        h = mean_over_atoms(x, g)
        return PropertyOutputs(self.fc(h), h)


def _embedded(layers: nn.ModuleList, values: Tensor, times: Tensor) -> Tensor:
    """Gaussians of a length or cosine, then normed layers."""
    waves, *normed = layers
    found = waves(values)
    for layer in normed:
        found = layer(found, times)
    return found


def _embedding(low: float, high: float, n_waves: int, c: ALIGNNConfig) -> nn.ModuleList:
    waves = Gaussians(low, high, n_waves)
    return nn.ModuleList([waves, NormedLayer(n_waves, c.embedding), NormedLayer(c.embedding, c.channels)])

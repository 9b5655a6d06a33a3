"""CGCNN on the shared graph: gated convolutions over the twelve nearest neighbours, a mean over atoms.

A product of weights with a concatenation is a sum of products, so each part is multiplied where it lives:
per atom, and per edge only what is the edge's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase import Atoms
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.base_model import ModelInfo
from atomml.nn.batch_norm import BatchNorm
from atomml.nn.seeded_dropout import SeededDropout
from atomml.nn.segment import gather, segment_sum
from atomml.property.crystal_network import CrystalNetwork
from atomml.property.element_bins import N_BINS, check_binned
from atomml.property.folding import FoldedGraph, fold_neighbours, mean_over_atoms
from atomml.property.nearest import nearest_graph
from atomml.property.property_model import (
    PropertyBatch,
    PropertyInput,
    PropertyOutputs,
)
from atomml.property.targets import Target

__all__ = ["CGCNN", "CGCNNConfig"]


@dataclass(frozen=True)
class CGCNNConfig:
    """The shape of a network; the defaults are the published ones.

    Attributes:
        channels: Of an atom.
        convolutions: How many.
        hidden: Channels after pooling.
        hidden_layers: Layers after pooling.
        neighbours: Nearest neighbours that an atom sees.
        cutoff: Å; neighbours are nearer.
        step: Å between the Gaussians of a distance, and their width.
        dropout: Share of hidden channels that is left out in training where a target has classes.
    """

    channels: int = 64
    convolutions: int = 3
    hidden: int = 128
    hidden_layers: int = 1
    neighbours: int = 12
    cutoff: float = 8.0
    step: float = 0.2
    dropout: float = 0.5


class Convolution(nn.Module):
    """Equation 5 of the paper, with batch normalisation of the gates and of their sum."""

    def __init__(self, channels: int, n_gaussians: int) -> None:
        super().__init__()
        self.widths = (channels, channels, n_gaussians)
        self.fc_full = nn.Linear(2 * channels + n_gaussians, 2 * channels)
        self.bn1 = BatchNorm(2 * channels)
        self.bn2 = BatchNorm(channels)

    def forward(self, x: Tensor, graph: FoldedGraph, waves: Tensor) -> Tensor:
        """New ``(n_nodes, channels)`` from old ones; ``waves`` are the Gaussians of the bonds."""
        own, other, edge = torch.split(self.fc_full.weight, list(self.widths), dim=1)
        gates = gather(F.linear(x, own, self.fc_full.bias), graph.target)
        gates = gates + gather(F.linear(x, other), graph.source) + F.linear(waves, edge)
        gate, core = self.bn1(gates, graph.bond_times).chunk(2, dim=1)
        messages = torch.sigmoid(gate) * F.softplus(core) * graph.count[:, None].to(gates)
        return F.softplus(x + self.bn2(segment_sum(messages, graph.target, len(x)), graph.times))


class CGCNN(CrystalNetwork):
    """See :class:`~atomml.property.crystal_network.CrystalNetwork`.

    Args:
        info: Its description.
        targets: What it predicts.
        config: Its shape.
    """

    family = "cgcnn"
    shape = CGCNNConfig
    citation = "Xie and Grossman, PRL 120, 145301 (2018)"
    config: CGCNNConfig
    kept_double = ("centres",)
    centres: Tensor

    def __init__(self, info: ModelInfo, targets: Sequence[Target], config: CGCNNConfig | None = None) -> None:
        super().__init__(info, targets, config)
        c = self.config
        n_gaussians = round(c.cutoff / c.step) + 1
        self.register_buffer("centres", c.step * torch.arange(n_gaussians, dtype=torch.float64))
        self.embedding = nn.Linear(N_BINS, c.channels)
        self.convs = nn.ModuleList(Convolution(c.channels, n_gaussians) for _ in range(c.convolutions))
        self.conv_to_fc = nn.Linear(c.channels, c.hidden)
        self.fcs = nn.ModuleList(nn.Linear(c.hidden, c.hidden) for _ in range(c.hidden_layers - 1))
        self.fc_out = nn.Linear(c.hidden, self.n_outputs)
        self.dropout = SeededDropout(c.dropout)

    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """The graph of the shells of nearest neighbours, folded."""
        check_binned(atoms.numbers.tolist(), where)
        graph = nearest_graph(atoms, self.config.neighbours, self.config.cutoff, where)
        return PropertyInput(graph, folded=fold_neighbours(graph, self.config.neighbours))

    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        """Convolutions, the mean over atoms, hidden layers."""
        graph = given.folded
        assert graph is not None
        waves = torch.exp(-(((graph.length[:, None] - self.centres) / self.config.step) ** 2)).to(self.dtype)
        x = F.linear(self.inputs.to(self.dtype), self.embedding.weight, self.embedding.bias)[graph.numbers]
        for convolution in self.convs:
            x = convolution(x, graph, waves)
        h = mean_over_atoms(x, graph)
        h = F.softplus(self.conv_to_fc(F.softplus(h)))
        if any(target.classes for target in self.targets):
            h = self.dropout(h)
        for layer in self.fcs:
            h = F.softplus(layer(h))
        return PropertyOutputs(self.fc_out(h), h)

    def begin_step(self, step: int, n_steps: int, seed: int) -> None:
        """What dropout draws follows from seed and step."""
        self.dropout.begin_step(step, seed)

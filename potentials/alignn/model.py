"""ALIGNN on the shared graph and its bond graph.

An edge of the line graph goes from a bond ``u to v`` to a bond ``v to w``, its own way back among these.
:class:`~atomml.graph.atom_graph.BondGraph` has the pairs of edges that leave one atom: the reverse of one of
them makes an edge of the line graph of each pair, and each bond with its own reverse gives the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from ase import Atoms
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.base_model import ModelInfo
from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.nn.segment import segment_sum
from atomml.potentials.alignn.convolution import EdgeGatedConvolution, LineGraphConvolution, NormedLayer
from atomml.property.element_bins import N_BINS, check_binned, element_bins
from atomml.property.nearest import nearest_graph
from atomml.property.property_model import PropertyInput, PropertyModel, PropertyOutputs, property_info
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


class ALIGNN(PropertyModel):
    """See :class:`~atomml.property.PropertyModel`.

    Args:
        info: Its description.
        targets: What it predicts.
        config: Its shape.
    """

    def __init__(
        self, info: ModelInfo, targets: Sequence[Target], config: ALIGNNConfig | None = None
    ) -> None:
        super().__init__(info, targets)
        self.config = c = config or ALIGNNConfig()
        self.register_buffer("inputs", element_bins().float())
        self.atom_embedding = NormedLayer(N_BINS, c.channels)
        self.edge_embedding = _embedding(0.0, 8.0, c.distance_waves, c)
        self.angle_embedding = _embedding(-1.0, 1.0, c.angle_waves, c)
        self.alignn_layers = nn.ModuleList(LineGraphConvolution(c.channels) for _ in range(c.line_layers))
        self.gcn_layers = nn.ModuleList(EdgeGatedConvolution(c.channels) for _ in range(c.layers))
        self.fc = nn.Linear(c.channels, self.n_outputs)

    def hyperparameters(self) -> dict[str, Any]:
        """Shape and targets."""
        return {**asdict(self.config), "targets": [target.hyperparameters() for target in self.targets]}

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A network of this shape with fresh weights."""
        shape = dict(hyperparameters)
        targets = [Target.from_hyperparameters(one) for one in shape.pop("targets")]
        return cls(info, targets, ALIGNNConfig(**shape))

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A network to be trained.

        Raises:
            ModelError: A setting that there is not, or an element above fermium.
        """
        shape = {key: value for key, value in settings.items() if key != "targets"}
        try:
            config = ALIGNNConfig(**shape)
        except TypeError as error:
            raise ModelError(f"An ALIGNN has no such setting ({error}): see ALIGNNConfig.") from None
        check_binned(elements, "ALIGNN")
        info = property_info(
            name,
            "alignn",
            elements,
            cutoff=config.cutoff,
            bond_cutoff=config.cutoff,
            citation="Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021)",
        )
        return cls(info, settings["targets"], config)

    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """The graph of the shells of nearest neighbours, with its bond graph."""
        check_binned(atoms.numbers.tolist(), where)
        c = self.config
        return PropertyInput(nearest_graph(atoms, c.neighbours, c.cutoff, where, angles=True))

    def outputs(self, given: PropertyInput) -> PropertyOutputs:
        """Convolutions on atoms and line graph, convolutions on atoms, the mean over atoms."""
        graph = given.graph
        target, source = graph.edge_index
        first, second, cosine = line_graph(graph)
        x = self.atom_embedding(self.inputs.to(self.dtype)[graph.numbers])
        y = self.edge_embedding(graph.edge_vectors().norm(dim=1).to(self.dtype))
        z = self.angle_embedding(cosine.to(self.dtype))
        for depth, layer in enumerate(self.alignn_layers, start=1):
            x, m = layer.node_update(x, y, source, target)
            last = depth == len(self.alignn_layers)
            y, z = layer.edge_update(m, z, first, second, last=last)
        for depth, convolution in enumerate(self.gcn_layers, start=1):
            x, y = convolution(x, y, source, target, last=depth == len(self.gcn_layers))
        n = graph.atoms_per_graph().clamp(min=1)[:, None].to(x)
        h = segment_sum(x, graph.batch, graph.n_graphs) / n
        return PropertyOutputs(self.fc(h), h)


def line_graph(graph: AtomGraph) -> tuple[Tensor, Tensor, Tensor]:
    """Edges of the line graph: the bond each comes from, the one it goes to ``(n,)``, and the cosine.

    A bond is a message from the neighbour to the centre of its edge. So a bond into atom v is an edge that
    leaves v, and a bond from v to w the reverse of one. The cosine is that of the angle at v, float64.
    """
    assert graph.bond_graph is not None
    one, other = graph.bond_graph.angle_index
    every = torch.arange(graph.n_edges, device=graph.device)
    vectors = F.normalize(graph.edge_vectors(), dim=1)
    cosine = (vectors[one] * vectors[other]).sum(1).clamp(-1.0, 1.0)
    target = torch.cat([graph.edge_reverse[one], graph.edge_reverse])
    return torch.cat([other, every]), target, torch.cat([cosine, cosine.new_ones(graph.n_edges)])


def _embedding(low: float, high: float, n_waves: int, c: ALIGNNConfig) -> nn.Sequential:
    waves = Gaussians(low, high, n_waves)
    return nn.Sequential(waves, NormedLayer(n_waves, c.embedding), NormedLayer(c.embedding, c.channels))

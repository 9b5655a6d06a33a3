"""CHGNet in plain, differentiable torch.

Deng et al., "CHGNet as a pretrained universal neural network potential for
charge-informed atomistic modelling", Nat. Mach. Intell. 5, 1031 (2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Energies, FastPath, ModelInfo, Potential, TrainingPath
from atomml.nn import BesselBasis, FourierBasis, GatedMLP, segment_sum
from atomml.nn.segment import gather

__all__ = ["CHGNet", "CHGNetConfig"]

N_ELEMENTS = 94
"""Rows of the embedding: hydrogen to plutonium."""

COSINE_SHRINK = 1 - 1e-6
"""The published weights were trained with cosines shrunk by this, away from acos' poles."""


@dataclass(frozen=True)
class CHGNetConfig:
    """Shape of a CHGNet; the defaults are those of version 0.3.0.

    Attributes:
        n_channels: Features of an atom, of a bond and of an angle.
        n_radial: Radial basis functions.
        n_angular: Angular basis functions, odd.
        n_layers: Atom convolutions; one bond convolution fewer, two angle updates fewer.
        cutoff: Atom graph, Å.
        bond_cutoff: Bond graph, Å.
        cutoff_power: Exponent of the envelope.
        norm: Layer norms in the gated MLPs and before the readout.
        output_bias: Bias in the linear layer after each sum over neighbours.
        readout_widths: Hidden layers of the readout.
    """

    n_channels: int = 64
    n_radial: int = 31
    n_angular: int = 31
    n_layers: int = 4
    cutoff: float = 6.0
    bond_cutoff: float = 3.0
    cutoff_power: int = 8
    norm: bool = True
    output_bias: bool = False
    readout_widths: tuple[int, ...] = (64, 64, 64)


@dataclass(frozen=True)
class Incidence:
    """How atoms, undirected bonds and angles of one graph touch each other.

    Attributes:
        centre, neighbour: ``(n_edges,)`` atoms of each directed edge.
        undirected: ``(n_edges,)`` the undirected bond of each directed edge.
        primary: ``(n_bonds,)`` the directed edge that stands for each undirected bond.
        angle_edges: ``(2, n_angles)`` the directed edges that enclose each angle.
        angle_atom: ``(n_angles,)`` the atom at the angle's vertex.
        angle_bonds: ``(2, n_angles)`` the undirected bonds that enclose each angle.
        bond_has_angles: ``(n_bonds, 1)`` whether the bond's structure has any angle at all.
    """

    centre: Tensor
    neighbour: Tensor
    undirected: Tensor
    primary: Tensor
    angle_edges: Tensor
    angle_atom: Tensor
    angle_bonds: Tensor
    bond_has_angles: Tensor

    @classmethod
    def of(cls, graph: AtomGraph) -> Incidence:
        """Derive the incidence of a graph that carries a bond graph."""
        if graph.bond_graph is None:
            raise ModelError("CHGNet needs a graph with a bond graph: build it with bond_cutoff=3.")
        centre, neighbour = graph.edge_index
        edges = torch.arange(graph.n_edges, device=graph.device)
        is_primary = edges < graph.edge_reverse
        primary = edges[is_primary]
        rank = torch.cumsum(is_primary, 0) - 1
        undirected = torch.where(is_primary, rank, rank[graph.edge_reverse])
        angle_edges = graph.bond_graph.angle_index
        angle_atom = centre[angle_edges[0]]
        graph_has_angles = torch.zeros(graph.n_graphs, dtype=torch.bool, device=graph.device)
        graph_has_angles[graph.batch[angle_atom]] = True
        return cls(
            centre=centre,
            neighbour=neighbour,
            undirected=undirected,
            primary=primary,
            angle_edges=angle_edges,
            angle_atom=angle_atom,
            angle_bonds=undirected[angle_edges],
            bond_has_angles=graph_has_angles[graph.batch[centre[primary]]][:, None],
        )


class AtomConvolution(nn.Module):
    """Atoms learn from their neighbours (Deng et al. 2023, eq. 3)."""

    def __init__(self, config: CHGNetConfig) -> None:
        super().__init__()
        n = config.n_channels
        self.message = GatedMLP((n, n, n), n, hidden=True, norm=config.norm)
        self.output = nn.Linear(n, n, bias=config.output_bias)

    def forward(self, atoms: Tensor, bonds: Tensor, weights: Tensor, incidence: Incidence) -> Tensor:
        """New atom features ``(n_atoms, n_channels)``."""
        centre, neighbour, undirected = incidence.centre, incidence.neighbour, incidence.undirected
        message = self.message([(atoms, centre), (bonds, undirected), (atoms, neighbour)])
        message = message * gather(weights, undirected)
        return atoms + self.output(segment_sum(message, centre, len(atoms)))


class BondConvolution(nn.Module):
    """Bonds learn from the angles that they take part in (Deng et al. 2023, eq. 4)."""

    def __init__(self, config: CHGNetConfig) -> None:
        super().__init__()
        n = config.n_channels
        self.message = GatedMLP((n, n, n, n), n, hidden=True, norm=config.norm)
        self.output = nn.Linear(n, n, bias=config.output_bias)

    def forward(
        self, atoms: Tensor, bonds: Tensor, angles: Tensor, weights: Tensor, incidence: Incidence
    ) -> Tensor:
        """New bond features ``(n_bonds, n_channels)``; unchanged in structures without angles."""
        first, second = incidence.angle_bonds
        message = self.message(
            [(bonds, first), (bonds, second), (angles, None), (atoms, incidence.angle_atom)]
        )
        message = message * gather(weights, first) * gather(weights, second)
        update = self.output(segment_sum(message, first, len(bonds)))
        return bonds + torch.where(incidence.bond_has_angles, update, torch.zeros_like(update))


class AngleUpdate(nn.Module):
    """Angles learn from their bonds and their atom (Deng et al. 2023, eq. 5)."""

    def __init__(self, config: CHGNetConfig) -> None:
        super().__init__()
        n = config.n_channels
        self.message = GatedMLP((n, n, n, n), n, hidden=False, norm=config.norm)

    def forward(self, atoms: Tensor, bonds: Tensor, angles: Tensor, incidence: Incidence) -> Tensor:
        """New angle features ``(n_angles, n_channels)``."""
        first, second = incidence.angle_bonds
        return angles + self.message(
            [(bonds, first), (bonds, second), (angles, None), (atoms, incidence.angle_atom)]
        )


class CHGNet(Potential):
    """The network; per-site energies plus the reference energy of each element.

    Raises:
        ModelError: A graph without a bond graph.
    """

    kept_double = ("reference",)

    def __init__(self, config: CHGNetConfig, info: ModelInfo) -> None:
        super().__init__(info)
        self.config = config
        n, n_layers = config.n_channels, config.n_layers
        self.embedding = nn.Embedding(N_ELEMENTS, n)
        self.radial = BesselBasis(config.n_radial, config.cutoff, config.cutoff_power)
        self.radial_short = BesselBasis(config.n_radial, config.bond_cutoff, config.cutoff_power)
        self.angular = FourierBasis(config.n_angular)
        self.bond_embedding = nn.Linear(config.n_radial, n, bias=False)
        self.atom_weights = nn.Linear(config.n_radial, n, bias=False)
        self.bond_weights = nn.Linear(config.n_radial, n, bias=False)
        self.angle_embedding = nn.Linear(config.n_angular, n, bias=False)
        self.atom_layers = nn.ModuleList(AtomConvolution(config) for _ in range(n_layers))
        self.bond_layers = nn.ModuleList(BondConvolution(config) for _ in range(n_layers - 1))
        self.angle_layers = nn.ModuleList(AngleUpdate(config) for _ in range(n_layers - 2))
        self.magmom = nn.Linear(n, 1)
        self.readout_norm = nn.LayerNorm(n) if config.norm else None
        self.readout = _readout(n, config.readout_widths)
        self.register_buffer("reference", torch.zeros(N_ELEMENTS, dtype=torch.float64))
        self.reference: Tensor

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self.config) | {"readout_widths": list(self.config.readout_widths)}

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A CHGNet of the given shape with fresh weights."""
        values = hyperparameters | {"readout_widths": tuple(hyperparameters["readout_widths"])}
        return cls(CHGNetConfig(**values), info)

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A CHGNet with fresh weights, of the shape of version 0.3.0 but for ``settings``.

        Raises:
            ModelError: A setting that is none of :class:`CHGNetConfig`'s.
        """
        known = [entry.name for entry in fields(CHGNetConfig)]
        unknown = [key for key in settings if key not in known]
        if unknown:
            raise ModelError(f"CHGNet has no setting {unknown[0]!r}: there are {', '.join(known)}.")
        values = asdict(CHGNetConfig()) | dict(settings)
        config = CHGNetConfig(**values | {"readout_widths": tuple(values["readout_widths"])})
        info = ModelInfo(
            name=name,
            family="chgnet",
            cutoff=float(config.cutoff),
            bond_cutoff=float(config.bond_cutoff),
            elements=tuple(elements),
            properties=("magmoms", "atom_features", "crystal_features"),
            citation="Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3",
        )
        return cls(config, info)

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Embeddings, bases, one block per interaction (atoms, bonds, angles), magmom head, readout."""
        found: dict[str, list[str]] = {"embedding": [], "bases": []}
        found |= {f"interaction-{i + 1}": [] for i in range(self.config.n_layers)}
        found |= {"magmom": [], "readout": []}
        for name, _ in self.named_parameters():
            head, _, rest = name.partition(".")
            if head in ("atom_layers", "bond_layers", "angle_layers"):
                block = f"interaction-{int(rest.partition('.')[0]) + 1}"
            elif head in ("embedding", "magmom"):
                block = head
            else:
                block = "readout" if head.startswith("readout") else "bases"
            found[block].append(name)
        return {block: tuple(names) for block, names in found.items()}

    def tuned_blocks(self) -> tuple[str, ...]:
        """The last interaction and the heads."""
        return (f"interaction-{self.config.n_layers}", "magmom", "readout")

    def references(self) -> dict[int, float]:
        """Constant energy of each element that the model knows, eV."""
        return {z: float(self.reference[z - 1]) for z in self.info.elements}

    def shift_references(self, shifts: Mapping[int, float]) -> None:
        """Add to the constant energies of elements, eV by atomic number."""
        for number, shift in shifts.items():
            self.reference[number - 1] += shift

    def build_fast_path(self) -> FastPath | None:
        """Fused kernels on the CPU; elsewhere the plain path is all there is."""
        from atomml.potentials.chgnet.fast import FastCHGNet  # numba loads only where it is used

        return FastCHGNet(self) if FastCHGNet.supports(self) else None

    def build_training_path(self) -> TrainingPath | None:
        """Fused kernels with tangents on the CPU; elsewhere double backward through the plain path."""
        from atomml.potentials.chgnet.fast import FastCHGNet
        from atomml.potentials.chgnet.training import TrainingCHGNet

        return TrainingCHGNet(self) if FastCHGNet.supports(self) else None

    def energies(self, graph: AtomGraph) -> Energies:
        """Site energies, magnetic moments (μB), and features of atoms and crystals."""
        incidence = Incidence.of(graph)
        vectors = graph.edge_vectors()
        distances = torch.linalg.vector_norm(vectors, dim=1)
        bond_lengths = distances[incidence.primary].to(self.dtype)
        basis = self.radial(bond_lengths)
        bonds, atom_weights = self.bond_embedding(basis), self.atom_weights(basis)
        bond_weights = self.bond_weights(self.radial_short(bond_lengths))
        directions = vectors / distances[:, None]
        angles = self.angle_embedding(self.angular(_angles(directions, incidence).to(self.dtype)))
        atoms = self.embedding(graph.numbers - 1)
        features = atoms
        for layer, atom_layer in enumerate(self.atom_layers):
            atoms = atom_layer(atoms, bonds, atom_weights, incidence)
            if layer < len(self.bond_layers):
                features = atoms
                bonds = self.bond_layers[layer](atoms, bonds, angles, bond_weights, incidence)
            if layer < len(self.angle_layers):
                angles = self.angle_layers[layer](atoms, bonds, angles, incidence)
        if self.readout_norm is not None:
            atoms = self.readout_norm(atoms)
        extras = {
            "magmoms": self.magmom(features).abs().squeeze(1),
            "atom_features": features,
            "crystal_features": segment_sum(atoms, graph.batch, graph.n_graphs),
        }
        return Energies(self.readout(atoms).squeeze(1), self.reference[graph.numbers - 1], extras)


def _angles(directions: Tensor, incidence: Incidence) -> Tensor:
    """Angle between the two unit vectors of each angle, ``(n_angles,)`` in radians."""
    first, second = incidence.angle_edges
    cosines = (gather(directions, first) * gather(directions, second)).sum(dim=1)
    return torch.acos(cosines * COSINE_SHRINK)


def _readout(n_channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip((n_channels, *widths), widths, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

"""MACE in plain, differentiable torch: equivariant messages of many-body order.

Batatia, Kovács, Simm, Ortner and Csányi, "MACE: Higher Order Equivariant Message Passing Neural Networks for
Fast and Accurate Force Fields", NeurIPS 2022 (arXiv:2206.07697).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.headed_potential import HeadedPotential
from atomml.model import Energies, FastPath, ModelInfo, TrainingPath
from atomml.nn import segment_sum
from atomml.potentials.mace.config import MACEConfig
from atomml.potentials.mace.interaction import Interaction, NonlinearInteraction, Surroundings
from atomml.potentials.mace.irreps import Block, blocks_of
from atomml.potentials.mace.product import Product
from atomml.potentials.mace.radial import PairRepulsion, RadialBasis
from atomml.potentials.mace.readout import LinearReadout, NonlinearReadout

__all__ = ["CITATION", "MACE"]

CITATION = "Batatia et al., NeurIPS 2022, arXiv:2206.07697"


class MACE(HeadedPotential):
    """The network; per-site energies of the chosen head plus its reference energy of each element."""

    kept_double = ("reference",)
    reference: Tensor
    scale: Tensor
    shift: Tensor
    _row: Tensor

    def __init__(self, config: MACEConfig, info: ModelInfo) -> None:
        super().__init__(info)
        self.config = config
        hidden = blocks_of(config.hidden)
        channels = _check(config, hidden)
        n_elements, n_heads, n_layers = len(config.elements), len(config.heads), len(config.interactions)
        self.embedding = nn.Parameter(torch.randn(n_elements, channels))
        self.basis = RadialBasis(config)
        self.repulsion = PairRepulsion(config.cutoff_power) if config.pair_repulsion else None
        self.interactions, self.products = nn.ModuleList(), nn.ModuleList()
        self.readouts = nn.ModuleList()
        features = [Block(0, 1, channels)]
        for layer in range(n_layers):
            last = layer == n_layers - 1
            outputs = hidden[:1] if last and (n_layers == 1 or not config.keep_last_irreps) else hidden
            self._add_layer(layer, features, outputs, channels)
            if last and n_layers > 1:
                width = blocks_of(config.readout)[0].channels
                self.readouts.append(NonlinearReadout(outputs, width, config.gate, n_heads))
            else:
                only_last = config.last_readout_only
                self.readouts.append(nn.Identity() if only_last else LinearReadout(outputs, n_heads))
            features = outputs
        self.register_buffer("scale", torch.ones(n_heads, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(n_heads, dtype=torch.float64))
        self.register_buffer("reference", torch.zeros(n_heads, n_elements, dtype=torch.float64))
        row = torch.zeros(max(config.elements) + 1, dtype=torch.int64)
        row[list(config.elements)] = torch.arange(n_elements)
        self.register_buffer("_row", row, persistent=False)

    def _add_layer(self, layer: int, features: list[Block], outputs: list[Block], channels: int) -> None:
        """One interaction and its product."""
        config = self.config
        kind = config.interactions[layer]
        targets = _targets(config, channels, first=layer == 0)
        shape: dict[str, Any] = {
            "n_elements": len(config.elements),
            "max_degree": config.max_degree,
            "radial_widths": [config.n_radial, *config.radial_widths],
        }
        edges = _edge_features(config, features, first=layer == 0)
        if kind == "nonlinear-residual":
            self.interactions.append(NonlinearInteraction(features, edges, targets, outputs, **shape))
        else:
            block = Interaction(
                kind, features, edges, targets, outputs, neighbours=config.neighbours, **shape
            )
            self.interactions.append(block)
        product = Product(
            targets,
            outputs,
            config.correlations[layer],
            n_elements=len(config.elements),
            shared=config.shared_product,
            add_skip=layer > 0 or kind.endswith("residual"),
        )
        self.products.append(product)

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return self.config.to_json()

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A MACE of the given shape with fresh weights."""
        return cls(MACEConfig.from_json(hyperparameters), info)

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A MACE with fresh weights, of the shape of MACE-MP-0 medium but for ``settings``.

        Raises:
            ModelError: A setting that is none of :class:`MACEConfig`'s, or one out of its range.
        """
        return cls.of(MACEConfig.from_json({"elements": sorted(elements), **settings}), name)

    @classmethod
    def of(cls, config: MACEConfig, name: str, **described: Any) -> Self:
        """A MACE of this shape with fresh weights, described by what the shape says and ``described``."""
        info = ModelInfo(
            name=name,
            family="mace",
            cutoff=float(config.cutoff),
            elements=config.elements,
            interaction_range=float(config.cutoff) * len(config.interactions),
            properties=("atom_features", "crystal_features"),
            citation=CITATION,
        )
        return cls(config, ModelInfo(**{**vars(info), **described}))

    def with_new_head(self, head: str) -> Self:
        """Another model with one head more: readouts, scale, shift and free atoms as the present one's.

        Raises:
            ModelError: There is such a head, or none answers.
        """
        like = self.config.head_index
        config = replace(self.config, heads=(*self.config.heads, head), head=head)
        grown = type(self)(config, self.info).to(dtype=self.dtype, device=self.device)
        state = self.state_dict()
        for name in ("scale", "shift", "reference"):
            state[name] = torch.cat([state[name], state[name][like : like + 1]])
        for layer, readout in enumerate(self.readouts):
            if isinstance(readout, LinearReadout | NonlinearReadout):
                state |= {f"readouts.{layer}.{name}": value for name, value in readout.grown(like).items()}
        grown.load_state_dict(state)
        return grown.train(self.training)

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Embedding, one block per layer (its interaction and product), readouts."""
        layers = [f"interaction-{i + 1}" for i in range(len(self.interactions))]
        found: dict[str, list[str]] = {block: [] for block in ("embedding", *layers, "readout")}
        for name, _ in self.named_parameters():
            head, _, rest = name.partition(".")
            if head in ("interactions", "products"):
                found[f"interaction-{int(rest.partition('.')[0]) + 1}"].append(name)
            else:
                found["readout" if head == "readouts" else "embedding"].append(name)
        return {block: tuple(names) for block, names in found.items()}

    def tuned_blocks(self) -> tuple[str, ...]:
        """The last layer and the readouts."""
        return (f"interaction-{len(self.interactions)}", "readout")

    def set_scales(self, neighbours: float, force: float | None) -> bool:
        """Messages divided by the number of neighbours, energies of atoms in units of the forces' size.

        What the configuration says of neighbours itself, stays.
        """
        if self.config.neighbours == 1.0 and neighbours > 0:
            self.config = replace(self.config, neighbours=neighbours)
            for interaction in self.interactions:
                if isinstance(interaction, Interaction):
                    interaction.neighbours = neighbours
        if force is not None:
            self.scale.fill_(force)
        self._fast_key = None
        return True

    def build_fast_path(self) -> FastPath | None:
        """Fused kernels in float32 on the CPU; elsewhere the plain path is all there is."""
        from atomml.potentials.mace.fast import FastMACE  # numba loads only where it is used

        return FastMACE(self) if FastMACE.supports(self) else None

    def build_training_path(self) -> TrainingPath | None:
        """Fused kernels on the CPU; elsewhere, and for gated interactions, the plain path is all there is."""
        from atomml.potentials.mace.training import TrainingMACE

        return TrainingMACE(self) if TrainingMACE.supports(self) else None

    def energies(self, graph: AtomGraph) -> Energies:
        """Site energies, and the invariant features of all layers."""
        head = self.config.head_index
        around, distances, pairs = self._surroundings(graph)
        features = [(self.embedding / math.sqrt(len(self.embedding)))[around.rows][:, None, :]]
        site = features[0].new_zeros(graph.n_atoms)
        if self.repulsion is not None:
            site = site + self.repulsion(distances, pairs, around.centre, graph.n_atoms)
        invariants = []
        for interaction, product, readout in zip(
            self.interactions, self.products, self.readouts, strict=True
        ):
            messages, skip = interaction(features, around)
            features = product(messages, skip, around)
            invariants.append(features[0][:, 0])
            if not isinstance(readout, nn.Identity):
                site = site + readout(features, head)
        site = self.scale[head] * site + self.shift[head]
        described = torch.cat(invariants, dim=1)
        extras = {
            "atom_features": described,
            "crystal_features": segment_sum(described, graph.batch, graph.n_graphs),
        }
        return Energies(site, self.reference[head, around.rows], extras)

    def _surroundings(self, graph: AtomGraph) -> tuple[Surroundings, Tensor, Tensor]:
        """What all layers share, distances ``(n_edges, 1)``, and the elements at both ends of each edge."""
        from e3nn import o3

        centre, neighbour = graph.edge_index
        vectors = -graph.edge_vectors()  # from the neighbour, which sends, to the centre, which receives
        distances = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).to(self.dtype)
        degrees = list(range(self.config.max_degree + 1))
        harmonics = o3.spherical_harmonics(degrees, vectors.to(self.dtype), True, "component")
        pairs = graph.numbers[graph.edge_index.flip(0)]
        basis, cut = self.basis(distances, pairs)
        rows = self._row[graph.numbers]
        around = Surroundings(
            centre=centre,
            neighbour=neighbour,
            harmonics=list(torch.split(harmonics, [2 * degree + 1 for degree in degrees], dim=1)),
            basis=basis * cut if self.config.early_cutoff else basis,
            cut=None if self.config.early_cutoff else cut,
            rows=rows,
            groups=[(int(row), torch.nonzero(rows == row).squeeze(1)) for row in torch.unique(rows)],
        )
        return around, distances, pairs


def _check(config: MACEConfig, hidden: list[Block]) -> int:
    """The number of channels of irreps that a MACE can have.

    Raises:
        ModelError: Irreps that it can't.
    """
    channels = {block.channels for block in hidden}
    if not hidden or hidden[0].irrep != (0, 1) or len(channels) != 1:
        raise ModelError(
            f"MACE's hidden irreps start with 0e and share one multiplicity, not {config.hidden}."
        )
    if len({block.irrep for block in hidden}) != len(hidden):
        raise ModelError(f"MACE's hidden irreps name each irrep once, not {config.hidden}.")
    readout = blocks_of(config.readout)
    if len(readout) != 1 or readout[0].irrep != (0, 1):
        raise ModelError(f"MACE's last readout has scalars only, like 16x0e, not {config.readout}.")
    return channels.pop()


def _targets(config: MACEConfig, channels: int, *, first: bool) -> list[Block]:
    """Irreps of messages: those of the harmonics, but both parities later on if hidden features have 0o."""
    degrees = range(config.max_degree + 1)
    both = not first and any(block.irrep == (0, -1) for block in blocks_of(config.hidden))
    parities = {degree: (-1, 1) if both else ((-1) ** degree,) for degree in degrees}
    return [Block(degree, parity, channels) for degree in degrees for parity in parities[degree]]


def _edge_features(config: MACEConfig, features: list[Block], *, first: bool) -> list[Block]:
    """Irreps that a layer's messages are made from."""
    if config.edge_irreps is None or (first and not config.edge_irreps_first):
        return features
    blocks = blocks_of(config.edge_irreps)
    return [block for block in blocks if block.irrep == (0, 1)] if first else blocks

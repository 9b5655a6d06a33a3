"""DPA3 in plain, differentiable torch.

Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.headed_potential import HeadedPotential
from atomml.model import Energies, FastPath, ModelInfo, Prediction, TrainingPath
from atomml.nn import segment_sum
from atomml.nn.segment import gather
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.fitting import FittingNet
from atomml.potentials.dpa3.layers import Affine, activation
from atomml.potentials.dpa3.repflow import RepFlow
from atomml.potentials.dpa3.surroundings import Surroundings, rest_of_switch

__all__ = ["CITATION", "DPA3", "HIGHEST_CHARGE", "HIGHEST_SPIN"]

logger = logging.getLogger(__name__)

CITATION = "Zhang et al., arXiv:2506.01686"

HIGHEST_CHARGE = 100
"""The charge embedding has a row for each charge from minus this to one less than this."""

HIGHEST_SPIN = 100
"""The spin embedding has this many rows, from 0."""


class ChargeSpin(nn.Module):
    """A vector of a structure's charge and spin, which is added to the embedding of each of its atoms."""

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.charge = nn.Parameter(
            torch.randn(2 * HIGHEST_CHARGE, width) / (2 * HIGHEST_CHARGE + width) ** 0.5
        )
        self.spin = nn.Parameter(torch.randn(HIGHEST_SPIN, width) / (HIGHEST_SPIN + width) ** 0.5)
        self.mix = Affine(2 * width, width)
        self.act = activation(act)

    def forward(self, charge: Tensor, spin: Tensor) -> Tensor:
        """Charges and spins ``(n_graphs,)`` to ``(n_graphs, width)``.

        Raises:
            ModelError: Beyond the rows of the embedding.
        """
        for name, value, low, high in (
            ("charge", charge, -HIGHEST_CHARGE, HIGHEST_CHARGE),
            ("spin", spin, 0, HIGHEST_SPIN),
        ):
            if bool(((value < low) | (value >= high) | (value != value.round())).any()):
                raise ModelError(f"DPA3 knows a {name} of {low} to {high - 1}, whole, not {value.tolist()}.")
        rows = [self.charge[charge.long() + HIGHEST_CHARGE], self.spin[spin.long()]]
        mixed: Tensor = self.act(self.mix(torch.cat(rows, dim=1)))
        return mixed


class DPA3(HeadedPotential):
    """The network; per-site energies by the chosen branch, plus its constant energy of each element."""

    kept_double = ("reference", "deviation", "mean")
    reference: Tensor
    deviation: Tensor
    mean: Tensor
    case: Tensor
    _row: Tensor

    def __init__(self, config: DPA3Config, info: ModelInfo) -> None:
        super().__init__(info)
        self.config = config
        self._said_cut = False
        n_types, n_heads = len(config.elements), len(config.heads)
        self.act = activation(config.activation)
        self.embedding = nn.Parameter(torch.randn(n_types, config.n_dim) / (n_types + config.n_dim) ** 0.5)
        self.charge_spin = ChargeSpin(config.n_dim, config.activation) if config.charge_spin else None
        self.edge_embedding = Affine(1, config.e_dim)
        self.angle_embedding = Affine(1, config.a_dim, bias=False)
        self.layers = nn.ModuleList(RepFlow(config) for _ in range(config.nlayers))
        n_inputs = config.descriptor_width + config.dim_case_embd
        self.fitting = FittingNet(n_inputs, config.neuron, config.fitting_activation, config.resnet_dt)
        self.register_buffer("case", torch.eye(n_heads, config.dim_case_embd))
        self.register_buffer("reference", torch.zeros(n_heads, n_types, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n_types, dtype=torch.float64))
        deviation = torch.full((n_types, 2), config.fix_stat_std or 1.0, dtype=torch.float64)
        self.register_buffer("deviation", deviation)
        row = torch.zeros(max(config.elements) + 1, dtype=torch.int64)
        row[list(config.elements)] = torch.arange(n_types)
        self.register_buffer("_row", row, persistent=False)

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return self.config.to_json()

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A DPA3 of the given shape with fresh weights."""
        return cls(DPA3Config.from_json(hyperparameters), info)

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A DPA3 with fresh weights, of DPA-3.1-3M's shape but for ``settings``.

        Raises:
            ModelError: A setting that is none of :class:`DPA3Config`'s, or one out of its range.
        """
        codes = {"dim_case_embd": len(settings["heads"])} if len(settings.get("heads", ())) > 1 else {}
        config = DPA3Config.from_json({"elements": sorted(elements), **codes, **settings})
        if not config.fix_stat_std:
            raise ModelError("DPA3 with fix_stat_std=0 would need statistics of the data: leave it at 0.3.")
        return cls.of(config, name)

    @classmethod
    def of(cls, config: DPA3Config, name: str, **described: Any) -> Self:
        """A DPA3 of this shape with fresh weights, described by what the shape says and ``described``."""
        info = ModelInfo(
            name=name,
            family="dpa3",
            cutoff=float(config.e_rcut),
            elements=config.elements,
            bond_cutoff=float(config.a_rcut),
            interaction_range=float(config.e_rcut) * config.nlayers,
            properties=("atom_features", "crystal_features"),
            charge_aware=config.charge_spin,
            citation=CITATION,
        )
        return cls(config, ModelInfo(**{**vars(info), **described}))

    def with_new_head(self, head: str) -> Self:
        """Another model with one branch more: a code of its own, and weights for it like the present one's.

        Raises:
            ModelError: There is such a branch, none answers, or the encoding cannot grow.
        """
        like, case = self.config.head_index, self.case
        unused = torch.nonzero((case == 0).all(dim=0))
        column = int(unused[0]) if len(unused) else case.shape[1]
        n_codes = max(case.shape[1], column + 1)
        config = replace(self.config, heads=(*self.heads, head), head=head, dim_case_embd=n_codes)
        grown = type(self)(config, self.info).to(dtype=self.dtype, device=self.device)
        if [layer.copies for layer in grown.fitting.layers] != [
            layer.copies for layer in self.fitting.layers
        ]:
            raise ModelError(f"{self.info.name} cannot have one branch more: its fitting net would change.")
        state = self.state_dict()
        state["reference"] = torch.cat([self.reference, self.reference[like : like + 1]])
        state["case"] = case.new_zeros(len(config.heads), n_codes)
        state["case"][:-1, : case.shape[1]] = case
        state["case"][-1, column] = 1
        name = "fitting.layers.0.weight" if config.neuron else "fitting.last.weight"
        first = nn.functional.pad(state[name], (0, 0, 0, n_codes - case.shape[1]))
        codes = first[self.config.descriptor_width :]
        codes[column] = case[like].to(first.dtype) @ codes[: case.shape[1]]
        grown.load_state_dict({**state, name: first})
        return grown.train(self.training)

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Embeddings, one block per layer, the fitting net."""
        layers = [f"layer-{i + 1}" for i in range(len(self.layers))]
        found: dict[str, list[str]] = {block: [] for block in ("embedding", *layers, "fitting")}
        for name, _ in self.named_parameters():
            head, _, rest = name.partition(".")
            if head == "layers":
                found[f"layer-{int(rest.partition('.')[0]) + 1}"].append(name)
            else:
                found["fitting" if head == "fitting" else "embedding"].append(name)
        return {block: tuple(names) for block, names in found.items()}

    def tuned_blocks(self) -> tuple[str, ...]:
        """The last layer and the fitting net."""
        return (f"layer-{len(self.layers)}", "fitting")

    def cutoff_jump(self, cutoff: float) -> tuple[float, float]:
        """What the exponential switch leaves at a cutoff; the polynomial one leaves nothing."""
        if not self.config.use_exp_switch:
            return 0.0, 0.0
        start = self.config.e_rcut_smth if cutoff == self.config.e_rcut else self.config.a_rcut_smth
        return rest_of_switch(start, cutoff)

    def predict(self, graph: AtomGraph, **wanted: Any) -> Prediction:
        """As of any potential; says once where DeePMD-kit's fixed selection would cut neighbours off."""
        if not self.config.use_dynamic_sel and not self._said_cut:
            self._warn_of_cut_neighbours(graph)
        return super().predict(graph, **wanted)

    def _warn_of_cut_neighbours(self, graph: AtomGraph) -> None:
        config = self.config
        lengths = torch.linalg.vector_norm(graph.edge_vectors().detach(), dim=1)
        for cutoff, kept in ((config.e_rcut, config.e_sel), (config.a_rcut, config.a_sel)):
            counts = torch.bincount(graph.edge_index[0, lengths < cutoff], minlength=graph.n_atoms)
            if len(counts) and int(counts.max()) > kept:
                self._said_cut = True
                logger.warning(
                    "Atom %d has %d neighbours within %g Å: with the fixed selection of %s DeePMD-kit would "
                    "keep the nearest %d; here all of them count.",
                    int(counts.argmax()),
                    int(counts.max()),
                    cutoff,
                    self.info.name,
                    kept,
                )
                return

    def build_fast_path(self) -> FastPath | None:
        """Fused kernels on the CPU; elsewhere the plain path is all there is."""
        from atomml.potentials.dpa3.fast import FastDPA3  # numba loads only where it is used

        return FastDPA3(self) if FastDPA3.supports(self) else None

    def build_training_path(self) -> TrainingPath | None:
        """Fused kernels on the CPU where the fast path's cover this model; elsewhere the plain path."""
        from atomml.potentials.dpa3.fast import FastDPA3
        from atomml.potentials.dpa3.training import TrainingDPA3

        return TrainingDPA3(self) if FastDPA3.supports(self) else None

    def energies(self, graph: AtomGraph) -> Energies:
        """Site energies, and the features of the last layer."""
        head, rows = self.config.head_index, self._row[graph.numbers]
        around = Surroundings.of(graph, self.config, self.mean, self.deviation, rows, self.dtype)
        embedded = self.embedded(graph, rows)
        node = self.act(embedded)
        if self.config.edge_init_use_dist:
            edge = self.edge_embedding(around.length)
        else:
            edge = self.act(self.edge_embedding(around.inverse))
        angle = self.angle_embedding(around.cosine)
        for layer in self.layers:
            node, edge, angle = layer(node, edge, angle, around)
        described = torch.cat([node, embedded], dim=1) if self.config.concat_output_tebd else node
        extras = {
            "atom_features": described,
            "crystal_features": segment_sum(described, graph.batch, graph.n_graphs),
        }
        site = self.fitting(described, self.case[head])
        return Energies(site, self.reference[head, rows], extras)

    def embedded(self, graph: AtomGraph, rows: Tensor) -> Tensor:
        """The embedding of each atom's type and of its structure's charge and spin ``(n_atoms, n_dim)``."""
        embedded = gather(self.embedding, rows)
        if self.charge_spin is not None:
            embedded = embedded + self._charge_and_spin(graph)[graph.batch]
        return embedded

    def _charge_and_spin(self, graph: AtomGraph) -> Tensor:
        """The vector of each structure; what is neutral and without spin takes the default of the file."""
        assert self.charge_spin is not None
        charge, spin = graph.charge, graph.spin
        if self.config.default_charge_spin is not None:
            unsaid = (charge == 0) & (spin == 0)
            usual = charge.new_tensor(self.config.default_charge_spin)
            charge, spin = torch.where(unsaid, usual[0], charge), torch.where(unsaid, usual[1], spin)
        mixed: Tensor = self.charge_spin(charge, spin)
        return mixed

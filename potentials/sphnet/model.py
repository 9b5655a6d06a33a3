"""SPHNet: a molecule's Kohn-Sham matrix from its geometry.

Luo et al., "Efficient and Scalable Density Functional Theory Hamiltonian Prediction through Adaptive
Sparsity", ICML 2025, arXiv:2502.01171. Hermitian, and equivariant under rotations, reflections and
permutations, by construction: features of both parities are kept apart, and both orders of a pair averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from atomml.base_model import ModelInfo
from atomml.electronic.hamiltonian_model import HamiltonianModel, MatrixLevel
from atomml.electronic.matrices import MatrixBlocks, PairIndex
from atomml.electronic.orbitals import Shells
from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.sphnet.config import SPHNetConfig
from atomml.potentials.sphnet.expansion import Expansion
from atomml.potentials.sphnet.gates import RANDOM, PairGate, PathGate, Schedule
from atomml.potentials.sphnet.layers import Bernstein, smooth_cutoff
from atomml.potentials.sphnet.pairs import AtomLayer, BothParities, PairLayer
from atomml.potentials.sphnet.spherical import SphericalLayer
from atomml.potentials.sphnet.surroundings import Pairs, near, pairs_of
from atomml.potentials.sphnet.vectorial import VectorialInteraction

__all__ = ["CITATION", "SPHNet"]

CITATION = "Luo et al., ICML 2025, arXiv:2502.01171"


class SPHNet(HamiltonianModel):
    """The network.

    Args:
        config: Its shape.
        info: Its description.
    """

    def __init__(self, config: SPHNetConfig, info: ModelInfo) -> None:
        super().__init__(info)
        self.config = config
        degree, channels, narrow = config.max_degree, config.channels, config.bottleneck
        self.embedding = nn.Parameter(torch.randn(len(config.elements), channels))
        row = torch.zeros(max(config.elements) + 1, dtype=torch.int64)
        row[list(config.elements)] = torch.arange(len(config.elements))
        self.register_buffer("_row", row, persistent=False)
        self._row: Tensor
        self.vectorial = VectorialInteraction(
            channels, config.heads, config.vectorial_layers, config.vectorial_radial, config.short_cutoff
        )
        self.radial = Bernstein(config.radial, config.long_cutoff)
        self.spherical = nn.ModuleList(
            SphericalLayer(config, first=i == 0) for i in range(config.spherical_layers)
        )
        self.atom_layers = nn.ModuleList(AtomLayer(config) for _ in range(config.pair_layers))
        self.pair_layers = nn.ModuleList(PairLayer(config, first=i == 0) for i in range(config.pair_layers))
        self.atom_narrow = BothParities(degree, channels, narrow)
        self.pair_narrow = BothParities(degree, channels, narrow)
        self.atom_blocks = nn.ModuleDict(
            {str(a): Expansion(s, s, degree, channels, narrow, centred=True) for a, s in config.shells}
        )
        self.pair_blocks = nn.ModuleDict(
            {
                f"{a}-{b}": Expansion(s, t, degree, 2 * channels, narrow, centred=False)
                for a, s in config.shells
                for b, t in config.shells
            }
        )

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return self.config.to_json()

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """An SPHNet of the given shape with fresh weights; shapes that do not speak of fading had none."""
        return cls(SPHNetConfig.from_json({"fading": False, **hyperparameters}), info)

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """An SPHNet with fresh weights.

        Args:
            name: What it will be called.
            elements: Atomic numbers; the shells of ``settings`` must be of just these.
            settings: ``shells`` and ``level``, and what differs from the published shape.

        Raises:
            ModelError: A setting that there is not, or one out of its range.
        """
        config = SPHNetConfig.from_json(settings)
        info = ModelInfo(
            name=name,
            family="sphnet",
            cutoff=config.long_cutoff,
            elements=config.elements,
            kind="hamiltonian",
            citation=CITATION,
        )
        return cls(config, info)

    @property
    def level(self) -> MatrixLevel:
        """What its matrices are of."""
        return MatrixLevel(self.config.level, self.config.method, self.config.prior)

    def shells_of(self, number: int) -> Shells:
        """Degrees of an element's shells."""
        return self.config.shells_of(number)

    def matrix_blocks(self, graph: AtomGraph) -> MatrixBlocks:
        """What is left of the matrices without the prior, Hartree."""
        atoms, pairs_found, scalars, pairs = self._features(graph)
        index = PairIndex.of(graph)
        found = {}
        for z, rows in index.atoms.items():
            block = self._atom_block(z)(atoms[:, rows], scalars[rows])
            found[z] = 0.5 * (block + block.transpose(1, 2))
        both = torch.cat([scalars[pairs.centre], scalars[pairs.neighbour]], dim=1)
        raw = {
            (a, b): self._pair_block(a, b)(pairs_found[:, edges], both[edges])
            for (a, b), edges in index.pairs.items()
        }
        if self.config.fading:
            share = smooth_cutoff(pairs.distance, self.config.long_cutoff)[:, None, None]
            raw = {key: blocks * share[index.pairs[key]] for key, blocks in raw.items()}
        joint = {}
        for (a, b), edges in index.pairs.items():
            if a <= b:
                turned = raw[b, a][index.place[graph.edge_reverse[edges]]]
                joint[a, b] = 0.5 * (raw[a, b] + turned.transpose(1, 2))
        return MatrixBlocks(found, joint)

    def _atom_block(self, number: int) -> Expansion:
        return cast("Expansion", self.atom_blocks[str(number)])

    def _pair_block(self, first: int, second: int) -> Expansion:
        return cast("Expansion", self.pair_blocks[f"{first}-{second}"])

    def _features(self, graph: AtomGraph) -> tuple[Tensor, Tensor, Tensor, Pairs]:
        """Features of atoms and pairs before the expansion, scalars of atoms, and the pairs."""
        config = self.config
        pairs = pairs_of(graph, config.max_degree, self.dtype)
        if config.fading:
            share = smooth_cutoff(pairs.distance, config.long_cutoff)
            pairs = replace(pairs, harmonics=pairs.harmonics * share[:, None])
        short = near(pairs, torch.nonzero(pairs.distance < config.short_cutoff)[:, 0])
        scalars = self.vectorial(self.embedding[self._row[graph.numbers]], short)
        radial = self.radial(pairs.distance).to(self.dtype)
        x = scalars[None]
        for layer in self.spherical:
            x = layer(x, pairs, radial)
        counts = graph.atoms_per_graph()
        bounds = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
        own: Tensor | None = None
        joint: Tensor | None = None
        for atom_layer, pair_layer in zip(self.atom_layers, self.pair_layers, strict=True):
            made = atom_layer(x, bounds)
            own = made if own is None else own + made
            joint = pair_layer(x, pairs, radial, joint)
        assert own is not None
        assert joint is not None
        return self.atom_narrow(own), self.pair_narrow(joint), scalars, pairs

    @torch.no_grad()
    def fit(self, blocks: MatrixBlocks) -> None:
        """Take means and sizes of the coefficients from the matrices of data, before a training."""
        for z, found in blocks.atoms.items():
            self._atom_block(z).fit(found)
        for (a, b), found in blocks.pairs.items():
            self._pair_block(a, b).fit(found)
            if a != b:
                self._pair_block(b, a).fit(found.transpose(1, 2))

    def begin_step(self, step: int, n_steps: int, seed: int) -> None:
        """Choose the paths and the way to choose pairs for a step of a training."""
        phase = Schedule(self.config.random_until, self.config.adaptive_until).phase(step, n_steps)
        gates = [module for module in self.modules() if isinstance(module, PathGate | PairGate)]
        for number, gate in enumerate(gates):
            random = np.random.default_rng([seed, step, number])
            if isinstance(gate, PathGate):
                gate.begin_step(phase, random)
            else:
                gate.random = random if phase == RANDOM else None

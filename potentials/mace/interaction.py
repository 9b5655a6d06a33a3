"""Messages: features of the neighbours coupled with the directions and distances to them, and summed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomml.nn import segment_sum
from atomml.nn.segment import gather
from atomml.potentials.mace.config import InteractionKind
from atomml.potentials.mace.irreps import Block, ElementLinear, IrrepLinear, clebsch_gordan, message_paths
from atomml.potentials.mace.radial import RadialNetwork, RadialNormNetwork, activate

__all__ = ["Interaction", "NonlinearInteraction", "Surroundings"]


@dataclass(frozen=True)
class Surroundings:
    """What is the same in every layer.

    Attributes:
        centre, neighbour: ``(n_edges,)`` receiver and sender of each message.
        harmonics: For each degree ``(n_edges, 2l + 1)``, of the direction from neighbour to centre.
        basis: ``(n_edges, n_radial)``.
        cut: ``(n_edges, 1)`` what the radial network's output is multiplied with; None where the basis was.
        rows: ``(n_atoms,)`` row of each atom's element.
        groups: Row and atoms of each element that is there.
    """

    centre: Tensor
    neighbour: Tensor
    harmonics: list[Tensor]
    basis: Tensor
    cut: Tensor | None
    rows: Tensor
    groups: list[tuple[int, Tensor]]


class Convolution(nn.Module):
    """Sum over neighbours of features times harmonics, coupled, each path weighted by the distance."""

    def __init__(self, features: list[Block], max_degree: int, targets: list[Block]) -> None:
        super().__init__()
        self.paths = message_paths(features, max_degree, targets)
        self.results = [block for _, _, block in self.paths]
        self.n_weights = sum(block.channels for block in self.results)
        for number, (index, degree, result) in enumerate(self.paths):
            table = clebsch_gordan(features[index].degree, degree, result.degree) * math.sqrt(result.dim)
            self.register_buffer(f"coupling_{number}", table, persistent=False)

    def forward(self, features: list[Tensor], weights: Tensor, around: Surroundings) -> list[Tensor]:
        """A block for each path: ``(n_atoms, 2l + 1, channels)``.

        Args:
            features: Blocks of the atoms.
            weights: ``(n_edges, n_weights)``.
            around: Edges and harmonics.
        """
        n_atoms = len(features[0])
        sent = [gather(block, around.neighbour) for block in features]
        split = torch.split(weights, [block.channels for block in self.results], dim=1)
        summed = []
        for number, (index, degree, _) in enumerate(self.paths):
            table = self.get_buffer(f"coupling_{number}")
            turned = torch.einsum("ijk,ej->eki", table, around.harmonics[degree])
            message = torch.bmm(turned, sent[index]) * split[number][:, None, :]
            summed.append(segment_sum(message, around.centre, n_atoms))
        return summed


class Interaction(nn.Module):
    """The interaction blocks of the published models up to 2024.

    Batatia et al., NeurIPS 2022, eqs. 8 and 9. ``plain`` maps the message by element; ``residual`` maps the
    old features by element and hands them to the product; the ``density`` kinds divide the message not by
    the mean number of neighbours but by one plus a learned density of them.
    """

    def __init__(
        self,
        kind: InteractionKind,
        features: list[Block],
        edge_features: list[Block],
        targets: list[Block],
        outputs: list[Block],
        *,
        n_elements: int,
        max_degree: int,
        radial_widths: list[int],
        neighbours: float,
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.residual, self.by_density = kind.endswith("residual"), kind.startswith("density")
        self.up = IrrepLinear(features, edge_features)
        self.convolution = Convolution(edge_features, max_degree, targets)
        self.radial = RadialNetwork([*radial_widths, self.convolution.n_weights])
        self.down = IrrepLinear(self.convolution.results, targets)
        self.skip = ElementLinear(*((features, outputs) if self.residual else (targets, targets)), n_elements)
        self.density = RadialNetwork([radial_widths[0], 1]) if self.by_density else None

    def forward(
        self, features: list[Tensor], around: Surroundings
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Messages, and what the product adds to its result, or None."""
        weights = self.radial(around.basis)
        weights = weights if around.cut is None else weights * around.cut
        message = self.down(self.convolution(self.up(features), weights, around))
        message = [block / self._norm(around) for block in message]
        if self.residual:
            return message, self.skip(features, around.groups)
        return self.skip(message, around.groups), None

    def _norm(self, around: Surroundings) -> Tensor | float:
        if self.density is None:
            return self.neighbours
        return 1 + _density(self.density(around.basis), around)


class NonlinearInteraction(nn.Module):
    """The gated interaction block of MACE-MH-1: elements enter by embeddings.

    Batatia et al., arXiv:2510.25380. Radial networks see the basis and both ends' embeddings; scalars of the
    message gate the rest of it.
    """

    def __init__(
        self,
        features: list[Block],
        edge_features: list[Block],
        targets: list[Block],
        outputs: list[Block],
        *,
        n_elements: int,
        max_degree: int,
        radial_widths: list[int],
    ) -> None:
        super().__init__()
        scalars = sum(block.channels for block in features if block.irrep == (0, 1))
        self.source = nn.Parameter(torch.empty(n_elements, scalars).uniform_(-0.001, 0.001))
        self.target = nn.Parameter(torch.empty(n_elements, scalars).uniform_(-0.001, 0.001))
        self.scale = 1 / math.sqrt(n_elements)
        self.up = IrrepLinear(features, edge_features)
        self.convolution = Convolution(edge_features, max_degree, targets)
        n_inputs = radial_widths[0] + 2 * scalars
        self.radial = RadialNormNetwork([n_inputs, *radial_widths[1:], self.convolution.n_weights])
        self.density = RadialNormNetwork([n_inputs, 64, 1])
        self.skip = IrrepLinear(features, outputs)
        self.scalars = [block for block in targets if block.degree == 0]
        self.gated = [block for block in targets if block.degree > 0]
        gates = [Block(0, 1, block.channels) for block in self.gated]
        inner = _joined([*self.scalars, *gates, *self.gated])
        self.residual = IrrepLinear(edge_features, inner)
        self.down = IrrepLinear(self.convolution.results, inner)
        self.mix = IrrepLinear(targets, targets)
        self.alpha = nn.Parameter(torch.tensor(20.0))
        self.beta = nn.Parameter(torch.tensor(0.0))

    def forward(
        self, features: list[Tensor], around: Surroundings
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Messages, and what the product adds to its result."""
        lifted = self.up(features)
        ends = (around.rows[around.neighbour], around.rows[around.centre])
        embedded = [
            gather(t * self.scale, row) for t, row in zip((self.source, self.target), ends, strict=True)
        ]
        inputs = torch.cat([around.basis, *embedded], dim=1)
        weights, density = self.radial(inputs), self.density(inputs)
        weights = weights if around.cut is None else weights * around.cut
        norm = self.alpha + self.beta * _density(density, around)
        message = self.down(self.convolution(lifted, weights, around))
        inner = [m / norm + r for m, r in zip(message, self.residual(lifted), strict=True)]
        return self.mix(self._gate(inner)), self.skip(features)

    def _gate(self, inner: list[Tensor]) -> list[Tensor]:
        n_scalars = sum(block.channels for block in self.scalars)
        values, gates = inner[0][..., :n_scalars], inner[0][..., n_scalars:]
        kept = torch.split(activate("silu", values), [block.channels for block in self.scalars], dim=2)
        opened = torch.split(activate("sigmoid", gates), [block.channels for block in self.gated], dim=2)
        return [*kept, *(block * gate for block, gate in zip(inner[1:], opened, strict=True))]


def _density(raw: Tensor, around: Surroundings) -> Tensor:
    """Learned number of neighbours of each atom, ``(n_atoms, 1, 1)``."""
    each = torch.tanh(raw**2)
    each = each if around.cut is None else each * around.cut
    return segment_sum(each, around.centre, len(around.rows))[:, :, None]


def _joined(blocks: list[Block]) -> list[Block]:
    """Neighbouring blocks of one irrep as one."""
    joined: list[Block] = []
    for block in blocks:
        if joined and joined[-1].irrep == block.irrep:
            joined[-1] = Block(block.degree, block.parity, joined[-1].channels + block.channels)
        else:
            joined.append(block)
    return joined

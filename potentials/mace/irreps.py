"""Features by irreducible representation, and the couplings between them.

Features of one irrep are ``(n, 2l + 1, channels)``; a set of irreps is a list of such blocks. Axes are those
of e3nn: the components of degree 1 are y, z, x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from atomml.errors import ModelError

__all__ = ["Block", "ElementLinear", "IrrepLinear", "blocks_of", "clebsch_gordan", "message_paths"]

_FLIPPED = {(1, 2, 2), (1, 3, 3), (1, 4, 4), (2, 1, 2), (2, 2, 1), (3, 1, 3), (3, 3, 1), (4, 1, 4), (4, 4, 1)}
"""Couplings up to degree 4 whose sign differs between e3nn 0.4.4, with which published models were made, and
0.6 (compared coefficient by coefficient); all are antisymmetric."""


@dataclass(frozen=True, order=True)
class Block:
    """Features of one irrep.

    Attributes:
        degree: l.
        parity: 1 or -1.
        channels: How many.
    """

    degree: int
    parity: int
    channels: int

    @property
    def irrep(self) -> tuple[int, int]:
        """Degree and parity."""
        return self.degree, self.parity

    @property
    def dim(self) -> int:
        """Number of components."""
        return 2 * self.degree + 1

    def __str__(self) -> str:
        """As e3nn writes it."""
        return f"{self.channels}x{self.degree}{'e' if self.parity > 0 else 'o'}"


def blocks_of(irreps: str) -> list[Block]:
    """The blocks of irreps as e3nn writes them, neighbours of one irrep joined.

    Raises:
        ModelError: No irreps.
    """
    from e3nn import o3

    try:
        parsed = o3.Irreps(irreps).simplify()
    except (ValueError, AssertionError) as error:
        raise ModelError(f"{irreps!r} are no irreps: write them like 128x0e+128x1o.") from error
    return [Block(ir.l, ir.p, mul) for mul, ir in parsed]


@cache
def clebsch_gordan(first: int, second: int, third: int) -> Tensor:
    """Real coupling coefficients ``(2 l1 + 1, 2 l2 + 1, 2 l3 + 1)``, float64, of unit norm.

    Their signs are those of e3nn 0.4.4, whichever is installed.
    """
    from e3nn import o3

    coefficients: Tensor = o3.wigner_3j(first, second, third, dtype=torch.float64)
    return -coefficients if (first, second, third) in _FLIPPED else coefficients


def message_paths(
    features: list[Block], max_degree: int, targets: list[Block]
) -> list[tuple[int, int, Block]]:
    """Ways from features and spherical harmonics to targets: feature block, degree, result; sorted by result.

    The order within one irrep is that in which features, then degrees, come.
    """
    wanted = {block.irrep for block in targets}
    found: list[tuple[int, int, Block]] = []
    for index, block in enumerate(features):
        for degree in range(max_degree + 1):
            parity = block.parity * (-1) ** degree
            for result in range(abs(block.degree - degree), block.degree + degree + 1):
                if (result, parity) in wanted:
                    found.append((index, degree, Block(result, parity, block.channels)))
    return sorted(found, key=lambda path: path[2].irrep)


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


class IrrepLinear(nn.Module):
    """A linear map of the channels of each irrep; blocks of one irrep are mapped together.

    Weights are of unit variance and divided by the square root of the number of channels read (e3nn's
    "element" normalisation).
    """

    linear_weights = ("weights",)

    def __init__(self, inputs: list[Block], outputs: list[Block]) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.sources = [[i for i, block in enumerate(inputs) if block.irrep == out.irrep] for out in outputs]
        reads = [sum(inputs[i].channels for i in sources) for sources in self.sources]
        self.scales = [1 / math.sqrt(max(1, n)) for n in reads]
        self.weights = nn.ParameterList(
            _normal(n, out.channels) for n, out in zip(reads, outputs, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Blocks ``(n, 2l + 1, channels)`` to blocks; zeros where nothing feeds an irrep."""
        mapped = []
        for k, out in enumerate(self.outputs):
            parts = [features[i] for i in self.sources[k]]
            if not parts:
                mapped.append(features[0].new_zeros((len(features[0]), out.dim, out.channels)))
                continue
            joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
            mapped.append(joined @ (self.weights[k] * self.scales[k]))
        return mapped


class ElementLinear(nn.Module):
    """An :class:`IrrepLinear` with weights of its own for each element.

    The normalisation counts channels times elements, as that of a product with a one-hot vector does.
    """

    linear_weights = ("weights",)

    def __init__(self, inputs: list[Block], outputs: list[Block], n_elements: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.sources = [[i for i, block in enumerate(inputs) if block.irrep == out.irrep] for out in outputs]
        reads = [sum(inputs[i].channels for i in sources) for sources in self.sources]
        self.scales = [1 / math.sqrt(max(1, n * n_elements)) for n in reads]
        self.weights = nn.ParameterList(
            _normal(n_elements, n, out.channels) for n, out in zip(reads, outputs, strict=True)
        )

    def forward(self, features: list[Tensor], groups: list[tuple[int, Tensor]]) -> list[Tensor]:
        """Blocks to blocks; ``groups`` holds, for each element present, its row and its atoms' indices."""
        n_atoms = len(features[0])
        mapped = []
        for k, out in enumerate(self.outputs):
            parts = [features[i] for i in self.sources[k]]
            if not parts:
                mapped.append(features[0].new_zeros((n_atoms, out.dim, out.channels)))
                continue
            joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
            weights = self.weights[k] * self.scales[k]
            mapped.append(by_group(joined, groups, lambda rows, row, w=weights: rows @ w[row]))
        return mapped


def by_group(features: Tensor, groups: list[tuple[int, Tensor]], apply: Any) -> Tensor:
    """``apply(rows, element)`` for the atoms of each element, put back in the atoms' order."""
    if len(groups) == 1:
        return apply(features, groups[0][0])
    results = [apply(features.index_select(0, atoms), row) for row, atoms in groups]
    order = torch.argsort(torch.cat([atoms for _, atoms in groups]))
    return torch.cat(results).index_select(0, order)

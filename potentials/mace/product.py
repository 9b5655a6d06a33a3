"""Powers of the messages, coupled to the hidden irreps, with weights for each element and channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.potentials.mace.couplings import coupling
from atomml.potentials.mace.interaction import Surroundings
from atomml.potentials.mace.irreps import Block, IrrepLinear, by_group

__all__ = ["Contraction", "Product"]


class Contraction(nn.Module):
    """Polynomials of the messages of each channel that transform like one irrep.

    Batatia et al., NeurIPS 2022, eq. 10, over monomials: those that symmetry forbids do not exist here.
    """

    def __init__(self, inputs: list[Block], target: Block, correlation: int, n_elements: int) -> None:
        super().__init__()
        self.irreps = tuple(block.irrep for block in inputs)
        self.correlation, self.target = correlation, target
        channels = inputs[0].channels
        self.orders: list[int] = []
        self.weights = nn.ParameterList()
        for order in range(1, correlation + 1):
            found = coupling(self.irreps, target.irrep, order)
            if not found.n_paths or not len(found.factors):
                continue
            self.orders.append(order)
            self.register_buffer(f"factors_{order}", found.factors, persistent=False)
            self.register_buffer(f"coefficients_{order}", found.coefficients, persistent=False)
            scale = 1 / found.n_paths
            self.weights.append(nn.Parameter(torch.randn(n_elements, found.n_paths, channels) * scale))

    def forward(self, messages: Tensor, groups: list[tuple[int, Tensor]]) -> Tensor:
        """Messages ``(n_atoms, components, channels)`` to ``(n_atoms, 2l + 1, channels)``."""
        return by_group(messages, groups, self._of_element)

    def _of_element(self, messages: Tensor, row: int) -> Tensor:
        """The polynomials of one element's atoms; atoms lie last, so that products run along them."""
        components = messages.permute(1, 2, 0).contiguous()
        total = messages.new_zeros(messages.shape[2], self.target.dim, len(messages))
        for order, weights in zip(self.orders, self.weights, strict=True):
            factors, table = self.get_buffer(f"factors_{order}"), self.get_buffer(f"coefficients_{order}")
            monomials = components.index_select(0, factors[:, 0])
            for column in range(1, order):
                monomials = monomials * components.index_select(0, factors[:, column])
            polynomial = torch.einsum("mkd,kc->cdm", table, weights[row])
            total = total + torch.bmm(polynomial, monomials.transpose(0, 1))
        return total.permute(2, 1, 0)


class Product(nn.Module):
    """Contractions to every hidden irrep, a linear map, and what the interaction handed over."""

    def __init__(
        self,
        inputs: list[Block],
        outputs: list[Block],
        correlation: int,
        *,
        n_elements: int,
        shared: bool,
        add_skip: bool,
    ) -> None:
        super().__init__()
        self.shared, self.add_skip = shared, add_skip
        n_rows = 1 if shared else n_elements
        self.contractions = nn.ModuleList(Contraction(inputs, out, correlation, n_rows) for out in outputs)
        self.linear = IrrepLinear(outputs, outputs)

    def forward(
        self, messages: list[Tensor], skip: list[Tensor] | None, around: Surroundings
    ) -> list[Tensor]:
        """Blocks of messages to blocks of hidden features."""
        joined = torch.cat(messages, dim=1)
        everyone = torch.arange(len(joined), device=joined.device)
        groups = [(0, everyone)] if self.shared else around.groups
        mapped = self.linear([contraction(joined, groups) for contraction in self.contractions])
        if skip is None or not self.add_skip:
            return mapped
        return [value + old for value, old in zip(mapped, skip, strict=True)]

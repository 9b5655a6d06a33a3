"""The gated MLP of crystal graph networks, with its concatenation taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.nn.segment import gather

__all__ = ["GatedMLP"]


class GatedMLP(nn.Module):
    """``silu(norm(core(x))) * sigmoid(norm(gate(x)))`` of concatenated inputs ``x``.

    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), eq. 5, as CGCNN, M3GNet and
    CHGNet use it. A product of weights with a concatenation is a sum of products, so each
    input is multiplied where it lives (per atom, per bond) and gathered afterwards.

    Args:
        input_widths: Channels of each concatenated input.
        n_channels: Channels of the output.
        hidden: Whether core and gate have a hidden SiLU layer of ``n_channels``.
        norm: Whether core and gate end in a layer norm.
    """

    def __init__(self, input_widths: Sequence[int], n_channels: int, *, hidden: bool, norm: bool) -> None:
        super().__init__()
        self.input_widths, self.n_channels = tuple(input_widths), n_channels
        self.first = nn.Linear(sum(input_widths), 2 * n_channels)
        self.core = nn.Linear(n_channels, n_channels) if hidden else None
        self.gate = nn.Linear(n_channels, n_channels) if hidden else None
        self.core_norm = nn.LayerNorm(n_channels) if norm else None
        self.gate_norm = nn.LayerNorm(n_channels) if norm else None

    def forward(self, inputs: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
        """Evaluate on the virtual concatenation of the inputs.

        Args:
            inputs: For each input its features ``(n_owners, width)`` and the index
                ``(n_rows,)`` that spreads them to rows; None where they are rows already.

        Returns:
            ``(n_rows, n_channels)``.
        """
        weights = torch.split(self.first.weight, list(self.input_widths), dim=1)
        total: Tensor | None = None
        for (features, index), weight in zip(inputs, weights, strict=True):
            part = features @ weight.T
            part = part if index is None else gather(part, index)
            total = part + self.first.bias if total is None else total + part
        assert total is not None
        core, gate = total.chunk(2, dim=1)
        if self.core is not None and self.gate is not None:
            core, gate = self.core(F.silu(core)), self.gate(F.silu(gate))
        if self.core_norm is not None and self.gate_norm is not None:
            core, gate = self.core_norm(core), self.gate_norm(gate)
        return F.silu(core) * torch.sigmoid(gate)

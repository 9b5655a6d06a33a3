"""From an atom's features to its energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.potentials.dpa3.layers import Affine, activation

__all__ = ["FittingLayer", "FittingNet"]


class FittingLayer(Affine):
    """An affine map, a non-linearity, and the input once more where the widths allow it."""

    def __init__(self, n_in: int, n_out: int, act: str, step: bool) -> None:
        super().__init__(n_in, n_out)
        self.act = activation(act)
        self.copies = n_out // n_in if n_out in (n_in, 2 * n_in) else 0
        has_step = step and self.copies > 0
        self.step = nn.Parameter(0.1 + 0.001 * torch.randn(n_out)) if has_step else None

    def forward(self, x: Tensor) -> Tensor:
        """``(n_atoms, n_in)`` to ``(n_atoms, n_out)``."""
        y = self.act(super().forward(x))
        y = y if self.step is None else y * self.step
        return y + torch.cat([x] * self.copies, dim=1) if self.copies else y


class FittingNet(nn.Module):
    """Residual layers and a last affine map; a vector of the data set joins its input."""

    def __init__(self, n_in: int, widths: tuple[int, ...], act: str, step: bool) -> None:
        super().__init__()
        self.act = act
        inputs = (n_in, *widths[:-1])
        self.layers = nn.ModuleList(
            FittingLayer(a, b, act, step) for a, b in zip(inputs, widths, strict=True)
        )
        self.last = Affine(widths[-1] if widths else n_in, 1)

    def forward(self, features: Tensor, case: Tensor) -> Tensor:
        """Energies ``(n_atoms,)`` of features ``(n_atoms, n)`` and a vector ``(n_case,)``."""
        x = torch.cat([features, case.to(features.dtype).expand(len(features), -1)], dim=1)
        for layer in self.layers:
            x = layer(x)
        energy: Tensor = self.last(x)[:, 0]
        return energy

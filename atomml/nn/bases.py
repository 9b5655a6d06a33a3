"""Radial and angular bases, and the polynomial cutoff."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["BesselBasis", "FourierBasis", "polynomial_cutoff"]

CONSTANT_TERM = 0.70710676908493042
"""1/sqrt(2) rounded to float32, which is the value that the published weights were trained with."""


def polynomial_cutoff(scaled: Tensor, power: int) -> Tensor:
    """Envelope that falls from 1 to 0 with two continuous derivatives.

    Gasteiger et al., ICLR 2020 (DimeNet), eq. 8.

    Args:
        scaled: Distances over the cutoff, any shape.
        power: The exponent p of its first term.
    """
    p = power
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    envelope = 1 + scaled**p * (a + scaled * (b + c * scaled))
    return torch.where(scaled < 1, envelope, torch.zeros_like(envelope))


class BesselBasis(nn.Module):
    """Radial Bessel functions times a polynomial cutoff, with learnable frequencies.

    Gasteiger et al., ICLR 2020, eq. 7: ``sqrt(2/c) sin(f_n d/c) / d``, ``f_n = n pi`` at first.
    """

    def __init__(self, n_functions: int, cutoff: float, power: int) -> None:
        super().__init__()
        self.cutoff, self.power = cutoff, power
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, n_functions + 1, dtype=torch.float32))

    def forward(self, distance: Tensor) -> Tensor:
        """Distances ``(n,)`` in Å to ``(n, n_functions)`` in Å^-1.5."""
        distance = distance[:, None]
        scaled = distance / self.cutoff
        waves = math.sqrt(2 / self.cutoff) * torch.sin(self.frequencies * scaled) / distance
        return polynomial_cutoff(scaled, self.power) * waves


class FourierBasis(nn.Module):
    """Fourier expansion of an angle, with learnable frequencies.

    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), methods: a constant, sines and cosines.
    """

    def __init__(self, n_functions: int) -> None:
        super().__init__()
        self.order = (n_functions - 1) // 2
        self.frequencies = nn.Parameter(torch.arange(1, self.order + 1, dtype=torch.float32))

    def forward(self, angle: Tensor) -> Tensor:
        """Angles ``(n,)`` in radians to ``(n, 2 * order + 1)``: constant, sines, cosines."""
        phases = angle[:, None] * self.frequencies
        constant = torch.full_like(angle[:, None], CONSTANT_TERM)
        return torch.cat([constant, torch.sin(phases), torch.cos(phases)], dim=1) / math.sqrt(math.pi)

"""What a functional reads on a grid: spin densities, their gradients, kinetic-energy densities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LEAST_DENSITY", "SpinDensities"]

LEAST_DENSITY = 1e-15
"""Electrons per bohr³ below which a point does not count; libxc's functionals have thresholds like it."""

_TINY = 1e-20
_TINY_SQUARE = 1e-40


@dataclass(frozen=True)
class SpinDensities:
    """Densities on grid points, atomic units; differentiable.

    Attributes:
        up, down: ``(n_points,)`` spin densities, positive.
        up_up, up_down, down_down: Products of their gradients.
        tau_up, tau_down: Kinetic-energy densities, half the sum of squared gradients of occupied orbitals.
        counts: ``(n_points,)`` whether the point counts.
        closed: Whether both spins are known to be the same: much need not be computed twice then.
    """

    up: Tensor
    down: Tensor
    up_up: Tensor
    up_down: Tensor
    down_down: Tensor
    tau_up: Tensor
    tau_down: Tensor
    counts: Tensor
    closed: bool = False

    @classmethod
    def of(cls, rho: Tensor) -> SpinDensities:
        """From PySCF's ``(n_variables, n_points)`` of a closed shell or ``(2, n_variables, n_points)``.

        Variables are the density, its gradient (3) and the kinetic-energy density, as many as there are.
        """
        if rho.ndim == 2:
            return cls._of_closed(0.5 * rho)
        up, down = rho[0], rho[1]
        counts = up[0] + down[0] > LEAST_DENSITY
        zero = torch.zeros_like(up[0])
        products = [zero, zero, zero]
        if len(up) >= 4:
            products = [(a[1:4] * b[1:4]).sum(dim=0) for a, b in ((up, up), (up, down), (down, down))]
        taus = [up[4], down[4]] if len(up) >= 5 else [zero, zero]
        return cls(
            up[0].clamp(min=_TINY),
            down[0].clamp(min=_TINY),
            products[0].clamp(min=_TINY_SQUARE),
            products[1],
            products[2].clamp(min=_TINY_SQUARE),
            taus[0].clamp(min=_TINY),
            taus[1].clamp(min=_TINY),
            counts,
        )

    @classmethod
    def _of_closed(cls, rho: Tensor) -> SpinDensities:
        """From the variables of one of two spins that are the same."""
        zero = torch.zeros_like(rho[0])
        density = rho[0].clamp(min=_TINY)
        square = ((rho[1:4] ** 2).sum(dim=0) if len(rho) >= 4 else zero).clamp(min=_TINY_SQUARE)
        tau = (rho[4] if len(rho) >= 5 else zero).clamp(min=_TINY)
        counts = 2 * rho[0] > LEAST_DENSITY
        return cls(density, density, square, square, square, tau, tau, counts, closed=True)

    def spin_power(self, power: float) -> Tensor:
        """``((1 + z)^power + (1 - z)^power) / 2`` of the polarisation; a scalar 1 for closed shells."""
        if self.closed:
            return self.up.new_ones(())
        zeta = self.polarisation
        return 0.5 * ((1 + zeta) ** power + (1 - zeta) ** power)

    @property
    def total(self) -> Tensor:
        """Density of both spins."""
        return self.up + self.down

    @property
    def square(self) -> Tensor:
        """Squared gradient of the density of both spins."""
        return (self.up_up + 2 * self.up_down + self.down_down).clamp(min=_TINY_SQUARE)

    @property
    def tau(self) -> Tensor:
        """Kinetic-energy density of both spins."""
        return self.tau_up + self.tau_down

    @property
    def polarisation(self) -> Tensor:
        """``(up - down) / total``, kept off its ends by rounding."""
        if self.closed:
            return self.up.new_zeros(())
        return ((self.up - self.down) / self.total).clamp(-1 + 1e-14, 1 - 1e-14)

    @property
    def radius(self) -> Tensor:
        """Wigner-Seitz radius."""
        return (3 / (4 * torch.pi * self.total)) ** (1 / 3)

"""Local functionals in closed form: exchange of the uniform gas, correlation by PW92 and VWN."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomml.potentials.xc.density import SpinDensities

__all__ = ["pw92", "pw92_slope", "slater", "spin_function", "vwn5", "vwn_rpa"]

_CURVATURE = 4 / (9 * (2 ** (1 / 3) - 1))
"""Second derivative of :func:`spin_function` at zero."""


def slater(d: SpinDensities) -> Tensor:
    """Exchange of the uniform gas, Hartree/bohr³, by spin scaling."""
    factor = -0.75 * (3 / math.pi) ** (1 / 3) * 2 ** (1 / 3)
    if d.closed:
        return 2 * factor * d.up ** (4 / 3)
    return factor * (d.up ** (4 / 3) + d.down ** (4 / 3))


def spin_function(zeta: Tensor) -> Tensor:
    """``((1 + z)^(4/3) + (1 - z)^(4/3) - 2) / (2^(4/3) - 2)``."""
    return ((1 + zeta) ** (4 / 3) + (1 - zeta) ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)


_PW92 = (
    (0.0310907, 0.21370, 7.5957, 3.5876, 1.6382, 0.49294),
    (0.01554535, 0.20548, 14.1189, 6.1977, 3.3662, 0.62517),
    (0.0168869, 0.11125, 10.357, 3.6231, 0.88026, 0.49671),
)
"""A, alpha1, beta1 to beta4 of the unpolarised gas, the polarised one, and the spin stiffness."""

_PW92_PRINTED = (0.031091, 0.015545, 0.016887)
"""A as Perdew and Wang printed it; PBE and r2SCAN use more digits."""


def _pw92_part(radius: Tensor, k: int, printed: bool) -> tuple[Tensor, Tensor]:
    """G of Perdew and Wang, Phys. Rev. B 45, 13244 (1992), eq. 10, and its slope in the radius."""
    a, alpha, *beta = _PW92[k]
    a = _PW92_PRINTED[k] if printed else a
    root = torch.sqrt(radius)
    q1 = 2 * a * (beta[0] * root + beta[1] * radius + beta[2] * radius * root + beta[3] * radius**2)
    q1_slope = a * (beta[0] / root + 2 * beta[1] + 3 * beta[2] * root + 4 * beta[3] * radius)
    log = torch.log1p(1 / q1)
    value = -2 * a * (1 + alpha * radius) * log
    slope = -2 * a * alpha * log + 2 * a * (1 + alpha * radius) * q1_slope / (q1**2 + q1)
    return value, slope


def _interpolated(parts: tuple[Tensor, Tensor, Tensor], zeta: Tensor, curvature: float) -> Tensor:
    """Between the unpolarised and the polarised gas, with the spin stiffness (negated)."""
    plain, full, stiffness = parts
    f, fourth = spin_function(zeta), zeta**4
    return plain - stiffness * f / curvature * (1 - fourth) + (full - plain) * f * fourth


def pw92(radius: Tensor, zeta: Tensor, *, printed: bool = False) -> Tensor:
    """Correlation energy per electron of the uniform gas, Hartree; ``printed`` takes the paper's digits.

    A scalar 0 for ``zeta`` says that nothing is polarised anywhere.
    """
    if _unpolarised(zeta):
        return _pw92_part(radius, 0, printed)[0]
    parts = tuple(_pw92_part(radius, k, printed)[0] for k in range(3))
    return _interpolated(parts, zeta, 1.709921 if printed else _CURVATURE)  # type: ignore[arg-type]


def pw92_slope(radius: Tensor, zeta: Tensor) -> Tensor:
    """Derivative of :func:`pw92` in the radius."""
    if _unpolarised(zeta):
        return _pw92_part(radius, 0, False)[1]
    parts = tuple(_pw92_part(radius, k, False)[1] for k in range(3))
    return _interpolated(parts, zeta, _CURVATURE)  # type: ignore[arg-type]


def _unpolarised(zeta: Tensor) -> bool:
    """Whether this is the polarisation of closed shells, which is one number."""
    return zeta.ndim == 0 and not zeta.requires_grad and float(zeta) == 0


def _vwn_part(radius: Tensor, a: float, b: float, c: float, x0: float) -> Tensor:
    """Vosko, Wilk and Nusair, Can. J. Phys. 58, 1200 (1980), eq. 4.4."""
    x = torch.sqrt(radius)
    q = math.sqrt(4 * c - b * b)
    whole, whole_0 = x * x + b * x + c, x0 * x0 + b * x0 + c
    arc = torch.atan(q / (2 * x + b))
    first = torch.log(x * x / whole) + 2 * b / q * arc
    second = torch.log((x - x0) ** 2 / whole) + 2 * (b + 2 * x0) / q * arc
    return a * (first - b * x0 / whole_0 * second)


def vwn5(d: SpinDensities) -> Tensor:
    """VWN's fit to Monte-Carlo energies, Hartree/bohr³ (functional V)."""
    r = d.radius
    plain = _vwn_part(r, 0.0310907, 3.72744, 12.9352, -0.10498)
    if d.closed:
        return d.total * plain
    full = _vwn_part(r, 0.01554535, 7.06042, 18.0578, -0.32500)
    stiffness = _vwn_part(r, -1 / (6 * math.pi**2), 1.13107, 13.0045, -0.0047584)
    return d.total * _interpolated((plain, full, -stiffness), d.polarisation, _CURVATURE)


def vwn_rpa(d: SpinDensities) -> Tensor:
    """VWN's fit to the random-phase approximation, Hartree/bohr³: what Gaussian's B3LYP holds."""
    r = d.radius
    plain = _vwn_part(r, 0.0310907, 13.0720, 42.7198, -0.409286)
    if d.closed:
        return d.total * plain
    full = _vwn_part(r, 0.01554535, 20.1231, 101.578, -0.743294)
    f = spin_function(d.polarisation)
    return d.total * (plain * (1 - f) + full * f)

"""r2SCAN in closed form: Furness et al., J. Phys. Chem. Lett. 11, 8208 (2020), and its supplement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomml.potentials.xc.density import SpinDensities
from atomml.potentials.xc.gradient import reduced_square, spin_scaled, uniform_exchange
from atomml.potentials.xc.local import pw92, pw92_slope

__all__ = ["r2scan_correlation", "r2scan_enhancement", "r2scan_exchange"]

_ETA, _DP = 0.001, 0.361
_GAMMA = (1 - math.log(2)) / math.pi**2
_X = (0.667, 0.8, 1.24)
_X_SERIES = (
    1.0, -0.667, -0.4445555, -0.663086601049,
    1.451297044490, -0.887998041597, 0.234528941479, -0.023185843322,
)  # fmt: skip
_C = (0.64, 1.5, 0.7)
_C_SERIES = (
    1.0, -0.64, -0.4352, -1.535685604549,
    3.061560252175, -1.915710236206, 0.516884468372, -0.051848879792,
)  # fmt: skip


def _switch(alpha: Tensor, constants: tuple[float, float, float], series: tuple[float, ...]) -> Tensor:
    """From one limit at alpha = 0 through 0 at 1 to another beyond; each branch within its own range."""
    c1, c2, d = constants
    below, above = alpha.clamp(max=0.0), alpha.clamp(min=2.5)
    middle = alpha.clamp(0.0, 2.5)
    low = torch.exp(-c1 * below / (1 - below))
    high = -d * torch.exp(c2 / (1 - above))
    poly = torch.full_like(alpha, series[-1])
    for coefficient in reversed(series[:-1]):
        poly = poly * middle + coefficient
    return torch.where(alpha <= 0, low, torch.where(alpha <= 2.5, poly, high))


def r2scan_exchange(d: SpinDensities) -> Tensor:
    """Exchange, Hartree/bohr³."""
    return spin_scaled(d, lambda n, square, tau: uniform_exchange(n) * r2scan_enhancement(n, square, tau))


def r2scan_enhancement(n: Tensor, square: Tensor, tau: Tensor) -> Tensor:
    """Exchange of a gas without polarisation over that of the uniform gas."""
    h0, k1, mu, a1 = 1.174, 0.065, 10 / 81, 4.9479
    c_eta = 20 / 27 + _ETA * 5 / 3
    c2 = -sum(i * c for i, c in enumerate(_X_SERIES)) * (1 - h0)
    p = reduced_square(n, square)
    weizsaecker = square / (8 * n)
    uniform = 0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3)
    alpha = (tau - weizsaecker) / (uniform + _ETA * weizsaecker)
    x = (c_eta * c2 * torch.exp(-(p**2) / _DP**4) + mu) * p
    h1 = 1 + k1 - k1 / (1 + x / k1)
    root = torch.sqrt(torch.sqrt(p))
    return (h1 + _switch(alpha, _X, _X_SERIES) * (h0 - h1)) * -torch.expm1(-a1 / root)


def r2scan_correlation(d: SpinDensities) -> Tensor:
    """Correlation, Hartree/bohr³."""
    n, zeta, radius = d.total, d.polarisation, d.radius
    p = reduced_square(n, d.square)
    phi, ds, dx = d.spin_power(2 / 3), d.spin_power(5 / 3), d.spin_power(4 / 3)
    weizsaecker = d.square / (8 * n)
    uniform = 0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3) * ds
    alpha = (d.tau - weizsaecker) / (uniform + _ETA * weizsaecker)
    zero, zero_local, zero_slope = _single_orbital(radius, p, zeta, dx)
    one = _slowly_varying(radius, p, zeta, phi, ds, zero_local, zero_slope)
    return n * (one + _switch(alpha, _C, _C_SERIES) * (zero - one))


def _single_orbital(radius: Tensor, p: Tensor, zeta: Tensor, dx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy per electron at alpha = 0, its local part, and that part's slope in the radius."""
    b1, b2, b3, chi = 0.0285764, 0.0889, 0.125541, 0.12802585262625815
    root = torch.sqrt(radius)
    whole = 1 + b2 * root + b3 * radius
    local = -b1 / whole
    slope = b1 * (0.5 * b2 / root + b3) / whole**2
    spin = (1 - 2.363 * (dx - 1)) * (1 - zeta**12)
    w0 = torch.expm1(-local / b1)
    g = (1 + 4 * chi * p) ** -0.25
    return (local + b1 * torch.log1p(w0 * (1 - g))) * spin, local * spin, slope * spin


def _slowly_varying(
    radius: Tensor, p: Tensor, zeta: Tensor, phi: Tensor, ds: Tensor, zero_local: Tensor, zero_slope: Tensor
) -> Tensor:
    """Energy per electron at alpha = 1."""
    uniform, slope = pw92(radius, zeta), pw92_slope(radius, zeta)
    cube = _GAMMA * phi**3
    w1 = torch.expm1(-uniform / cube)
    beta = 0.06672455060314922 * (1 + 0.1 * radius) / (1 + 0.1778 * radius)
    t2 = (3 * math.pi**2 / 16) ** (2 / 3) * p / (phi**2 * radius)
    y = beta / (_GAMMA * w1) * t2
    steep = sum(i * c for i, c in enumerate(_C_SERIES))
    difference = 20 * radius * (zero_slope - slope) - 45 * _ETA * (zero_local - uniform)
    change = steep / (27 * cube * ds * w1) * difference * p * torch.exp(-(p**2) / _DP**4)
    g = (1 + 4 * (y - change)) ** -0.25
    return uniform + cube * torch.log1p(w1 * (1 - g))

"""Gradient functionals in closed form: PBE, B88, LYP."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomml.potentials.xc.density import SpinDensities
from atomml.potentials.xc.local import pw92

__all__ = [
    "b88",
    "lyp",
    "pbe_correlation",
    "pbe_exchange",
    "reduced_square",
    "spin_scaled",
    "uniform_exchange",
]

_BETA = 0.06672455060314922
_GAMMA = (1 - math.log(2)) / math.pi**2


def uniform_exchange(n: Tensor) -> Tensor:
    """Exchange of a gas without polarisation, Hartree/bohr³."""
    return -0.75 * (3 / math.pi) ** (1 / 3) * n ** (4 / 3)


def reduced_square(n: Tensor, square: Tensor) -> Tensor:
    """``s² = |grad n|² / (4 (3 pi²)^(2/3) n^(8/3))`` of a density without polarisation."""
    return square / (4 * (3 * math.pi**2) ** (2 / 3) * n ** (8 / 3))


def spin_scaled(d: SpinDensities, enhanced: object) -> Tensor:
    """``(E[2 up] + E[2 down]) / 2``: exact for exchange. ``enhanced(n, square, tau)`` is of one such gas."""
    if d.closed:
        return enhanced(2 * d.up, 4 * d.up_up, 2 * d.tau_up)  # type: ignore[operator]
    parts = [
        enhanced(2 * n, 4 * square, 2 * tau)  # type: ignore[operator]
        for n, square, tau in ((d.up, d.up_up, d.tau_up), (d.down, d.down_down, d.tau_down))
    ]
    return 0.5 * (parts[0] + parts[1])


def pbe_exchange(d: SpinDensities) -> Tensor:
    """Perdew, Burke and Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), eq. 14; Hartree/bohr³."""
    kappa, mu = 0.804, _BETA * math.pi**2 / 3

    def enhanced(n: Tensor, square: Tensor, tau: Tensor) -> Tensor:
        """Of a gas without polarisation."""
        s2 = reduced_square(n, square)
        return uniform_exchange(n) * (1 + kappa - kappa / (1 + mu * s2 / kappa))

    return spin_scaled(d, enhanced)


def pbe_correlation(d: SpinDensities) -> Tensor:
    """The same, eqs. 3, 7 and 8; Hartree/bohr³."""
    n, zeta, radius = d.total, d.polarisation, d.radius
    uniform = pw92(radius, zeta)
    phi = d.spin_power(2 / 3)
    cube = _GAMMA * phi**3
    screening = 4 * (3 * math.pi**2 * n) ** (1 / 3) / math.pi
    t2 = d.square / (4 * phi**2 * screening * n**2)
    a = _BETA / _GAMMA / torch.expm1(-uniform / cube)
    at2 = a * t2
    return n * (uniform + cube * torch.log1p(_BETA / _GAMMA * t2 * (1 + at2) / (1 + at2 + at2**2)))


def b88(d: SpinDensities) -> Tensor:
    """Becke, Phys. Rev. A 38, 3098 (1988), eq. 8, with the uniform gas; Hartree/bohr³."""
    factor, beta = -0.75 * (3 / math.pi) ** (1 / 3) * 2 ** (1 / 3), 0.0042
    total = torch.zeros_like(d.up)
    spins = ((d.up, d.up_up),) if d.closed else ((d.up, d.up_up), (d.down, d.down_down))
    for n, square in spins:
        power = n ** (4 / 3)
        x = torch.sqrt(square) / power
        total = total + factor * power - beta * power * x**2 / (1 + 6 * beta * x * torch.asinh(x))
    return 2 * total if d.closed else total


def lyp(d: SpinDensities) -> Tensor:
    """Lee, Yang and Parr, Phys. Rev. B 37, 785 (1988), Hartree/bohr³.

    In the form of Miehlich et al., Chem. Phys. Lett. 157, 200 (1989), eq. 2, without second derivatives.
    """
    a, b, c, decay = 0.04918, 0.132, 0.2533, 0.349
    n, up, down = d.total, d.up, d.down
    inverse = n ** (-1 / 3)
    damping = 1 / (1 + decay * inverse)
    omega = torch.exp(-c * inverse) * damping * n ** (-11 / 3)
    delta = c * inverse + decay * inverse * damping
    fermi = 0.3 * (3 * math.pi**2) ** (2 / 3)
    both, square = up * down, d.square
    inner = 2 ** (11 / 3) * fermi * (up ** (8 / 3) + down ** (8 / 3))
    inner = inner + (47 - 7 * delta) / 18 * square - (45 - delta) / 18 * (d.up_up + d.down_down)
    inner = inner - (delta - 11) / 9 * (up / n * d.up_up + down / n * d.down_down)
    outer = -2 / 3 * n**2 * square
    outer = outer + (2 / 3 * n**2 - up**2) * d.down_down + (2 / 3 * n**2 - down**2) * d.up_up
    return -4 * a * damping * both / n - a * b * omega * (both * inner + outer)

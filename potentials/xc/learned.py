"""A learned functional whose exact constraints hold whatever its weights; it begins as PBE or r2SCAN."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from atomml.electronic.functional import DensityFunctional
from atomml.errors import ModelError
from atomml.potentials.xc.density import SpinDensities
from atomml.potentials.xc.gradient import pbe_correlation, reduced_square, spin_scaled, uniform_exchange
from atomml.potentials.xc.kinetic import r2scan_correlation, r2scan_enhancement

__all__ = ["STARTS", "LearnedConfig", "LearnedFunctional"]

STARTS = ("pbe", "r2scan")
"""What a learned functional is before it has learned."""

_KAPPA, _MU = 0.804, 0.06672455060314922 * math.pi**2 / 3

_SOFTENING = 0.02


@dataclass(frozen=True)
class LearnedConfig:
    """Shape of a learned functional.

    Attributes:
        widths: Hidden layers of each network.
        exact_exchange: Share of exact exchange.
        one_electron: Whether correlation vanishes for one electron; r2SCAN's does of itself.
        start: One of :data:`STARTS`.
    """

    widths: tuple[int, ...] = (16, 16)
    exact_exchange: float = 0.0
    one_electron: bool = True
    start: str = "pbe"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ModelError: Names the setting.
        """
        if not all(width > 0 for width in self.widths) or not 0 <= self.exact_exchange <= 1:
            raise ModelError("A learned functional has positive widths and 0 to 1 of exact exchange.")
        if self.start not in STARTS:
            raise ModelError(f"A learned functional starts from {' or '.join(STARTS)}, not {self.start!r}.")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"widths": list(self.widths)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ModelError: A setting that there is not.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise ModelError(
                    f"A learned functional has no setting {key!r}: there are {', '.join(known)}."
                )
        return cls(**{**values, "widths": tuple(values.get("widths", (16, 16)))})


class LearnedFunctional(DensityFunctional):
    """PBE's or r2SCAN's forms with networks in them, of gradient and kinetic-energy density.

    Exchange is ``F`` times that of the uniform gas. From PBE, ``F = 1 + kappa y / (1 + y)`` with
    ``y = mu s² exp(g) / kappa``; from r2SCAN, whose enhancement is ``F0``, ``F = F0 exp(g) / (1 + F0 (exp(g)
    - 1) / 1.804)``. Correlation is the start's times ``2 / (1 + exp(-h))``. ``g`` and ``h`` are networks of
    bounded invariants minus their value for the uniform gas. So, whatever the weights: the uniform gas is
    exact; exchange obeys spin scaling, ``E_x[n_c] = c E_x[n]`` under coordinate scaling, and the Lieb-Oxford
    bound in Perdew's local form (``F <= 1.804``); correlation has the start's sign; and with
    ``one_electron`` it vanishes where there is one electron. Fresh networks give zero: the functional
    begins as what it starts from.

    Args:
        config: Its shape.
        name: What to call it.
    """

    kind = "MGGA"

    def __init__(self, config: LearnedConfig | None = None, name: str = "learned") -> None:
        super().__init__()
        self.config, self.name = config or LearnedConfig(), name
        self.exact_exchange = self.config.exact_exchange
        self._softening = _SOFTENING if self.config.start == "r2scan" else 0.0
        self.exchange = _network(2, self.config.widths)
        self.correlation = _network(4, self.config.widths)
        self.double()

    def energy_density(self, rho: Tensor) -> Tensor:
        """Hartree/bohr³."""
        d = SpinDensities.of(rho)
        total = (1 - self.exact_exchange) * spin_scaled(d, self._exchange) + self._correlation(d)
        return torch.where(d.counts, total, torch.zeros_like(total))

    def _exchange(self, n: Tensor, square: Tensor, tau: Tensor) -> Tensor:
        """Of a gas without polarisation."""
        s2 = reduced_square(n, square)
        uniform = 0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3)
        kinetic = _bounded(n, square, tau, uniform, self._softening)
        g = _above(self.exchange, torch.stack([s2 / (1 + s2), kinetic], dim=1))
        if self.config.start == "r2scan":
            first, factor = r2scan_enhancement(n, square, tau), torch.exp(g)
            return uniform_exchange(n) * first * factor / (1 + first * (factor - 1) / (1 + _KAPPA))
        y = _MU * s2 / _KAPPA * torch.exp(g)
        return uniform_exchange(n) * (1 + _KAPPA * y / (1 + y))

    def _correlation(self, d: SpinDensities) -> Tensor:
        zeta2 = (d.polarisation**2).expand_as(d.up)
        uniform = 0.3 * (3 * math.pi**2) ** (2 / 3) * d.total ** (5 / 3) * d.spin_power(5 / 3)
        s2 = reduced_square(d.total, d.square)
        kinetic = _bounded(d.total, d.square, d.tau, uniform, self._softening)
        dense = 1 / (1 + d.radius)
        features = torch.stack([s2 / (1 + s2), kinetic, zeta2, dense], dim=1)
        still = torch.stack([torch.zeros_like(s2), torch.zeros_like(s2), zeta2, dense], dim=1)
        h = (self.correlation(features) - self.correlation(still))[:, 0]
        factor = 2 * torch.sigmoid(h)
        if self.config.start == "r2scan":
            return r2scan_correlation(d) * factor
        if self.config.one_electron:
            # flat in the indicator where it is 0: its slope would be a negative mass at nodes of the gradient
            alpha = (d.tau - d.square / (8 * d.total)) / uniform
            factor = factor * (1 - zeta2**2 * (1 - alpha**2).clamp(min=0.0) ** 3)
        return pbe_correlation(d) * factor


def _bounded(n: Tensor, square: Tensor, tau: Tensor, uniform: Tensor, softening: float) -> Tensor:
    """``(alpha - 1) / (alpha + 1)`` of the iso-orbital indicator: -1 for one orbital, 0 for uniform gas.

    ``alpha = (tau - w) / (uniform + softening w)`` with von Weizsäcker's ``w``. Without softening its slope
    in ``tau`` grows without bound in tails, and an SCF of one orbital of a spin may not converge; r2SCAN does
    the same with 0.001.
    """
    # no kink at 0, where one orbital is: rounding there would switch the potential on and off
    weizsaecker = square / (8 * n)
    alpha = ((tau - weizsaecker) / (uniform + softening * weizsaecker)).clamp(min=-0.5)
    return (alpha - 1) / (alpha + 1)


def _above(network: nn.Module, features: Tensor) -> Tensor:
    """A network minus its value for the uniform gas, whose features are zero."""
    found: Tensor = (network(features) - network(torch.zeros_like(features[:1])))[:, 0]
    return found


def _network(n_in: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Smooth, and zero at first: the last layer's weights are."""
    layers: list[nn.Module] = []
    before = n_in
    for width in widths:
        layers += [nn.Linear(before, width), nn.SiLU()]
        before = width
    last = nn.Linear(before, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)

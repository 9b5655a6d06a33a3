"""Functionals that everybody knows, written in torch: what a learned one is built from and compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from atomml.electronic.functional import DensityFunctional
from atomml.errors import OptionError
from atomml.potentials.xc import gradient, kinetic, local
from atomml.potentials.xc.density import SpinDensities

__all__ = ["CLOSED_FORMS", "Mixture", "closed_form"]

Part = Callable[[SpinDensities], Tensor]

_PARTS: dict[str, tuple[str, Part]] = {
    "slater": ("LDA", local.slater),
    "pw92": ("LDA", lambda d: d.total * local.pw92(d.radius, d.polarisation, printed=True)),
    "vwn5": ("LDA", local.vwn5),
    "vwn_rpa": ("LDA", local.vwn_rpa),
    "pbe_x": ("GGA", gradient.pbe_exchange),
    "pbe_c": ("GGA", gradient.pbe_correlation),
    "b88": ("GGA", gradient.b88),
    "lyp": ("GGA", gradient.lyp),
    "r2scan_x": ("MGGA", kinetic.r2scan_exchange),
    "r2scan_c": ("MGGA", kinetic.r2scan_correlation),
}
"""Energy densities by name, with what they read."""

_ORDER = ("LDA", "GGA", "MGGA")


class Mixture(DensityFunctional):
    """A weighted sum of energy densities, and exact exchange.

    Args:
        name: What to call it.
        parts: Weight of each part; the names are ``slater``, ``pw92``, ``vwn5``, ``vwn_rpa``, ``pbe_x``,
            ``pbe_c``, ``b88``, ``lyp``, ``r2scan_x`` and ``r2scan_c``.
        exact_exchange: Share of exact exchange.

    Raises:
        OptionError: A part that there is not.
    """

    def __init__(self, name: str, parts: Mapping[str, float], exact_exchange: float = 0.0) -> None:
        super().__init__()
        for part in parts:
            if part not in _PARTS:
                raise OptionError(f"There is no part {part!r}: choose from {', '.join(_PARTS)}.")
        self.name, self.exact_exchange, self.parts = name, exact_exchange, dict(parts)
        self.kind = max((_PARTS[part][0] for part in parts), key=_ORDER.index, default="LDA")

    def energy_density(self, rho: Tensor) -> Tensor:
        """The sum, ``(n_points,)`` Hartree/bohr³."""
        d = SpinDensities.of(rho)
        total = torch.zeros_like(d.up)
        for part, weight in self.parts.items():
            total = total + weight * _PARTS[part][1](d)
        return torch.where(d.counts, total, torch.zeros_like(total))


CLOSED_FORMS: dict[str, tuple[dict[str, float], float, str]] = {
    "lda": ({"slater": 1.0, "vwn5": 1.0}, 0.0, "slater,vwn5"),
    "lda-pw92": ({"slater": 1.0, "pw92": 1.0}, 0.0, "slater,pw"),
    "pbe": ({"pbe_x": 1.0, "pbe_c": 1.0}, 0.0, "pbe"),
    "pbe0": ({"pbe_x": 0.75, "pbe_c": 1.0}, 0.25, "pbe0"),
    "blyp": ({"b88": 1.0, "lyp": 1.0}, 0.0, "blyp"),
    "b3lyp": ({"slater": 0.08, "b88": 0.72, "lyp": 0.81, "vwn_rpa": 0.19}, 0.2, "b3lypg"),
    "b3lyp5": ({"slater": 0.08, "b88": 0.72, "lyp": 0.81, "vwn5": 0.19}, 0.2, "b3lyp5"),
    "r2scan": ({"r2scan_x": 1.0, "r2scan_c": 1.0}, 0.0, "r2scan"),
    "r2scan0": ({"r2scan_x": 0.75, "r2scan_c": 1.0}, 0.25, "0.75*r2scan+0.25*hf,r2scan"),
}
"""Name to parts, exact exchange, and what PySCF calls the same."""


def closed_form(name: str) -> Mixture:
    """A functional by name.

    Raises:
        OptionError: There is none; lists those that there are.
    """
    if name not in CLOSED_FORMS:
        raise OptionError(f"There is no closed form {name!r}: choose from {', '.join(CLOSED_FORMS)}.")
    parts, exact, _ = CLOSED_FORMS[name]
    return Mixture(name, parts, exact)

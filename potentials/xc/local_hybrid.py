"""Local hybrids in closed form: exact exchange mixed in point by point."""

from __future__ import annotations

import torch
from torch import Tensor

from atomml.electronic.functional import GridFeatures, GridFunctional
from atomml.potentials.xc.density import SpinDensities
from atomml.potentials.xc.local import slater, vwn5

__all__ = ["Lh07tSVWN", "spins_of"]


class Lh07tSVWN(GridFunctional):
    """``a`` of exact exchange, ``1 - a`` of Slater's, VWN correlation; ``a = 0.48 tau_W / tau``.

    Kaupp, Bahmann and Arbuznikov, J. Chem. Phys. 127, 194102 (2007); ``tau_W`` is von Weizsäcker's.
    """

    name = "lh07t-svwn"
    omegas = (0.0,)

    def energy(self, features: GridFeatures) -> Tensor:
        """Hartree."""
        d = SpinDensities.of(features.rho)
        exact = spins_of(features.exchange)[:, 0].sum(dim=0)
        ratio = (d.square / (8 * d.total) / d.tau.clamp(min=1e-20)).clamp(max=1.0)
        mixed = 0.48 * ratio
        density = mixed * exact + (1 - mixed) * slater(d) + vwn5(d)
        return torch.where(d.counts, density, torch.zeros_like(density)) @ features.weights


def spins_of(array: Tensor) -> Tensor:
    """``(2, ..., n_points)`` of what a closed shell holds for both spins together, or of both."""
    return array if array.ndim == 3 else torch.stack([array / 2, array / 2])

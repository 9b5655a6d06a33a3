"""Arrhenius' law fitted to rates with errors, and the conductivity of independent ions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atomml.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ArrheniusFit", "fit_arrhenius", "nernst_einstein"]

_KB = 8.617333262e-5  # eV/K, CODATA 2018
_CHARGE = 1.602176634e-19  # C, exact


@dataclass(frozen=True)
class ArrheniusFit:
    """``ln D = ln D0 - E / kT``.

    Attributes:
        energy: eV.
        log_prefactor: ``ln D0``, D in the unit of the fit.
        covariance: ``(2, 2)`` of ``(ln D0, E)``.
        width: Standard errors that 95 % of the probability lies within.
    """

    energy: float
    log_prefactor: float
    covariance: Array
    width: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the energy, eV."""
        half = self.width * float(np.sqrt(self.covariance[1, 1]))
        return self.energy - half, self.energy + half

    def at(self, temperature: float) -> tuple[float, float, float]:
        """D at a temperature (K), and the ends of its 95 % interval."""
        row = np.array([1.0, -1 / (_KB * temperature)])
        value = float(row @ [self.log_prefactor, self.energy])
        half = self.width * float(np.sqrt(row @ self.covariance @ row))
        return tuple(float(np.exp(value + sign * half)) for sign in (0, -1, 1))  # type: ignore[return-value]


def fit_arrhenius(
    temperatures: Sequence[float], values: Sequence[float], errors: Sequence[float]
) -> ArrheniusFit:
    """Weighted least squares of ln D over 1 / kT.

    Where the points scatter more than their errors say, the errors are scaled up to what they show, and the
    interval is Student's; a scatter that happens to be small scales nothing down.

    Args:
        temperatures: K; two or more that differ.
        values: D, above 0.
        errors: Standard errors of D.

    Raises:
        OptionError: Fewer than two temperatures.
    """
    from scipy.stats import norm, t

    if len(set(temperatures)) < 2:
        raise OptionError("Arrhenius' law needs two temperatures that differ.")
    d = np.asarray(values, dtype=np.float64)
    relative = np.asarray(errors, dtype=np.float64) / d
    weights = 1 / np.maximum(relative, 1e-12)
    design = np.stack([np.ones(len(d)), -1 / (_KB * np.asarray(temperatures, dtype=np.float64))], axis=1)
    weighted = design * weights[:, None]
    solution = np.linalg.lstsq(weighted, np.log(d) * weights, rcond=None)[0]
    covariance: Array = np.asarray(np.linalg.inv(weighted.T @ weighted), dtype=np.float64)
    width, free = float(norm.ppf(0.975)), len(d) - 2
    if free > 0:
        scatter = float((((np.log(d) - design @ solution) * weights) ** 2).sum()) / free
        if scatter > 1:
            covariance, width = covariance * scatter, float(t.ppf(0.975, free))
    return ArrheniusFit(float(solution[1]), float(solution[0]), covariance, width)


def nernst_einstein(diffusivity: float, density: float, charge: float, temperature: float) -> float:
    """``n z² e² D / kT`` in S/cm; a Haven ratio of 1.

    Args:
        diffusivity: cm²/s.
        density: Ions per Å³.
        charge: e.
        temperature: K.
    """
    return density * 1e24 * charge**2 * _CHARGE * diffusivity / (_KB * temperature)

"""Whether a predicted uncertainty is as large as the error: bins, coverage, and the factor that mends it.

Levi, Gispan, Giladi and Fetaya, "Evaluating and Calibrating Uncertainty Prediction in Regression Tasks",
Sensors 22, 5540 (2022): errors are binned by their predicted standard deviation; of a calibrated prediction
the root mean square error of each bin is the root mean predicted variance (eqs. 8 and 9). One factor on all
standard deviations is fitted by maximum likelihood, ``s² = mean(error² / sigma²)`` (scaled variance, eq.
12), on one half of the data and judged on the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "Calibration", "calibrate"]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Nominal coverages that are compared with those observed."""

_LARGEST_BINS, _IN_A_BIN = 20, 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What predicted standard deviations are worth.

    Attributes:
        n: Errors that have one.
        rank_correlation: Spearman's, of standard deviations and sizes of errors; None where all are equal.
        scale: Factor on all standard deviations that fits all errors best.
        ence: Mean of ``|predicted - rmse| / predicted`` over bins: 0 is calibrated.
        ence_scaled: The same of the halves of the data, each scaled by the factor of the other half.
        bins: Each bin: ``n``, ``predicted`` (root mean variance) and ``rmse``, in the unit of the errors.
        coverage: Each of :data:`LEVELS` with the share of errors within the interval of that level, and the
            same after scaling by the other half's factor.
    """

    n: int
    rank_correlation: float | None
    scale: float
    ence: float
    ence_scaled: float
    bins: list[dict[str, float]] = field(default_factory=list)
    coverage: list[dict[str, float]] = field(default_factory=list)

    def record(self, quantity: str) -> dict[str, Any]:
        """A row of a table."""
        at = {row["level"]: row for row in self.coverage}
        return {
            "quantity": quantity,
            "n": self.n,
            "rank_correlation": self.rank_correlation,
            "scale": self.scale,
            "ence": self.ence,
            "ence_scaled": self.ence_scaled,
            "within_50_percent": at[0.5]["observed"],
            "within_90_percent": at[0.9]["observed"],
            "within_90_percent_scaled": at[0.9]["observed_scaled"],
        }


def calibrate(
    sigma: Floats, errors: Floats, halves: NDArray[np.bool_], dimensions: int = 1
) -> Calibration | None:
    """Compare standard deviations with errors.

    Args:
        sigma: ``(n,)`` predicted; of a vector the root of the variance summed over components.
        errors: ``(n,)`` sizes of the errors.
        halves: ``(n,)`` which half of the data each belongs to; structures are not torn apart.
        dimensions: Components of a vector; intervals are those of a normal distribution of so many.

    Returns:
        None for fewer than ten errors, or in either half none.
    """
    known = np.isfinite(sigma) & np.isfinite(errors) & (sigma > 0)
    sigma, errors, halves = sigma[known], np.abs(errors[known]), halves[known]
    if len(sigma) < _IN_A_BIN or halves.all() or not halves.any():
        return None
    scales = [_scale(sigma[halves == half], errors[halves == half]) for half in (False, True)]
    scaled = sigma * np.where(halves, scales[0], scales[1])  # each by the factor of the other half
    bins = _bins(sigma, errors)
    return Calibration(
        n=len(sigma),
        rank_correlation=_spearman(sigma, errors),
        scale=_scale(sigma, errors),
        ence=_ence(bins),
        ence_scaled=_ence(_bins(scaled, errors)),
        bins=bins,
        coverage=[
            {"level": level, "observed": inside, "observed_scaled": after}
            for level, inside, after in zip(
                LEVELS, _inside(sigma, errors, dimensions), _inside(scaled, errors, dimensions), strict=True
            )
        ],
    )


def _scale(sigma: Floats, errors: Floats) -> float:
    return float(np.sqrt(np.mean((errors / sigma) ** 2)))


def _bins(sigma: Floats, errors: Floats) -> list[dict[str, float]]:
    """Of equal numbers of errors, ascending in sigma."""
    n_bins = int(np.clip(len(sigma) // _IN_A_BIN, 1, _LARGEST_BINS))
    parts = np.array_split(np.argsort(sigma, kind="stable"), n_bins)
    return [
        {
            "n": float(len(part)),
            "predicted": float(np.sqrt(np.mean(sigma[part] ** 2))),
            "rmse": float(np.sqrt(np.mean(errors[part] ** 2))),
        }
        for part in parts
    ]


def _ence(bins: list[dict[str, float]]) -> float:
    return float(np.mean([abs(row["predicted"] - row["rmse"]) / row["predicted"] for row in bins]))


def _inside(sigma: Floats, errors: Floats, dimensions: int) -> list[float]:
    """Share of errors within the interval, or ball, of each level."""
    from scipy.stats import chi2

    ratios = dimensions * (errors / sigma) ** 2
    return [float(np.mean(ratios <= chi2.ppf(level, dimensions))) for level in LEVELS]


def _spearman(sigma: Floats, errors: Floats) -> float | None:
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (sigma, errors)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])

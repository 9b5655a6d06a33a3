"""Intervals that hold without assumptions on the model: split-conformal prediction.

Structures that neither training nor the choice of weights has seen say how far off the model is; the
interval of a new one is as wide as to hold that share of them. If they and the new one are exchangeable,
the interval holds its value with at least that probability (Vovk, Gammerman and Shafer, Algorithmic
Learning in a Random World, 2005; Lei et al., J. Am. Stat. Assoc. 113, 1094, 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Calibration", "calibrate", "calibrate_classes", "coverage_interval"]

LEVEL = 0.9
"""Probability that intervals aim at."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What makes intervals of a target.

    Attributes:
        quantile: Of the calibration structures' errors, each over its difficulty; infinite where they are
            too few for the level.
        base: What is added to the spread of an ensemble to make the difficulty; 0 for a single model, whose
            difficulty is 1 everywhere.
        n: Calibration structures.
        level: Probability.
    """

    quantile: float
    base: float
    n: int
    level: float = LEVEL

    def half_width(self, spread: Floats) -> Floats:
        """Half the width of the intervals of ``(n,)`` structures with this spread among the members."""
        return self.quantile * difficulty(spread, self.base)


def difficulty(spread: Floats, base: float) -> Floats:
    """``(n,)`` by which errors are divided: spread plus base, or one."""
    return np.ones(len(spread)) if base == 0.0 else spread + base


def calibrate(errors: Floats, spread: Floats, level: float = LEVEL) -> Calibration:
    """From signed errors and ensemble spreads of ``(n,)`` calibration structures; NaN errors do not count."""
    known = np.isfinite(errors)
    errors, spread = errors[known], spread[known]
    base = float(spread.mean()) if len(spread) else 0.0
    scores = np.abs(errors) / difficulty(spread, base)
    return Calibration(_quantile(scores, level), base, len(scores), level)


def calibrate_classes(probabilities: Floats, labels: Floats, level: float = LEVEL) -> Calibration:
    """For sets of classes: those whose probability is at least one less the quantile.

    The score is one less the probability of the true class (Sadinle, Lei and Wasserman, J. Am. Stat. Assoc.
    114, 223, 2019).

    Args:
        probabilities: ``(n, n_classes)``.
        labels: ``(n,)`` places of the true classes; NaN for none.
        level: Probability.
    """
    known = np.isfinite(labels)
    true = probabilities[known, labels[known].astype(int)]
    return Calibration(_quantile(1.0 - true, level), 0.0, len(true), level)


def _quantile(scores: Floats, level: float) -> float:
    """The ``ceil((n + 1) level)``-th smallest; infinite where that is beyond the last."""
    place = math.ceil((len(scores) + 1) * level)
    return float(np.sort(scores)[place - 1]) if 0 < place <= len(scores) else math.inf


def coverage_interval(inside: int, n: int, n_calibration: int, level: float = LEVEL) -> tuple[float, float]:
    """The 95% interval of a measured coverage: what a test set of n and the calibration set leave open.

    The coverage that a calibration set of m gives is Beta-distributed with parameters k and m + 1 - k,
    ``k = ceil((m + 1) level)`` (Vovk, 2012); its variance is added to the binomial one (Wilson's centre).

    Args:
        inside: Structures whose interval held the value.
        n: Structures of the test.
        n_calibration: Calibration structures behind the intervals; of several folds their sum.
        level: Probability that was aimed at.
    """
    if n == 0:
        return math.nan, math.nan
    z2 = 1.959963984540054**2
    share = (inside + z2 / 2) / (n + z2)
    k = min(math.ceil((n_calibration + 1) * level), n_calibration)
    a, b = k, n_calibration + 1 - k
    calibration = a * b / ((a + b) ** 2 * (a + b + 1)) if n_calibration else 0.0
    half = math.sqrt(z2 * (share * (1 - share) / (n + z2) + calibration))
    return max(share - half, 0.0), min(share + half, 1.0)

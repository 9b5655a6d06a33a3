"""Bootstrap over structures: intervals of error statistics, and whether two models can be told apart.

Structures are drawn, not atoms: the errors of the atoms of a structure go together, and intervals
that took them for independent would be several times too narrow. Percentile intervals of few
structures are too narrow as well (they lack the factor √(n/(n-1)) and the tails of Student's t);
their levels are expanded accordingly (Hesterberg, Am. Stat. 69, 371 (2015), section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LEVEL", "Bootstrap", "interval", "interval_of_mean", "verdict"]

LEVEL = 0.95
"""Coverage that intervals aim at."""

_CHUNK = 1 << 20  # weights that are held at once


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of structures.

    Attributes:
        clusters: ``(n_structures,)`` which cluster each structure is in, 0 to n_clusters - 1; a cluster
            is drawn as a whole. One cluster per structure draws structures; trajectories as
            clusters allow for frames that resemble their neighbours in time.
        n_resamples: How many.
        seed: The same seed gives the same resamples.
    """

    clusters: NDArray[np.int64]
    n_resamples: int = 1000
    seed: int = 0

    def weights(self) -> Iterator[NDArray[np.float64]]:
        """How often each structure is in each resample, piece by piece ``(n_in_piece, n_structures)``."""
        n_clusters = int(self.clusters.max()) + 1 if len(self.clusters) else 0
        rng = np.random.default_rng(self.seed)
        piece = max(1, _CHUNK // max(1, n_clusters))
        for start in range(0, self.n_resamples, piece):
            n = min(piece, self.n_resamples - start)
            drawn = rng.integers(n_clusters, size=(n, n_clusters))
            drawn += n_clusters * np.arange(n)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=n * n_clusters).reshape(n, n_clusters)
            yield counts[:, self.clusters].astype(np.float64)


def interval(samples: ArrayLike, n_units: int) -> tuple[float, float]:
    """The expanded percentile interval of a statistic; NaN for fewer than two units.

    Args:
        samples: ``(n_resamples,)`` the statistic of each resample; NaN where it had nothing to average.
        n_units: Structures (or clusters) that the statistic rests on.
    """
    from scipy.stats import norm, t

    values = np.asarray(samples, dtype=np.float64)
    values = values[np.isfinite(values)]
    if n_units < 2 or values.size == 0:
        return float("nan"), float("nan")
    quantile = t.ppf((1 - LEVEL) / 2, n_units - 1) * np.sqrt(n_units / (n_units - 1))
    tail = float(norm.cdf(quantile))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def interval_of_mean(values: ArrayLike, n_resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The interval of the mean of ``(n,)`` independent values; NaN for fewer than two."""
    numbers = np.asarray(values, dtype=np.float64)
    clusters = np.arange(len(numbers))
    means = [w @ numbers / w.sum(axis=1) for w in Bootstrap(clusters, n_resamples, seed).weights()]
    return interval(np.concatenate(means), len(numbers))


def verdict(low: float, high: float) -> str:
    """Whether an interval of a difference of errors excludes 0: ``better``, ``worse`` or neither."""
    if high < 0:
        return "better"
    if low > 0:
        return "worse"
    return "not distinguishable"

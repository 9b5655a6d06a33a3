"""Means of correlated series with honest errors, computed as the run goes.

Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989): neighbours are averaged in pairs
again and again; the naive error of the mean grows until the blocks are independent. The
state is a few numbers per level, whatever the length of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomml.md.state import Array

__all__ = ["BlockAverage", "Mean"]

_LEVELS = 48  # 2^48 samples: more than anybody records
_MIN_BLOCKS = 8  # fewer blocks say nothing of their variance


@dataclass(frozen=True)
class Mean:
    """A mean and its standard error.

    Attributes:
        value: The mean; NaN without samples.
        error: Standard error, autocorrelation included; NaN for fewer than 8 samples.
        variance: Variance of the samples, not of their mean.
        n_samples: Number of samples.
        inefficiency: Samples that make one independent sample (1 for an uncorrelated series).
        reliable: Whether the blocks became independent before they became too few.
    """

    value: float
    error: float
    variance: float
    n_samples: int
    inefficiency: float
    reliable: bool


class BlockAverage:
    """Streaming block averages of ``n_series`` series that are sampled together."""

    def __init__(self, n_series: int) -> None:
        # per level: count (the same for all), mean, sum of squared deviations, and the sample that waits
        self._count = np.zeros(_LEVELS)
        self._moments = np.zeros((3, _LEVELS, n_series))

    @property
    def n_samples(self) -> int:
        """Number of samples so far."""
        return int(self._count[0])

    def add(self, sample: Array) -> None:
        """Take one sample ``(n_series,)``."""
        mean, squares, waiting = self._moments
        value = np.array(sample, dtype=np.float64)
        for level in range(_LEVELS):
            self._count[level] += 1.0
            change = value - mean[level]
            mean[level] += change / self._count[level]
            squares[level] += change * (value - mean[level])
            if self._count[level] % 2:
                waiting[level] = value
                return
            value = 0.5 * (waiting[level] + value)

    def mean(self, series: int) -> Mean:
        """The mean of one series.

        The block length is the shortest for which ``B³ > 2 n (s_B / s_0)⁴``, ``s_B`` being
        the error at that length (Lee et al., Phys. Rev. E 83, 066706 (2011), eq. 4); where
        none is long enough the largest error counts and ``reliable`` is False.
        """
        count = self._count
        if not count[0]:
            return Mean(np.nan, np.nan, np.nan, 0, np.nan, False)
        value = float(self._moments[0, 0, series])
        levels = int((count >= _MIN_BLOCKS).sum())
        if not levels:
            return Mean(value, np.nan, np.nan, int(count[0]), np.nan, False)
        squares = self._moments[1, :levels, series] / (count[:levels] * (count[:levels] - 1.0))
        variance = float(self._moments[1, 0, series] / (count[0] - 1.0))
        if not variance > 0:
            return Mean(value, 0.0, 0.0, int(count[0]), 1.0, bool(variance == 0))
        ratio = squares / squares[0]
        blocks = 2.0 ** np.arange(levels)
        enough = np.nonzero(blocks**3 > 2.0 * count[0] * ratio**2)[0]
        chosen = int(enough[0]) if len(enough) else int(np.argmax(ratio))
        return Mean(
            value,
            float(np.sqrt(squares[chosen])),
            variance,
            int(count[0]),
            max(float(ratio[chosen]), 1.0) if len(enough) else float(ratio[chosen]),
            bool(len(enough)),
        )

    def arrays(self) -> dict[str, Array]:
        """The whole state."""
        return {"block_count": self._count.copy(), "block_moments": self._moments.copy()}

    def load_arrays(self, arrays: dict[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._count = np.array(arrays["block_count"])
        self._moments = np.array(arrays["block_moments"])

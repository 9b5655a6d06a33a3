"""By which factor two columns differ, and which unit, sign or normalisation that factor means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.near_pairs import Pairs

__all__ = ["Hypothesis", "Slope", "Verdict", "decide", "fit_slope"]

Floats = NDArray[np.float64]

_FEWEST = 6
_ROUNDS = 30
_SLACK = 1.12  # the trapezoidal rule's own error; units at hand differ by more, or both are named
_LOOSE = 0.3  # least squared correlation that says anything
_TIE = 1.3


@dataclass(frozen=True)
class Slope:
    """y = slope x through the origin, where both are noisy.

    Attributes:
        value: The slope: geometric mean of the regressions of y on x and of x on y.
        low: Its least size (of the same sign) that the data allow.
        high: Its largest size.
        correlation: Squared correlation about the origin, of the points that were not outliers.
        n: Points that were not outliers.
        spread: Robust standard deviation of y - slope x, over that of y.
    """

    value: float
    low: float
    high: float
    correlation: float
    n: int
    spread: float

    def allows(self, factor: float) -> bool:
        """Whether the slope may be ``factor``."""
        return np.sign(factor) == np.sign(self.value) and self.low <= abs(factor) <= self.high


@dataclass(frozen=True)
class Hypothesis:
    """What could be wrong, and by which factor it scales the work.

    Attributes:
        traps: Names of the findings that it stands for; empty if all is as it should be.
        factor: From pairs to the factor by which their work must be multiplied.
        words: What it is, for a sentence.
        energy_factor: By which the file's energies must be multiplied to be in eV.
        force_factor: By which the file's forces must be multiplied to be in eV/Å.
    """

    traps: tuple[str, ...]
    factor: Callable[[Pairs], Floats | float]
    words: str
    energy_factor: Callable[[Pairs], Floats | float] = lambda _: 1.0
    force_factor: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What the pairs say.

    Attributes:
        kind: ``agrees``, ``named`` (a hypothesis fits), ``scaled`` (none does, though the columns
            go together), or ``open`` (too few or too noisy to say).
        slope: Of the energy over the work as it stands in the file; None if there are too few pairs.
        hypothesis: The one that fits best.
        others: Words of those that fit about as well.
    """

    kind: str
    slope: Slope | None = None
    hypothesis: Hypothesis | None = None
    others: tuple[str, ...] = ()


def fit_slope(x: Floats, y: Floats, noise: Floats) -> Slope | None:
    """The slope of y over x through the origin; None if fewer than six points say anything.

    Starts from the weighted median of y/x (the L1 solution) and goes on with Tukey's biweight
    (Holland & Welsch, Commun. Stat. A6, 813, 1977). Since x is noisy too, the truth lies between
    the regression of y on x and that of x on y; the interval spans both and three standard errors.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        noise: ``(n,)`` relative size of the error of each x; only ratios matter.
    """
    good = np.isfinite(x) & np.isfinite(y) & (x != 0)
    x, y, noise = x[good], y[good], noise[good]
    if len(x) < _FEWEST or not y.any():
        return None
    weight = 1.0 / np.maximum(noise, 1e-3 * np.median(noise) + 1e-300) ** 2
    weight /= weight.max()
    slope = _weighted_median(y / x, np.sqrt(weight) * np.abs(x))
    robust = weight
    for _ in range(_ROUNDS):
        residual = np.sqrt(weight) * (y - slope * x)
        scale = 1.4826 * np.median(np.abs(residual))
        floor = 1e-9 * np.sqrt((weight * y**2).mean())
        u = residual / (6.0 * max(scale, floor, 1e-300))
        robust = weight * np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0)
        xx = (robust * x * x).sum()
        if xx <= 0:
            return None
        slope = float((robust * x * y).sum() / xx)
    return _summarise(x, y, robust)


def _summarise(x: Floats, y: Floats, weight: Floats) -> Slope | None:
    xx, xy, yy = ((weight * a * b).sum() for a, b in ((x, x), (x, y), (y, y)))
    if xx <= 0 or yy <= 0 or xy == 0:
        return None
    correlation = float(xy * xy / (xx * yy))
    direct, inverse = xy / xx, yy / xy
    n = weight.sum() ** 2 / (weight**2).sum()  # Kish's effective number
    error = np.sqrt(max(1 / correlation - 1, 0.0) / max(n - 1, 1.0))
    widen = _SLACK * (1 + 3 * error)
    low, high = sorted((abs(direct), abs(inverse)))
    value = float(np.sign(xy) * np.sqrt(yy / xx))
    residual = y - direct * x
    spread = np.sqrt((weight * residual**2).sum() / yy)
    return Slope(value, float(low / widen), float(high * widen), correlation, int(round(n)), float(spread))


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(running, 0.5 * running[-1])])


def decide(
    work: Floats, change: Floats, noise: Floats, pairs: Pairs, hypotheses: Sequence[Hypothesis]
) -> Verdict:
    """Which hypothesis explains ``change`` by ``work``; the first one says that all is well.

    Args:
        work: ``(n_pairs,)`` as it stands in the file.
        change: ``(n_pairs,)`` change of energy.
        noise: ``(n_pairs,)`` relative error of the work.
        pairs: For factors that depend on atoms or volume.
        hypotheses: The first is that of a sound file.
    """
    plain = fit_slope(work, change, noise)
    if plain is None or plain.correlation < _LOOSE or plain.n < _FEWEST:
        return Verdict("open", plain)
    fits: list[tuple[float, float, Hypothesis]] = []
    for hypothesis in hypotheses:
        factor = np.broadcast_to(hypothesis.factor(pairs), work.shape)
        slope = fit_slope(work * factor, change, noise * np.abs(factor))
        if slope is not None and slope.allows(1.0) and slope.correlation >= _LOOSE:
            if hypothesis is hypotheses[0]:
                return Verdict("agrees", plain, hypothesis)
            fits.append((slope.spread, abs(np.log(abs(slope.value))), hypothesis))
    if not fits:
        return Verdict("scaled", plain)
    least = min(spread for spread, _, _ in fits)
    near = sorted((off, k) for k, (spread, off, _) in enumerate(fits) if spread <= _TIE * least + 1e-6)
    ranked = [fits[k][2] for _, k in near]
    return Verdict("named", plain, ranked[0], tuple(other.words for other in ranked[1:]))

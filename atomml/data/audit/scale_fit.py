"""By which factors energies go with the work of forces and of stress, each noisy, by robust regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Slope", "fit_slope", "partial_slopes"]

Floats = NDArray[np.float64]

_FEWEST = 6
_ROUNDS = 30
_SLACK = 1.2  # the trapezoidal rule's own error; of units that differ by less, both are named
_LOOSE = 0.3


@dataclass(frozen=True)
class Slope:
    """y = slope x through the origin, where both are noisy.

    Attributes:
        value: The slope: geometric mean of the regressions of y on x and of x on y.
        low: Its least size (of the same sign) that the data allow.
        high: Its largest size.
        correlation: Squared correlation about the origin, of the points that were not outliers.
        n: Effective number of points that were not outliers.
    """

    value: float
    low: float
    high: float
    correlation: float
    n: int

    @property
    def tells(self) -> bool:
        """Whether enough points go together well enough to name a factor."""
        return self.correlation >= _LOOSE and self.n >= _FEWEST

    def allows(self, factor: float, slack: float = 1.0) -> bool:
        """Whether the slope may be ``factor``, or less or more than it by ``slack``."""
        size = abs(factor)
        same_sign = np.sign(factor) == np.sign(self.value)
        return bool(same_sign and self.low / slack <= size <= self.high * slack)


def fit_slope(x: Floats, y: Floats, noise: Floats) -> Slope | None:
    """The slope of y over x through the origin; None if fewer than six points say anything.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        noise: ``(n,)`` relative size of the error of each point; only ratios matter.
    """
    return partial_slopes((x,), y, noise)[0]


def partial_slopes(columns: tuple[Floats, ...], y: Floats, noise: Floats) -> list[Slope | None]:
    """Slopes of y = sum of slope times column, each with what it may be at least and at most.

    Starts from least absolute values and goes on with Tukey's biweight (Holland & Welsch, Commun.
    Stat. A6, 813, 1977). Each column and y are then cleared of the other columns (Frisch & Waugh,
    Econometrica 1, 387, 1933), and since both are noisy the truth lies between the regression of one
    on the other and the reverse: the interval spans both and three standard errors.

    Args:
        columns: Each ``(n,)``; one that is zero throughout has no slope.
        y: ``(n,)``.
        noise: ``(n,)`` relative size of the error of each point; only ratios matter.

    Returns:
        One slope per column; None where there are fewer than six points, or nothing to see.
    """
    design = np.stack(columns, axis=1)
    good = np.isfinite(design).all(axis=1) & np.isfinite(y) & (design != 0).any(axis=1)
    design, y, noise = design[good], y[good], noise[good]
    if len(y) < _FEWEST or not y.any():
        return [None] * len(columns)
    weight = _robust_weights(design, y, noise)
    root = np.sqrt(weight)
    found: list[Slope | None] = []
    for k in range(design.shape[1]):
        others = np.delete(design, k, axis=1) * root[:, None]
        x, rest = design[:, k] * root, y * root
        if others.any():
            x = x - others @ np.linalg.lstsq(others, x, rcond=1e-12)[0]
            rest = rest - others @ np.linalg.lstsq(others, rest, rcond=1e-12)[0]
        size = np.linalg.norm(design[:, k] * root)
        found.append(_summarise(x, rest, weight) if np.linalg.norm(x) > 1e-6 * size > 0 else None)
    return found


def _robust_weights(design: Floats, y: Floats, noise: Floats) -> Floats:
    """Least absolute values first, then Tukey's weights; of size 0 to 1."""
    base = 1.0 / np.maximum(noise, 1e-3 * np.median(noise) + 1e-300) ** 2
    base /= base.max()
    scaled = design / np.maximum(np.sqrt((base[:, None] * design**2).mean(axis=0)), 1e-300)
    weight = base
    floor = 1e-9 * float(np.sqrt((base * y**2).mean()))
    for turn in range(_ROUNDS):
        root = np.sqrt(weight)
        slopes = np.linalg.lstsq(scaled * root[:, None], y * root, rcond=1e-12)[0]
        residual = np.abs(np.sqrt(base) * (y - scaled @ slopes))
        scale = max(1.4826 * float(np.median(residual)), floor, 1e-300)
        if turn < _ROUNDS // 2:
            weight = base / np.maximum(residual / scale, 0.05)
        else:
            u = np.minimum(residual / (6.0 * scale), 1.0)
            weight = base * (1 - u**2) ** 2
    return weight


def _summarise(x: Floats, y: Floats, weight: Floats) -> Slope | None:
    """Of columns that carry the root of their weight already."""
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    if xx <= 0 or yy <= 0 or xy == 0:
        return None
    correlation = xy * xy / (xx * yy)
    n = weight.sum() ** 2 / (weight**2).sum()  # Kish's effective number
    error = np.sqrt(max(1 / correlation - 1, 0.0) / max(n - 1, 1.0))
    widen = _SLACK * (1 + 3 * error)
    low, high = sorted((abs(xy / xx), abs(yy / xy)))
    value = float(np.sign(xy) * np.sqrt(yy / xx))
    return Slope(value, float(low / widen), float(high * widen), correlation, round(float(n)))

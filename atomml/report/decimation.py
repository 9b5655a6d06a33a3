"""Fewer points, the same picture: what a plot can show of a million values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["decimate_line", "evenly_spaced", "thin_points"]


def decimate_line(y: ArrayLike, limit: int) -> NDArray[np.int64]:
    """Indices of at most about ``limit`` points of a curve, in order, that keep its envelope.

    The curve is cut into ``limit // 2`` runs of equal length and each gives its lowest and its
    highest point, so no spike is lost; the first and the last point always stay. NaN is passed
    over where a run holds a finite value, and stays (as a gap) where it holds none.
    """
    values = np.asarray(y, dtype=np.float64)
    if values.size <= limit:
        return np.arange(values.size)
    bounds = np.linspace(0, values.size, max(2, limit // 2) + 1).astype(np.int64)
    lowest = np.where(np.isfinite(values), values, np.inf)
    highest = np.where(np.isfinite(values), values, -np.inf)
    keep = [0, values.size - 1]
    for start, stop in pairwise(bounds.tolist()):
        keep.append(start + int(np.argmin(lowest[start:stop])))
        keep.append(start + int(np.argmax(highest[start:stop])))
    return np.unique(np.asarray(keep, dtype=np.int64))


def thin_points(x: ArrayLike, y: ArrayLike, limit: int) -> NDArray[np.int64]:
    """Indices of at most about ``limit`` points of a cloud: one for each occupied cell of a grid.

    The grid is made coarser until few enough cells are occupied. The points with the smallest and
    largest x and y always stay; points that are not finite go.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
    if finite.size <= limit:
        return finite
    u, v = _unit_interval(xs[finite]), _unit_interval(ys[finite])
    n_cells = 512
    while True:
        cells = np.floor(u * n_cells).astype(np.int64) * (n_cells + 1) + np.floor(v * n_cells).astype(
            np.int64
        )
        first = np.unique(cells, return_index=True)[1]
        if first.size <= limit or n_cells <= 4:
            break
        n_cells = n_cells * 3 // 4
    extremes = [np.argmin(u), np.argmax(u), np.argmin(v), np.argmax(v)]
    return finite[np.unique(np.concatenate([first, np.asarray(extremes, dtype=np.int64)]))]


def evenly_spaced(total: int, limit: int) -> list[int]:
    """At most ``limit`` of the indices below ``total``, evenly spread, the first and the last among them."""
    if total <= limit:
        return list(range(total))
    if limit <= 1:
        return [total - 1] if limit == 1 else []
    return [round(i * (total - 1) / (limit - 1)) for i in range(limit)]


def _unit_interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    scale = high - low
    return (values - low) / scale if scale > 0 else np.zeros_like(values)

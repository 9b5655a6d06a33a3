"""How good predictions are: MAE, RMSE and R², or accuracy, with intervals over structures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.data.bootstrap import Bootstrap, interval

__all__ = ["class_scores", "number_scores"]

Floats = NDArray[np.float64]


def number_scores(
    labels: Floats, found: Floats, *, resamples: int = 1000, clusters: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """``n`` and, each as value, low and high of its 95% interval, ``mae``, ``rmse`` and ``r2``.

    R² is one less the mean squared error over the variance of the labels. Structures without a label, or
    without an answer, do not count.

    Args:
        labels: ``(n,)`` on the learned scale.
        found: ``(n,)`` predictions.
        resamples: Bootstrap resamples.
        clusters: ``(n,)`` structures of one cluster are drawn together; each alone if None.
    """
    known = np.isfinite(labels) & np.isfinite(found)
    y, p = labels[known], found[known]
    if not len(y):
        return {"n": 0}
    groups = np.arange(len(y)) if clusters is None else np.unique(clusters[known], return_inverse=True)[1]
    parts = list(Bootstrap(groups, resamples).weights())
    weights = np.concatenate([np.ones((1, len(y))), *parts]) if len(y) > 1 else np.ones((1, 1))
    total = np.maximum(weights.sum(axis=1), 1e-300)
    absolute = weights @ np.abs(p - y) / total
    squared = weights @ (p - y) ** 2 / total
    mean = weights @ y / total
    variance = weights @ y**2 / total - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1.0 - squared / variance, np.nan)
    n_units = int(groups.max()) + 1
    values = {"mae": absolute, "rmse": np.sqrt(squared), "r2": r2}
    return {"n": len(y)} | {
        name: [float(one[0]), *interval(one[1:], n_units)] for name, one in values.items()
    }


def class_scores(labels: Floats, probabilities: Floats, *, resamples: int = 1000) -> dict[str, Any]:
    """``n`` and, each with its 95% interval, ``accuracy`` and ``balanced_accuracy`` (mean over classes).

    Args:
        labels: ``(n,)`` places of the true classes; NaN for none.
        probabilities: ``(n, n_classes)``.
        resamples: Bootstrap resamples.
    """
    known = np.isfinite(labels)
    y, p = labels[known].astype(int), probabilities[known]
    if not len(y):
        return {"n": 0}
    right = (p.argmax(axis=1) == y).astype(np.float64)
    parts = list(Bootstrap(np.arange(len(y)), resamples).weights())
    weights = np.concatenate([np.ones((1, len(y))), *parts])
    accuracy = weights @ right / weights.sum(axis=1)
    each = []
    for one in np.unique(y):
        mine = (y == one).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            each.append((weights @ (right * mine)) / (weights @ mine))
    balanced = np.nanmean(np.stack(each), axis=0)
    values = {"accuracy": accuracy, "balanced_accuracy": balanced}
    return {"n": len(y)} | {k: [float(v[0]), *interval(v[1:], len(y))] for k, v in values.items()}

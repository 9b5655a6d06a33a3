"""Weights of families in a mean of them: those that fit structures best that no family was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atomml.property.targets import Target

__all__ = ["family_weights"]

Floats = NDArray[np.float64]

_FEWEST = 10
_HEAVY = 10.0  # of the row that makes weights add up to one, beside all others together


def family_weights(members: Floats, labels: Floats, target: Target, n_families: int) -> Floats:
    """``(n_families,)`` weights, none negative, that add up to one: least squares on the learned scale.

    Breiman, Machine Learning 24, 49 (1996). Equal ones where fewer than ten structures have a label.

    Args:
        members: ``(n_members, n)`` answers, or ``(n_members, n, n_classes)`` probabilities; families in
            order, with equally many members each, which count alike.
        labels: ``(n,)`` labels, or places of classes; NaN for none.
        target: What was answered.
        n_families: How many families.
    """
    from scipy.optimize import nnls

    known = np.isfinite(labels)
    equal = np.full(n_families, 1.0 / n_families)
    if known.sum() < _FEWEST:
        return equal
    means = members[:, known].reshape(n_families, -1, *members[:, known].shape[1:]).mean(axis=1)
    if target.classes:
        wanted = np.eye(target.width)[labels[known].astype(int)].ravel()
        columns = means.reshape(n_families, -1).T
    else:
        centre, spread = labels[known].mean(), max(float(labels[known].std()), 1e-300)
        wanted, columns = (labels[known] - centre) / spread, ((means - centre) / spread).T
    heavy = _HEAVY * np.sqrt(len(wanted))
    weights, _ = nnls(np.vstack([columns, np.full(n_families, heavy)]), np.append(wanted, heavy))
    return np.asarray(weights / weights.sum() if weights.sum() > 0 else equal)

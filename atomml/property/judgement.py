"""Errors and coverage of an ensemble on labelled structures, target by target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.property.conformal import Calibration, coverage_interval
from atomml.property.ensemble import Answers, PropertyEnsemble
from atomml.property.scores import class_scores, number_scores
from atomml.property.targets import Target

__all__ = ["class_sets", "inside", "judge"]

Floats = NDArray[np.float64]


def judge(
    ensemble: PropertyEnsemble, answers: Answers, labels: Floats, *, resamples: int = 1000
) -> dict[str, dict[str, Any]]:
    """Scores of each target, by its key.

    Those of :mod:`atomml.property.scores`, and ``coverage``: the share of structures whose interval, or set
    of classes, holds the label, with its own 95% interval.

    Args:
        ensemble: Which answered.
        answers: Its answers.
        labels: ``(n, n_targets)`` on the learned scale.
        resamples: Bootstrap resamples.
    """
    found: dict[str, dict[str, Any]] = {}
    for k, target in enumerate(ensemble.targets):
        if target.classes:
            scores = class_scores(labels[:, k], answers.learned[k], resamples=resamples)
        else:
            scores = number_scores(labels[:, k], answers.learned[k], resamples=resamples)
        if ensemble.calibrations is not None and scores["n"]:
            one = ensemble.calibrations[k]
            held = inside(target, one, answers.learned[k], answers.spread[k], labels[:, k])
            n = int(np.isfinite(labels[:, k]).sum())
            share = coverage_interval(int(held.sum()), n, one.n, one.level)
            scores["coverage"] = [float(held.sum()) / n, *share]
        found[target.key] = scores
    return found


def inside(target: Target, one: Calibration, learned: Floats, spread: Floats, labels: Floats) -> Any:
    """``(n,)`` bool: whether the interval or set holds the label; False where there is none."""
    known = np.isfinite(labels)
    if target.classes:
        place = np.where(known, labels, 0).astype(int)
        return class_sets(one, learned)[np.arange(len(labels)), place] & known
    with np.errstate(invalid="ignore"):
        return (np.abs(labels - learned) <= one.half_width(spread)) & known


def class_sets(one: Calibration, probabilities: Floats) -> Any:
    """``(n, n_classes)`` bool: which classes each set holds; never none."""
    held = 1.0 - probabilities <= one.quantile
    held[np.arange(len(held)), probabilities.argmax(axis=1)] = True
    return held

"""Rows of tables: what an ensemble says of structures, with intervals and domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.property.judgement import class_sets
from atomml.property.targets import Target

if TYPE_CHECKING:
    from atomml.property.ensemble import Answers, PropertyEnsemble
    from atomml.workflows.properties.property_data import LabelledSet

__all__ = ["answer_columns", "answer_rows", "parity_rows"]


def answer_columns(ensemble: PropertyEnsemble) -> list[str]:
    """Names of the columns of :func:`answer_rows`."""
    found = []
    for target in ensemble.targets:
        if target.classes:
            found += [target.name, f"{target.name}_probability", f"{target.name}_classes_90"]
        else:
            found += [target_column(target)]
            found += [f"{target_column(target)}_{end}" for end in ("low_90", "high_90")]
        found.append(f"{target.key}_spread")
    return [*found, "domain", "outside_domain"]


def target_column(target: Target) -> str:
    """The value in the property's own unit; of an absolute value ``abs_NAME``."""
    return target.key if target.transform == "abs" else target.name


def answer_rows(ensemble: PropertyEnsemble, answers: Answers) -> list[dict[str, Any]]:
    """A row for each structure: values with the ends of their 90% intervals, spread, distance.

    ``NAME_spread`` is the standard deviation among the members on the learned scale; ``domain`` the distance
    to the training set over its reach, beyond 1 ``outside_domain``.
    """
    n = len(answers.features)
    rows: list[dict[str, Any]] = [{} for _ in range(n)]
    for k, target in enumerate(ensemble.targets):
        one = None if ensemble.calibrations is None else ensemble.calibrations[k]
        learned, spread = answers.learned[k], answers.spread[k]
        if target.classes:
            held = None if one is None else class_sets(one, learned)
            for row, p, i in zip(rows, learned, range(n), strict=True):
                best = int(p.argmax())
                row[target.name] = target.classes[best]
                row[f"{target.name}_probability"] = float(p[best])
                inside = (
                    [] if held is None else [c for c, yes in zip(target.classes, held[i], strict=True) if yes]
                )
                row[f"{target.name}_classes_90"] = " ".join(inside) or None
        else:
            column = target_column(target)
            half = np.full(n, np.nan) if one is None else one.half_width(spread)
            ends = {
                column: target.value(learned),
                f"{column}_low_90": target.value(learned - half),
                f"{column}_high_90": target.value(learned + half),
            }
            for name, values in ends.items():
                for row, value in zip(rows, values, strict=True):
                    row[name] = float(value) if np.isfinite(value) else None
        for row, value in zip(rows, spread, strict=True):
            row[f"{target.key}_spread"] = float(value)
    domain = ensemble.domain
    distance = np.full(n, np.nan) if domain is None else domain.distance(answers.features)
    for row, value in zip(rows, distance, strict=True):
        row["domain"] = float(value) if np.isfinite(value) else None
        row["outside_domain"] = bool(value > 1.0) if np.isfinite(value) else None
    return rows


def parity_rows(
    ensemble: PropertyEnsemble, data: LabelledSet, answers: Answers, name: str
) -> list[dict[str, Any]]:
    """Rows ``set, id, target, label, prediction, low, high, domain`` on the learned scale."""
    labels = data.encoded(ensemble.targets)
    domain = ensemble.domain
    distance = np.full(len(data), np.nan) if domain is None else domain.distance(answers.features)
    rows: list[dict[str, Any]] = []
    for k, target in enumerate(ensemble.targets):
        one = None if ensemble.calibrations is None else ensemble.calibrations[k]
        half = np.full(len(data), np.nan)
        if one is not None and not target.classes:
            half = one.half_width(answers.spread[k])
        for i in np.flatnonzero(np.isfinite(labels[:, k])):
            value = answers.learned[k][i]
            row: dict[str, Any] = {"set": name, "id": data.ids[i], "target": target.key}
            if target.classes:
                row |= {
                    "label": target.classes[int(labels[i, k])],
                    "prediction": target.classes[int(value.argmax())],
                    "low": None,
                    "high": None,
                }
            else:
                low, high = float(value - half[i]), float(value + half[i])
                row |= {"label": float(labels[i, k]), "prediction": float(value)}
                row |= {"low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}
            row["domain"] = float(distance[i]) if np.isfinite(distance[i]) else None
            rows.append(row)
    return rows

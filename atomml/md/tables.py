"""Tables and numbers that a finished run leaves beside its log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from atomml.md.averages import Mean
from atomml.md.state import Array

__all__ = ["averages_csv", "conserved_drift", "curves_csv"]


def averages_csv(means: Mapping[str, Mean]) -> str:
    """One line per quantity: mean, standard error, standard deviation, samples, inefficiency."""
    lines = ["quantity,mean,standard_error,standard_deviation,samples,statistical_inefficiency"]
    for name, mean in means.items():
        values = (mean.value, mean.error, mean.variance**0.5, mean.n_samples, mean.inefficiency)
        lines.append(",".join([name, *map(_cell, values)]))
    return "\n".join([*lines, ""])


def curves_csv(curves: Mapping[str, Array]) -> str:
    """Columns of equal length under their names."""
    rows = zip(*(values.tolist() for values in curves.values()), strict=True)
    return "\n".join([",".join(curves), *(",".join(map(_cell, row)) for row in rows), ""])


def conserved_drift(log: Path, first_step: int) -> float:
    """Change of the conserved quantity over the run, by a straight line through the log, eV.

    Args:
        log: ``log.csv`` of a run.
        first_step: Lines of earlier steps are left out.
    """
    with log.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["step"]) >= first_step]
    if len(rows) < 2:
        return 0.0
    times = np.array([float(row["time_fs"]) for row in rows])
    values = np.array([float(row["conserved_eV"]) for row in rows])
    slope = np.polyfit(times - times[0], values - values[0], 1)[0]
    return float(slope * (times[-1] - times[0]))


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if value != value else repr(float(value))

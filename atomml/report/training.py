"""What the report of a training shows: losses and errors by epoch, what was gained, parity."""

from __future__ import annotations

import numpy as np

from atomml.report.plots import Scale, Series, line_plot, parity_plot
from atomml.report.quantities import UNITS
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run

__all__ = ["training"]

_LABELS = {
    "energy": ("Energy", "meV_per_atom"),
    "forces": ("Forces", "meV_per_A"),
    "stress": ("Stress", "GPa"),
    "magmoms": ("Magnetic moments", "muB"),
}
_SETS = {"valid": "validation", "test": "test"}


def training(run: Run, report: Report) -> None:
    """Errors before and after, losses and errors by epoch, learning rate, parity plots, numbers of labels."""
    _gains(run, report)
    _curves(run, report, "Loss", {"training": "train_loss", "validation": "valid_loss"}, "loss", "log")
    for name, (title, unit) in _LABELS.items():
        columns = {"training": f"train_{name}_mae_{unit}", "validation": f"valid_{name}_mae_{unit}"}
        _curves(run, report, f"Error by epoch: {title.lower()}", columns, f"MAE ({UNITS[unit]})", "log")
    _curves(run, report, "Learning rate", {"learning rate": "learning_rate"}, "learning rate")
    for stem, table in run.tables.items():
        _parity(stem, table, report)
    _labels(run, report)


def _gains(run: Run, report: Report) -> None:
    """Validation errors before the first step and at the end."""
    before, results = run.results.get("before") or {}, run.results
    rows = []
    for name, (title, unit) in _LABELS.items():
        old = before.get(f"valid_{name}_mae_{unit}")
        new = results.get(f"{name}_mae_{unit}")
        if isinstance(old, float) and isinstance(new, float):
            rows.append([title, UNITS[unit], old, new, old / new if new else None])
    if rows:
        columns = ["MAE on the validation set", "unit", "before", "after", "times_smaller"]
        report.table("What the training gained", columns, rows)


def _curves(
    run: Run, report: Report, title: str, columns: dict[str, str], ylabel: str, yscale: Scale = "linear"
) -> None:
    """Columns of the log over the epochs; what cannot be drawn is left out."""
    known = run.log.numeric
    if len(run.log) < 2 or "epoch" not in known:
        return
    epochs = known["epoch"]
    series = []
    for label, column in columns.items():
        if column in known:
            there = np.isfinite(known[column])
            series.append(Series(label, epochs[there], known[column][there]))
    if not series:
        return
    if yscale == "log" and not all((np.asarray(one.y) > 0).all() for one in series):
        yscale = "linear"
    report.plot(title, line_plot(series, "epoch", ylabel, title, yscale=yscale))


def _parity(stem: str, table: Columns, report: Report) -> None:
    """One file of labels and predictions, ``parity_valid_energy`` and so on."""
    kind, _, rest = stem.partition("_")
    where, _, name = rest.partition("_")
    if kind != "parity" or where not in _SETS or name not in _LABELS or len(table) == 0:
        return
    label, predicted = (table.numeric[column] for column in table.names[:2])
    unit = UNITS[table.names[0].removeprefix("label_")]
    title = f"Parity, {_SETS[where]} set: {_LABELS[name][0].lower()}"
    quantity = "energy per atom" if name == "energy" else _LABELS[name][0].lower()
    svg = parity_plot(label, predicted, f"label: {quantity} ({unit})", f"prediction ({unit})", title)
    mae = float(np.abs(label - predicted).mean())
    report.plot(title, svg, f"{len(label):,} components, MAE {mae:.4g} {unit}.")


def _labels(run: Run, report: Report) -> None:
    """How many structures of each set carry which labels."""
    sets = run.results.get("labels") or {}
    columns = ["structures", "atoms", "energy", "forces", "stress", "magmoms", "one_atom_structures"]
    rows = [[name, *(seen.get(column) for column in columns)] for name, seen in sets.items()]
    if rows:
        report.table("Structures and their labels", ["set", *columns], rows)

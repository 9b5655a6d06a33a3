"""The report of ``learn``: errors against labels, and what each round did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atomml.report.plots import Series, Style, line_plot
from atomml.report.quantities import label_of
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run

__all__ = ["SHOWN", "learning"]

SHOWN = ("rows", "committee")
"""Results that this recipe shows itself."""


def learning(run: Run, report: Report) -> None:
    """Errors on the test set over labels, uncertainty and time of the runs by round, a row for each round."""
    table = run.tables.get("rounds")
    if table is not None and len(table):
        energies = ("energy_mae_meV_per_atom", "shifted_energy_mae_meV_per_atom")
        forces = ("forces_mae_meV_per_A", "forces_rmse_meV_per_A")
        _over(table, report, "Errors on the test set: energy", energies, "labels", "meV/atom")
        _over(table, report, "Errors on the test set: forces", forces, "labels", "meV/Å")
        _over(
            table,
            report,
            "Largest uncertainty of a round",
            ("largest_uncertainty_eV_per_A",),
            "round",
            "eV/Å",
        )
        _over(table, report, "Shortest run of a round", ("shortest_run_ps",), "round", "ps")
        report.table("Rounds", table.names, table.rows(len(table)))
    files = [[name] for name in str(run.results.get("committee") or "").split(",") if name]
    report.table("The committee", ["file"], files)


def _over(table: Columns, report: Report, title: str, names: Sequence[str], x: str, unit: str) -> None:
    """Columns over labels or rounds; of one round there is nothing to draw a line through."""
    known = [name for name in names if name in table.numeric and np.isfinite(table.numeric[name]).any()]
    if not known or x not in table.numeric:
        return
    style: Style = "points" if len(table) == 1 else "line"
    series = [Series(label_of(name), table.numeric[x], table.numeric[name], style=style) for name in known]
    report.plot(title, line_plot(series, x, f"{title.lower()} ({unit})", title))

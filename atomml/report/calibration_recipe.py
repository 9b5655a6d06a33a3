"""What the report of ``evaluate`` shows of a committee's uncertainty."""

from __future__ import annotations

import numpy as np

from atomml.report.plots import Series, line_plot
from atomml.report.quantities import label_of, split_unit, with_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run

__all__ = ["calibration"]

_MEANING = (
    "Errors are put in bins by the spread that the committee predicts. Where the uncertainty is "
    "calibrated, the root mean square error of a bin is its root mean predicted variance: points lie on "
    "the dashed line. Above it the committee is too sure of itself. ENCE is the mean relative distance "
    "from the line over bins. The scale is the one factor on all spreads that fits best; what is said "
    "to be scaled used the factor of the other half of the structures (Levi et al., Sensors 22, 5540, "
    "2022). In the reliability diagram a level of 0.9 means the interval that should hold 90 of 100 "
    "errors."
)


def calibration(run: Run, report: Report) -> None:
    """A table, and by quantity the errors of bins and the reliability diagram; nothing for one model."""
    lines = list(run.results.get("calibration") or [])
    table = run.tables.get("calibration")
    if not lines or table is None:
        return
    columns = list(lines[0])
    rows = [[with_unit(line["quantity"]), *(line[name] for name in columns[1:])] for line in lines]
    report.table("How far the uncertainty can be trusted", columns, rows)
    report.text("What calibration means", _MEANING)
    for line in lines:
        _plots(line["quantity"], table, report)


def _plots(quantity: str, table: Columns, report: Report) -> None:
    own = [k for k, name in enumerate(table.cells["quantity"]) if name == quantity]
    bins = [k for k in own if table.cells["part"][k] == "bin"]
    levels = [k for k in own if table.cells["part"][k] == "coverage"]
    name, unit = label_of(quantity).lower(), split_unit(quantity)[1]
    predicted, rmse = table.numeric["predicted"][bins], table.numeric["rmse"][bins]
    ends = np.array([min(predicted.min(), rmse.min()), max(predicted.max(), rmse.max())])
    svg = line_plot(
        [Series("bins", predicted, rmse, style="points"), Series("calibrated", ends, ends, style="dashed")],
        f"predicted spread ({unit})",
        f"RMSE ({unit})",
        f"Error against predicted uncertainty: {name}",
        xscale="log",
        yscale="log",
    )
    report.plot(f"Error against predicted uncertainty: {name}", svg)
    nominal = table.numeric["level"][levels]
    series = [
        Series("as predicted", nominal, table.numeric["observed"][levels]),
        Series("scaled", nominal, table.numeric["observed_scaled"][levels]),
        Series("calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0]), style="dashed"),
    ]
    svg = line_plot(series, "nominal level", "share of errors within", f"Reliability: {name}")
    report.plot(f"Reliability: {name}", svg)

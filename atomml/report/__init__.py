"""Self-contained HTML reports and plots: one file per run that opens offline.

Importing this is cheap; matplotlib is imported when the first plot is drawn.
"""

from __future__ import annotations

from atomml.report.plots import Series, bar_plot, heat_map, histogram, line_plot, parity_plot
from atomml.report.render import render_run, run_report
from atomml.report.report import Report
from atomml.report.run_folder import Run, read_run

__all__ = [
    "Report",
    "Run",
    "Series",
    "bar_plot",
    "heat_map",
    "histogram",
    "line_plot",
    "parity_plot",
    "read_run",
    "render_run",
    "run_report",
]

"""Reports of crystals' properties: each with the picture that its property is usually shown as."""

from __future__ import annotations

import numpy as np

from atomml.report.plots import Series, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Run
from atomml.report.sections import MAX_ROWS

__all__ = ["eos"]

_NAMES = {"birch_murnaghan_eV": "Birch–Murnaghan", "vinet_eV": "Vinet"}


def eos(run: Run, report: Report) -> None:
    """Energy against volume with both fitted curves, pressure against volume, the points."""
    from atomml.report.recipes import show_structures

    points, curves = run.log, run.tables.get("curves")
    if "volume_A3" in points.numeric and "energy_eV" in points.numeric:
        volumes, lowest = points.numeric["volume_A3"], float(np.nanmin(points.numeric["energy_eV"]))
        series = []
        if curves is not None:
            grid = curves.numeric["volume_A3"]
            series = [
                Series(
                    label, grid, curves.numeric[name] - lowest, style="dashed" if "vinet" in name else "line"
                )
                for name, label in _NAMES.items()
                if name in curves.numeric
            ]
        series.append(Series("model", volumes, points.numeric["energy_eV"] - lowest, style="points"))
        report.plot(
            "Energy against volume",
            line_plot(series, "volume (Å³)", "energy above the lowest point (eV)", "Energy against volume"),
        )
        if "pressure_GPa" in points.numeric:
            pressure = Series("from the stress", volumes, points.numeric["pressure_GPa"], style="points")
            report.plot("Pressure against volume", line_plot([pressure], "volume (Å³)", "pressure (GPa)"))
    if len(points):
        report.table("Points", points.names, points.rows(MAX_ROWS), total=points.total)
    show_structures(run, report, "Structures")

"""Reports of ``vacancy`` and ``defect``: energies, convergence with size, concentrations, barriers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atomml.report.plots import Series, bar_plot, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN", "defects"]

SHOWN = ("barriers", "chemical_potentials", "defects")
"""Results that this report shows as tables."""

_LEAST = 1e-30  # part of the sites below which a concentration isn't drawn
_CURVES = 8


def defects(run: Run, report: Report) -> None:
    """Formation energies as bars and table, against size, concentrations against temperature, structures."""
    from atomml.report.recipes import show_structures

    table = run.tables.get("defects")
    if table is not None and len(table):
        svg = bar_plot(
            table.cells["defect"],
            table.numeric["formation_energy_eV"],
            "formation energy (eV)",
            "Formation energies",
        )
        report.plot("Formation energies", svg, str(run.results.get("convention") or ""))
        report.table("Defects", table.names, table.rows(MAX_ROWS), total=table.total)
    potentials = run.results.get("chemical_potentials")
    if isinstance(potentials, list) and potentials and isinstance(potentials[0], Mapping):
        names = list(potentials[0])
        rows: list[list[Any]] = [[one.get(name) for name in names] for one in potentials]
        report.table("Chemical potentials", names, rows)
    _convergence(run.log, report)
    _barriers(run, report)
    _concentrations(run.tables.get("concentration"), report)
    show_structures(run, report, "Supercells, without a defect and with each")


def _convergence(log: Columns, report: Report) -> None:
    """Formation energies against the size of the supercell, if there were several."""
    if not len(log) or len(set(log.cells["n_atoms"])) < 2:
        return
    sizes, energies = log.numeric["n_atoms"], log.numeric["formation_energy_eV"]
    series = []
    for name in list(dict.fromkeys(log.cells["defect"]))[:_CURVES]:
        here = np.array([one == name for one in log.cells["defect"]])
        series.append(Series(name, sizes[here], energies[here]))
        series.append(Series(f"{name}, each", sizes[here], energies[here], style="points"))
    if len(series) > 2:  # with several defects the lines alone can be told apart
        series = series[::2]
    svg = line_plot(series, "atoms of the supercell", "formation energy (eV)", "Convergence with size")
    report.plot("Convergence with size", svg)
    report.table("All supercells", log.names, log.rows(MAX_ROWS), total=log.total)


def _barriers(run: Run, report: Report) -> None:
    """Energies along the hops, and their barriers, if they were asked for."""
    paths, table = run.tables.get("paths"), run.tables.get("barriers")
    if paths is not None and len(paths):
        series = []
        for name in list(dict.fromkeys(paths.cells["defect"]))[:_CURVES]:
            here = np.array([one == name for one in paths.cells["defect"]])
            where, energy = paths.numeric["distance_A"][here], paths.numeric["above_start_eV"][here]
            series.append(Series(name, where, energy))
        svg = line_plot(series, "distance along the path (Å)", "energy above the start (eV)", "Hops")
        report.plot("Energy along the hops", svg)
    if table is not None and len(table):
        report.table("Barriers", table.names, table.rows(MAX_ROWS), total=table.total)


def _concentrations(table: Columns | None, report: Report) -> None:
    if table is None or not len(table):
        return
    temperatures = table.numeric["temperature_K"]
    names = [name for name in table.names if name != "temperature_K"][:_CURVES]
    series = []
    for name in names:
        values = table.numeric[name]
        seen = values >= _LEAST
        if seen.any():
            series.append(Series(name, temperatures[seen], values[seen]))
    if series:
        svg = line_plot(
            series, "temperature (K)", "part of the sites", "Equilibrium concentration", yscale="log"
        )
        report.plot("Equilibrium concentration", svg, "exp(-E/kT), without the entropy of vibrations.")

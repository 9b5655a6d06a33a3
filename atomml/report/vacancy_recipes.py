"""Reports of ``property vacancies`` and ``property vacancies-train``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atomml.report.plots import bar_plot, histogram, parity_plot
from atomml.report.report import Report
from atomml.report.run_folder import Run
from atomml.report.screen_recipe import screen
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN_SURVEY", "regression", "survey"]

SHOWN_SURVEY = ("chemical_potentials",)
"""Results of a survey that its report shows as a table."""

_ENERGY = "vacancy_formation_energy_eV"
_BARS = 30


def survey(run: Run, report: Report) -> None:
    """The energies as a histogram and by element, potentials, then what a screen shows."""
    results = run.tables.get("results")
    if results is not None and _ENERGY in results.numeric:
        energy = results.numeric[_ENERGY]
        known = np.isfinite(energy)
        if known.sum() > 1:
            label = "vacancy formation energy (eV)"
            report.plot("Vacancies", histogram(energy[known], label, "Vacancies"))
            names = np.array(results.cells["element"])[known]
            means = {name: float(energy[known][names == name].mean()) for name in sorted(set(names.tolist()))}
            if 1 < len(means) <= _BARS:
                svg = bar_plot(list(means), list(means.values()), f"mean {label}", "By element")
                report.plot("By element", svg)
    potentials = run.results.get("chemical_potentials")
    if isinstance(potentials, list) and potentials and isinstance(potentials[0], Mapping):
        names_of = list(potentials[0])
        rows: list[list[Any]] = [[one.get(name) for name in names_of] for one in potentials]
        report.table("Chemical potentials", names_of, rows)
    screen(run, report)


def regression(run: Run, report: Report) -> None:
    """Predicted against labelled, with elements and with compositions left out."""
    table = run.tables.get("predictions")
    if table is None or not len(table):
        return
    for column, title in (
        ("new_element_eV", "Elements left out"),
        ("new_crystal_eV", "Compositions left out"),
        ("new_site_eV", "Sites left out at random"),
    ):
        if column not in table.numeric:
            continue
        axes = ("label (eV)", "predicted (eV)")
        svg = parity_plot(table.numeric["label_eV"], table.numeric[column], *axes, title)
        report.plot(title, svg, "Each site by a fit that had not seen its group.")
    report.table("Sites", table.names, table.rows(MAX_ROWS), total=table.total)

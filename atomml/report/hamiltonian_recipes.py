"""Reports of predicted matrices: levels, orbitals, errors, and what the SCFs took."""

from __future__ import annotations

import numpy as np

from atomml.report.plots import Series, heat_map, histogram, line_plot
from atomml.report.quantities import label_of, with_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN_ERRORS", "SHOWN_SCF", "evaluation", "prediction", "scf"]

SHOWN_ERRORS = ("errors",)
"""Results of ``hamiltonian evaluate`` that its report shows as a table."""

SHOWN_SCF = ("rows",)
"""Results of ``hamiltonian scf`` that its report shows as a table."""

_MOST = 8
_AROUND_GAP = 20.0  # eV on either side


def prediction(run: Run, report: Report) -> None:
    """Levels around the gap, HOMO and LUMO above the molecule's plane, charges."""
    for name, table in sorted(run.tables.items())[: 4 * _MOST]:
        kind, _, number = name.partition("-")
        if kind == "levels" and "level_eV" in table.numeric:
            levels, occupied = table.numeric["level_eV"], table.numeric["occupation"] > 0
            middle = 0.5 * (levels[occupied].max() + levels[~occupied].min()) if (~occupied).any() else 0.0
            near = np.abs(levels - middle) < _AROUND_GAP
            series = [
                Series(label, table.numeric["orbital"][near & chosen], levels[near & chosen], style="points")
                for label, chosen in (("occupied", occupied), ("empty", ~occupied))
            ]
            report.plot(f"Levels of molecule {int(number)}", line_plot(series, "orbital", "level (eV)"))
        elif kind == "plane" and "homo" in table.numeric:
            _orbitals(int(number), table, report)
    for name in ("results", "charges"):
        rows = run.tables.get(name)
        if rows is not None:
            report.table(name.capitalize(), rows.names, rows.rows(MAX_ROWS), total=rows.total)


def _orbitals(number: int, table: Columns, report: Report) -> None:
    """HOMO and LUMO as heat maps."""
    numeric = table.numeric
    x, y = np.unique(numeric["x_A"]), np.unique(numeric["y_A"])
    if len(x) * len(y) != len(numeric["x_A"]):
        return
    for name in ("homo", "lumo"):
        values = numeric[name].reshape(len(x), len(y)).T
        extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
        title = f"{name.upper()} of molecule {number}"
        svg = heat_map(values, "Å along the plane", "Å across", "amplitude (bohr^-3/2)", title, extent=extent)
        report.plot(title, svg, "Half an ångström above the best plane through the atoms.")


def evaluation(run: Run, report: Report) -> None:
    """Means with intervals of each source, and how errors are spread over molecules."""
    errors = run.results.get("errors", {})
    names = list(next(iter(errors.values()), {}))
    rows = [[source, *(_cell(values.get(name)) for name in names)] for source, values in errors.items()]
    if rows:
        note = "Matrix, levels and energies in µEh, dipoles in D; mean (95% interval) over molecules."
        report.table("Mean errors", ["", *names], rows)
        report.text("What was compared", note)
    table = run.tables.get("errors")
    if table is None:
        return
    for name in ("prediction_hamiltonian_uEh", "prediction_homo_uEh", "prediction_lumo_uEh"):
        if name in table.numeric and len(table) > 2:
            report.plot(label_of(name), histogram(table.numeric[name], with_unit(name)))
    report.table("Molecules", table.names, table.rows(MAX_ROWS), total=table.total)


def _cell(values: object) -> str:
    if not isinstance(values, list):
        return ""
    mean, low, high = values
    return f"{mean:.4g} ({low:.4g} to {high:.4g})"


def scf(run: Run, report: Report) -> None:
    """Cycles and Fock builds from both guesses, molecule by molecule."""
    table = run.tables.get("results")
    if table is None:
        return
    numeric = table.numeric
    if "default_cycles" in numeric and len(table) > 1:
        number = np.arange(len(table), dtype=np.float64)
        for ours, theirs, label in (
            ("cycles", "default_cycles", "SCF cycles"),
            ("fock_builds", "default_builds", "Fock builds"),
        ):
            series = [
                Series("from the prediction", number, numeric[ours], style="points"),
                Series("from PySCF's guess", number, numeric[theirs], style="points"),
            ]
            report.plot(label, line_plot(series, "molecule", label))
    report.table("Molecules", table.names, table.rows(MAX_ROWS), total=table.total)

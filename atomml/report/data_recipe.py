"""The report of ``data report``: findings first, then what the set holds and how its labels are spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atomml.report.plots import Series, bar_plot, histogram, line_plot, parity_plot
from atomml.report.quantities import with_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["data_report"]

_MOST_BARS = 40
_HISTOGRAMS = {
    "residual_eV_per_atom": ("Energy against composition", "energy per atom less that of a linear model"),
    "rms_force_eV_per_A": ("Forces", "root mean square force of each entry"),
    "max_force_eV_per_A": ("Largest forces", "largest force on an atom of each entry"),
    "pressure_GPa": ("Pressure", "positive under compression"),
    "n_atoms": ("Sizes", "atoms of each entry"),
    "volume_A3_per_atom": ("Volumes", "volume per atom of each crystal"),
    "closest_of_covalent_radii": ("Shortest distances", "over the sum of the covalent radii"),
}


def data_report(run: Run, report: Report) -> None:
    """Findings, composition, histograms, the linear model's parity, and work against change of energy."""
    findings = run.tables.get("findings")
    if findings is not None and len(findings):
        report.table("Findings", findings.names, findings.rows(MAX_ROWS))
    else:
        report.text("Findings", "Nothing was found that needs a look.")
    if (elements := run.tables.get("elements")) is not None:
        _elements(elements, report)
    if (entries := run.tables.get("entries")) is not None:
        _entries(entries, report)
    if (pairs := run.tables.get("pairs")) is not None:
        _pairs(pairs, report)
    for title, name in (("Elements", "elements"), ("Formulas", "formulas")):
        if (table := run.tables.get(name)) is not None:
            report.table(title, table.names, table.rows(MAX_ROWS), total=table.total)


def _elements(table: Columns, report: Report) -> None:
    atoms = table.numeric.get("atoms_in_all")
    if atoms is None:
        return
    order = np.argsort(-atoms, kind="stable")[:_MOST_BARS]
    names = [table.cells["element"][k] for k in order]
    more = f"The {_MOST_BARS} most frequent of {len(table)} elements." if len(table) > _MOST_BARS else ""
    report.plot(
        "Composition", bar_plot(names, atoms[order], "atoms in the set", "Atoms of each element"), more
    )


def _entries(table: Columns, report: Report) -> None:
    part = f"{len(table):,} entries, evenly spaced." if len(table) >= MAX_ROWS else ""
    for name, (title, caption) in _HISTOGRAMS.items():
        values = table.numeric.get(name)
        if values is not None and np.isfinite(values).sum() > 1 and _varies(values):
            report.plot(title, histogram(values, with_unit(name), title), f"{caption}. {part}".strip())
    fitted, energy = table.numeric.get("fitted_energy_eV_per_atom"), table.numeric.get("energy_eV_per_atom")
    if fitted is not None and energy is not None and _varies(fitted):
        svg = parity_plot(energy, fitted, "energy (eV/atom)", "linear model of the composition (eV/atom)")
        report.plot("Linear model of the composition", svg, "One constant per element, fitted robustly.")


def _pairs(table: Columns, report: Report) -> None:
    change, work = table.numeric.get("energy_change_eV"), table.numeric.get("work_eV")
    if change is None or work is None or not len(change):
        return
    reach = float(np.nanmax(np.abs(change)))
    diagonal = np.array([-reach, reach])
    series = [
        Series("pairs of near-by structures", change, work, style="points"),
        Series("where forces and stress do what the energy says", diagonal, diagonal, style="dashed"),
    ]
    svg = line_plot(
        series, "change of the energy, as it stands (eV)", "work, as it stands (eV)", "Work against energy"
    )
    report.plot(
        "Forces and stress against energies", svg, "By the trapezoidal rule; off the line at large steps."
    )


def _varies(values: NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(np.ptp(finite) > 1e-9 * max(float(np.abs(finite).max()), 1e-12))

"""Report of ``formation``: the convex hull of each system of two or three elements, and the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.report.plots import Series, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN", "formation"]

SHOWN = ("references",)
"""Results of ``formation`` that its report shows as a table."""

_SYSTEMS = 6


def formation(run: Run, report: Report) -> None:
    """The structures' energies, the hulls, the references, the structures themselves."""
    from atomml.report.recipes import show_structures

    results, hull = run.tables.get("results"), run.tables.get("hull")
    if results is not None and len(results):
        report.table("Structures", results.names, results.rows(MAX_ROWS), total=results.total)
    if hull is not None and len(hull):
        for system in list(dict.fromkeys(hull.cells["system"]))[:_SYSTEMS]:
            _draw(system, hull, run.tables.get("tie_lines"), report)
        report.table("Phases", hull.names, hull.rows(MAX_ROWS), total=hull.total)
    references = run.results.get("references")
    if isinstance(references, list) and references and isinstance(references[0], Mapping):
        names = list(references[0])
        rows: list[list[Any]] = [[one.get(name) for name in names] for one in references]
        report.table("References", names, rows)
    if len(run.log):
        report.table("Energies", run.log.names, run.log.rows(MAX_ROWS), total=run.log.total)
    show_structures(run, report, "Relaxed structures")


def _draw(system: str, hull: Columns, lines: Columns | None, report: Report) -> None:
    elements = system.split("-")
    here = np.array([name == system for name in hull.cells["system"]])
    stable = here & np.array([word == "True" for word in hull.cells["stable"]])
    if len(elements) == 2:
        x, y = hull.numeric["fraction_2"], hull.numeric["formation_energy_per_atom_eV"]
        order = np.argsort(x[stable])
        series = [
            Series("hull", x[stable][order], y[stable][order]),
            Series("on the hull", x[stable], y[stable], style="points"),
            Series("above it", x[here & ~stable], y[here & ~stable], style="points"),
        ]
        svg = line_plot(series, f"part of {elements[1]}", "formation energy (eV/atom)", f"Hull of {system}")
        report.plot(f"Convex hull of {system}", svg)
    else:
        _triangle(elements, hull, here, stable, lines, report)


def _triangle(
    elements: list[str],
    hull: Columns,
    here: NDArray[np.bool_],
    stable: NDArray[np.bool_],
    lines: Columns | None,
    report: Report,
) -> None:
    system = "-".join(elements)
    second, third = hull.numeric["fraction_2"], hull.numeric["fraction_3"]
    x, y = second + third / 2, third * np.sqrt(3) / 2
    series = []
    if lines is not None and len(lines):
        kept = np.array([name == system for name in lines.cells["system"]])
        ends = [(lines.numeric[f"{end}_2"][kept], lines.numeric[f"{end}_3"][kept]) for end in ("from", "to")]
        gaps = np.full(int(kept.sum()), np.nan)
        across = np.column_stack([*(b + c / 2 for b, c in ends), gaps]).ravel()
        up = np.column_stack([*(c * np.sqrt(3) / 2 for _, c in ends), gaps]).ravel()
        series.append(Series("tie lines", across, up))
    series += [
        Series("on the hull", x[stable], y[stable], style="points"),
        Series("above it", x[here & ~stable], y[here & ~stable], style="points"),
    ]
    corners = f"{elements[0]} lies left, {elements[1]} right, {elements[2]} at the top."
    svg = line_plot(series, f"{elements[0]} to {elements[1]}", f"towards {elements[2]}", f"Hull of {system}")
    report.plot(f"Convex hull of {system}", svg, corners)

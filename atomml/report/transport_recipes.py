"""Reports of how atoms move: paths and barriers, diffusion, distributions over distance and frequency."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from atomml.report.plots import Series, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["diffusion", "neb", "rdf", "vdos"]

_CURVES = 8


def diffusion(run: Run, report: Report) -> None:
    """Mean squared displacements against time, D against 1/T with the fitted line, the temperatures."""
    element = str(run.results.get("element", ""))
    curves = []
    for name, table in sorted(run.tables.items()):
        column = f"{element}_A2"
        if name.startswith("msd-") and column in table.numeric:
            label = name.removeprefix("msd-").removesuffix("K") + " K"
            curves.append(Series(label, table.numeric["time_ps"], table.numeric[column]))
    if curves:
        title = f"Mean squared displacement of {element}"
        report.plot(title, line_plot(curves[:_CURVES], "time (ps)", "MSD (Å²)", title))
        positive = [
            Series(one.label, np.asarray(one.x)[1:], np.asarray(one.y)[1:]) for one in curves[:_CURVES]
        ]
        report.plot(
            f"{title}, logarithmic",
            line_plot(positive, "time (ps)", "MSD (Å²)", title, xscale="log", yscale="log"),
            "Diffusion has the slope 1, free flight 2, rattling 0.",
        )
    _arrhenius(run, report)
    for name, title in (("results", "Temperatures"), ("elements", "All elements")):
        rows = run.tables.get(name)
        if rows is not None:
            report.table(title, rows.names, rows.rows(MAX_ROWS), total=rows.total)


def _arrhenius(run: Run, report: Report) -> None:
    """D over 1000/T, as points with 1.96 standard errors, and the fit."""
    rows = run.tables.get("results")
    if rows is None or len(rows) < 2:
        return
    value, error = rows.numeric["diffusivity_cm2_per_s"], rows.numeric["error_cm2_per_s"]
    good = value > 0
    inverse = 1000 / rows.numeric["temperature_K"]
    logs = np.log10(np.where(good, value, 1.0))
    spread = 1.96 * error / np.where(good, value, 1.0) / np.log(10)
    series = [Series("runs", inverse[good], logs[good], error=spread[good], style="points")]
    energy, prefactor = run.results.get("activation_energy_eV"), run.results.get("prefactor_cm2_per_s")
    if isinstance(energy, float) and isinstance(prefactor, float):
        line = np.log10(prefactor) - energy * inverse / (8.617333262e-2 * np.log(10))
        series.append(Series(f"activation energy {energy:.3f} eV", inverse, line))
    title = "Arrhenius plot"
    report.plot(title, line_plot(series, "1000 / temperature (1/K)", "log10 of D (cm²/s)", title))


def neb(run: Run, report: Report) -> None:
    """The energy along the path with its images, the path itself, and how it converged."""
    from atomml.report.recipes import show_structures

    images, curve = run.tables.get("path"), run.tables.get("curve")
    if images is not None and curve is not None:
        where, along = images.numeric["distance_A"], curve.numeric["distance_A"]
        series = [
            Series("through energies and forces", along, curve.numeric["above_start_eV"]),
            Series("integral of the force", along, curve.numeric["from_forces_eV"], style="dashed"),
            Series("images", where, images.numeric["above_start_eV"], style="points"),
        ]
        svg = line_plot(
            series, "distance along the path (Å)", "energy above the start (eV)", "Energy along the path"
        )
        report.plot(
            "Energy along the path", svg, "Where the dashed curve leaves the points, take more images."
        )
    show_structures(run, report, "Path")
    if images is not None:
        report.table("Images", images.names, images.rows(MAX_ROWS), total=images.total)
    if len(run.log) > 1:
        force = Series("largest force", run.log.numeric["step"], run.log.numeric["max_force_eV_per_A"])
        barrier = Series("barrier", run.log.numeric["step"], run.log.numeric["barrier_eV"])
        title = "Convergence of the force"
        report.plot(title, line_plot([force], "step", "largest force (eV/Å)", title, yscale="log"))
        report.plot("Convergence of the barrier", line_plot([barrier], "step", "barrier (eV)"))


def rdf(run: Run, report: Report) -> None:
    """The distributions of all pairs, the neighbours within a distance, and a line for each pair."""
    curves, neighbours, pairs = (run.tables.get(name) for name in ("rdf", "neighbours", "pairs"))
    if curves is not None:
        title = "Radial distribution functions"
        series = _columns(curves, "r_A", lambda name: name.removeprefix("g_"))
        report.plot(title, line_plot(series, "distance (Å)", "g(r)", title), _said_of(curves))
    if neighbours is not None:
        title = "Neighbours within a distance"
        series = _columns(neighbours, "r_A", lambda name: name)
        caption = "A-B: atoms of B within the distance of an atom of A."
        report.plot(title, line_plot(series, "distance (Å)", "neighbours", title), caption)
    if pairs is not None:
        report.table("Pairs", pairs.names, pairs.rows(MAX_ROWS), total=pairs.total)


def vdos(run: Run, report: Report) -> None:
    """The density of states by element, and the autocorrelation behind it."""
    states, correlation = run.tables.get("vdos"), run.tables.get("autocorrelation")
    if states is not None:
        title = "Vibrational density of states"
        series = _columns(states, "frequency_THz", lambda name: name.removesuffix("_states_per_THz"))
        report.plot(title, line_plot(series, "frequency (THz)", "states per THz", title), _said_of(states))
    if correlation is not None:
        title = "Velocity autocorrelation"
        series = _columns(correlation, "time_fs", lambda name: "velocities")
        report.plot(title, line_plot(series, "time (fs)", "mass-weighted, 1 at the start", title))


def _columns(table: Columns, first: str, label: Callable[[str], str]) -> list[Series]:
    """The first columns of a table over one of them."""
    names = [name for name in table.names if name != first][:_CURVES]
    return [Series(label(name), table.numeric[first], table.numeric[name]) for name in names]


def _said_of(table: Columns) -> str:
    n_curves = len(table.names) - 1
    return f"{_CURVES} of {n_curves} curves." if n_curves > _CURVES else ""

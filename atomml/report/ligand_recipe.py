"""What the report of ``ligand-strain`` shows: ranking, histogram, overlays, convergence, torsions."""

from __future__ import annotations

from typing import Any

from atomml.report.plots import Series, histogram, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_FRAMES, MAX_ROWS
from atomml.report.trajectory import sample_extxyz

__all__ = ["ligand_strain"]

_CURVES = 8
_STRAIN = "strain_kcal_per_mol"


def ligand_strain(run: Run, report: Report) -> None:
    """The ranked table, strains against the threshold, pose and minimum in 3D, the search's convergence."""
    results = run.tables.get("results")
    if results is None or not len(results):
        return
    names = [name for name in results.names if any(results.cells[name])]
    rows = results.rows(len(results), names)
    place = names.index("rank") if "rank" in names else None
    if place is not None:
        rows.sort(key=lambda row: (row[place] is None, row[place] or 0))
    _strains(run, results, report)
    _overlays(run, results, report)
    _convergence(run.tables.get("convergence"), report)
    report.table("Poses, the least strained first", names, rows[:MAX_ROWS], total=results.total)
    torsions = run.tables.get("torsions")
    if torsions is not None and len(torsions):
        report.table("Torsions", torsions.names, torsions.rows(MAX_ROWS), total=torsions.total)


def _strains(run: Run, results: Columns, report: Report) -> None:
    threshold: Any = run.results.get("threshold_kcal_per_mol")
    if _STRAIN not in results.numeric or len(results) < 2:
        return
    caption = "No threshold was given: one belongs to its model, and none is calibrated for this one."
    if threshold is not None:
        caption = (
            f"The dashed line is the threshold, {float(threshold):g} kcal/mol, which holds for this model."
        )
    svg = histogram(results.numeric[_STRAIN], "strain (kcal/mol)", "Strain of the poses", mark=threshold)
    report.plot("Strain", svg, caption)


def _overlays(run: Run, results: Columns, report: Report) -> None:
    file = run.folder / "overlays.extxyz"
    sample = sample_extxyz(file, MAX_FRAMES) if file.exists() else None
    if sample is None or not sample.frames:
        return
    rows = [int(atoms.info["row"]) for atoms in sample.frames]
    values = {
        "row": [float(row) for row in rows],
        _STRAIN: [float(atoms.info[_STRAIN]) for atoms in sample.frames],
    }
    title = "Pose (grey carbon) and unbound minimum (orange carbon)"
    report.viewer(title, sample.frames, values, indices=rows, total=sample.total)


def _convergence(curves: Columns | None, report: Report) -> None:
    """The strain that a number of conformers gives on average, of the first poses."""
    if curves is None or not len(curves):
        return
    series = []
    for row in list(dict.fromkeys(curves.cells["row"]))[:_CURVES]:
        here = [place for place, one in enumerate(curves.cells["row"]) if one == row]
        label = curves.cells["id"][here[0]]
        series.append(Series(label, curves.numeric["n_conformers"][here], curves.numeric[_STRAIN][here]))
    svg = line_plot(series, "conformers", "strain (kcal/mol)", "Convergence of the search", xscale="log")
    caption = "The mean over all choices of so many of the conformers; flat at the right is converged."
    report.plot("Convergence with the number of conformers", svg, caption)

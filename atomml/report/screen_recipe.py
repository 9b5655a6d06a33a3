"""What the report of a screen shows: the rows to look through, their structures, the table."""

from __future__ import annotations

from typing import Any

from atomml.report.explorer import Explorer
from atomml.report.quantities import split_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS
from atomml.report.trajectory import Sample, sample_extxyz

__all__ = ["MAX_SCREEN_BYTES", "screen"]

MAX_SCREEN_BYTES = 12_000_000
"""The page's limit: 10,000 rows of twenty columns with their structures."""

_TEXTS = ("input", "id", "formula", "warnings", "error")
_NOT_RESULTS = frozenset({"frame", "n_atoms", "n_steps"})


def screen(run: Run, report: Report) -> None:
    """The rows to look through, their structures, the selected rows, all rows."""
    report.allow(MAX_SCREEN_BYTES)
    results = run.tables.get("results")
    if results is None or not len(results):
        return
    names = [name for name in results.names if any(results.cells[name])]
    rows = results.rows(MAX_ROWS, names)
    file = run.folder / "structures.extxyz"
    sample = sample_extxyz(file, MAX_ROWS) if file.exists() else Sample([], [], 0)
    of_frame = [int(atoms.info.get("row", -1)) for atoms in sample.frames]
    if any(name in results.numeric for name in names):
        report.add(_explorer(results, names, rows, of_frame))
    if sample.frames:
        report.viewer("Structures", sample.frames, indices=of_frame, total=sample.total, most=MAX_ROWS)
    selected = run.tables.get("selected")
    if selected is not None and len(selected):
        kept = [name for name in selected.names if any(selected.cells[name])]
        report.table("Selected rows", kept, selected.rows(MAX_ROWS, kept), total=selected.total)
    numbered = [[number, *row] for number, row in enumerate(rows)]
    report.table("Rows", ["row", *names], numbered, total=results.total)


def _explorer(results: Columns, names: list[str], rows: list[list[Any]], of_frame: list[int]) -> Explorer:
    """Its numbers, and the texts that say what a row is."""
    shown = [name for name in names if name in results.numeric or name in _TEXTS]
    places = [names.index(name) for name in shown]
    frames = [-1] * len(rows)
    for frame, row in enumerate(of_frame):
        if 0 <= row < len(rows):
            frames[row] = frame
    folders = [row[names.index("folder")] for row in rows] if "folder" in names else []
    results_first = [n for n, name in enumerate(shown) if _is_result(name, results)]
    chosen = [[row[place] for place in places] for row in rows]
    return Explorer("Explorer", shown, chosen, frames, folders, results_first[:2])


def _is_result(name: str, results: Columns) -> bool:
    """Whether a column is worth a plot before anybody chooses; a cell's energy shows its size alone."""
    number = name in results.numeric and name not in _NOT_RESULTS
    return number and name != "energy_eV" and bool(split_unit(name)[1])

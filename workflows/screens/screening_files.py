"""What a screen leaves behind: ``results.csv``, ``results.parquet``, the selected rows, the structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from atomml.errors import OptionError
from atomml.files import write_atomic_with, write_table
from atomml.jobs import Outcome
from atomml.run import RunFolder
from atomml.workflows.row_selection import RowFilter, column_named, sorted_rows
from atomml.workflows.screens.screening import ScreenOptions, ScreenResult
from atomml.workflows.screens.screening_entries import Entry

__all__ = ["fill_result", "write_files"]

AnyResult = TypeVar("AnyResult", bound=ScreenResult)

_FIRST = ("input", "frame", "id", "formula", "n_atoms")
_LAST = ("converged", "warnings", "folder", "error")
_SHOWN_WARNINGS = 20


def fill_result(
    entries: Sequence[Entry], outcomes: Mapping[str, Outcome], options: ScreenOptions, result: AnyResult
) -> AnyResult:
    """Rows of every structure into an empty result, counted; those that the options select, ranked.

    A condition or a ranking that names a column that there is not selects nothing, with a warning.
    """
    result.n_structures = len(entries)
    for entry in entries:
        outcome = outcomes[entry.item]
        row = dict(entry.head) | ((outcome.result or {}).get("row") or {}) | {"error": outcome.error}
        result.rows.append(row)
        result.n_done += outcome.error is None
        result.n_waiting += outcome.error is not None and outcome.attempt == 0
        result.n_failed += outcome.error is not None and outcome.attempt > 0
        result.n_not_converged += outcome.error is None and not row.get("converged", True)
    columns = _columns(result.rows)
    result.rows = [{name: row.get(name) for name in columns} for row in result.rows]
    result.converged = result.n_done == result.n_structures and result.n_not_converged == 0
    try:
        result.selected = _selected(result.rows, columns, options)
    except OptionError as error:  # a column's name is known when the work is done, which must not be lost
        result.converged = False
        result.warnings.append(f"{error} Nothing is selected: say it anew, with --resume.")
    result.n_selected = len(result.selected)
    return result


def _selected(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], options: ScreenOptions
) -> list[dict[str, Any]]:
    """Rows with a result for which the condition holds, ranked."""
    done = [row for row in rows if row["error"] is None]
    if options.where is not None:
        holds = RowFilter(options.where, columns)
        done = [row for row in done if holds(row)]
    if options.sort is not None:
        done = sorted_rows(done, column_named(options.sort, columns), options.descending)
    return done


def write_files(
    run: RunFolder, entries: Sequence[Entry], outcomes: Mapping[str, Outcome], result: ScreenResult
) -> None:
    """Write the tables and the structures that the workflow ended with."""
    for warning in result.warnings:
        run.warn(warning)
    columns = _columns(result.rows)
    write_table(run.file("results.csv"), result.rows, columns)
    _write_parquet(run, result.rows, columns)
    if run.config.get("where") or run.config.get("sort"):
        place = {id(row): number for number, row in enumerate(result.rows)}
        rows = [{"row": place[id(row)], **row} for row in result.selected]
        write_table(run.file("selected.csv"), rows, ["row", *columns])
    else:
        run.file("selected.csv").unlink(missing_ok=True)
    _write_structures(run, entries, outcomes, result.rows)
    failed = [row for row in result.rows if row["error"] is not None]
    for row in failed[:_SHOWN_WARNINGS]:
        known = str(row["error"]).startswith(str(row["input"]))
        run.warn(str(row["error"]) if known else f"{row['input']}, frame {row['frame']}: {row['error']}")
    if len(failed) > _SHOWN_WARNINGS:
        run.warn(f"{len(failed)} structures have no result; their rows in results.csv say why.")
    if result.n_not_converged:
        run.warn(f"{result.n_not_converged} structures are not converged: see the column 'converged'.")


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a row came from, the results in the order in which they first occur, how it ended."""
    names = dict.fromkeys(name for row in rows for name in row)
    first = [name for name in _FIRST if name in names]
    last = [name for name in _LAST if name in names]
    return [*first, *(name for name in names if name not in _FIRST + _LAST), *last]


def _write_parquet(run: RunFolder, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """The same table with types; only where pyarrow (extra 'parquet') is installed."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        run.event("note", message="results.parquet needs the extra 'parquet': pip install 'atomml[parquet]'.")
        return
    arrays = [pyarrow.array(_one_kind([row.get(name) for row in rows])) for name in columns]
    table = pyarrow.table(dict(zip(columns, arrays, strict=True)))
    write_atomic_with(run.file("results.parquet"), lambda stream: parquet.write_table(table, stream))


def _one_kind(values: list[Any]) -> list[Any]:
    """Values of one type: floats where some are, texts where they differ."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    kind: Any = float if kinds <= {int, float} else str
    return [None if value is None else kind(value) for value in values]


def _write_structures(
    run: RunFolder,
    entries: Sequence[Entry],
    outcomes: Mapping[str, Outcome],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """``structures.extxyz``: a frame for each row with a structure; ``row`` (from 0) says of which."""
    from atomml.data.structures import extxyz_frame
    from atomml.workflows.screens.screening_work import atoms_of

    def write(stream: Any) -> None:
        """Every row with a structure, as a frame."""
        for number, entry in enumerate(entries):
            found = outcomes[entry.item].result
            if found is None or "structure" not in found:
                continue
            atoms = atoms_of(found["structure"])
            atoms.info["row"] = number
            if rows[number].get("id") is not None:
                atoms.info["id"] = rows[number]["id"]
            energy = rows[number].get("energy_eV")
            results = {} if energy is None else {"energy": energy}
            stream.write(extxyz_frame(atoms, results).encode())

    write_atomic_with(run.file("structures.extxyz"), write)

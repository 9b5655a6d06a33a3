"""From a run folder to its ``report.html``: what every command's report has, and the recipe's part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomml.report.quantities import format_value, label_of, split_unit, with_error
from atomml.report.recipes import RECIPES, SHOWN_BY_RECIPE, general
from atomml.report.report import Report
from atomml.report.run_folder import Run, read_run

__all__ = ["render_run", "run_report"]

_TITLES = {
    "compare": "Comparison of models",
    "defect": "Point defects",
    "evaluate": "Evaluation",
    "data report": "Data set",
    "finetune": "Fine-tuning",
    "formation": "Formation energies",
    "ligand-strain": "Ligand strain",
    "md": "Molecular dynamics",
    "predict": "Prediction",
    "relax": "Relaxation",
    "screen": "Screen",
    "train": "Training",
    "vacancy": "Vacancies",
}
_OUTCOMES = {
    "data report": ("no errors found", "errors found"),
    "evaluate": ("finished", "some structures failed"),
    "finetune": ("finished", "not converged"),
    "ligand-strain": ("finished", "some failed or are not converged"),
    "md": ("finished", "not converged"),
    "predict": ("finished", "not converged"),
    "screen": ("finished", "some failed or are not converged"),
    "train": ("finished", "not converged"),
}
_N_TILES = 10


def render_run(folder: Path) -> None:
    """Write ``report.html`` into a run folder from the files that it holds, finished or not.

    Raises:
        FileFormatError: It is no run folder, or one of its files is damaged.
    """
    run_report(folder).write(Path(folder) / "report.html")


def run_report(folder: Path) -> Report:
    """The report of a run folder, for a workflow that adds sections before it writes it."""
    run = read_run(folder)
    report = Report(_title(run), _subtitle(run))
    _status(run, report)
    for warning in run.summary.get("warnings") or []:
        report.warning(str(warning))
    rest = {
        key: value
        for key, value in _numbers(run, report).items()
        if key not in SHOWN_BY_RECIPE.get(run.command, ())
    }
    RECIPES.get(run.command, general)(run, report)
    _rest(rest, report)
    _provenance(run, report)
    return report


def _title(run: Run) -> str:
    name = _TITLES.get(run.command, run.command.replace("-", " ").capitalize())
    sample = run.structures
    formulas = {atoms.get_chemical_formula() for atoms in sample.frames} if sample else set()
    if len(formulas) == 1:
        return f"{name} of {formulas.pop()}"
    return f"{name} of {sample.total:,} structures" if sample else name


def _subtitle(run: Run) -> str:
    model = run.summary.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    parts = [str(run.config[key]) for key in ("ensemble", "workflow") if run.config.get(key)]
    if run.config.get("cell"):
        parts.append(f"cell: {run.config['cell']}")
    if name:
        parts.append(f"model {name}")
    if run.summary.get("version"):
        parts.append(f"atomml {run.summary['version']}")
    return " · ".join(parts)


def _status(run: Run, report: Report) -> None:
    if not run.summary:
        report.status("not finished", False)
    elif "converged" in run.summary:
        good = bool(run.summary["converged"])
        done, not_done = _OUTCOMES.get(run.command, ("converged", "not converged"))
        report.status(done if good else not_done, good)


def _numbers(run: Run, report: Report) -> dict[str, Any]:
    """Tiles of the first results that are numbers; the other results are returned."""
    units = run.summary.get("units")
    known = units if isinstance(units, Mapping) else {}
    errors = {key: name for key in run.results if (name := _error_of(key, run)) is not None}
    tiles: list[tuple[str, Any, str]] = []
    rest: dict[str, Any] = {}
    for key, value in run.results.items():
        if key in errors.values() or value is None:
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool) and len(tiles) < _N_TILES:
            shown = with_error(float(value), run.results[errors[key]]) if key in errors else value
            tiles.append((label_of(key), shown, split_unit(key)[1] or _typeset(str(known.get(key, "")))))
        else:
            rest[key] = value
    if tiles:
        report.summary(tiles)
    return rest


def _error_of(key: str, run: Run) -> str | None:
    """The key of the standard error of the number under ``key`` (``temperature_error_K``), if it is known."""
    stem = split_unit(key)[0]
    name = f"{stem}_error{key[len(stem) :]}"
    both = (run.results[key], run.results.get(name))
    return name if all(isinstance(one, float) for one in both) else None


def _rest(rest: Mapping[str, Any], report: Report) -> None:
    """Results that are no tiles: a list of records as a table, what is left as names and values."""
    simple: dict[str, Any] = {}
    units: dict[str, str] = {}
    for key, value in rest.items():
        if not _records(label_of(key), value, report):
            label, unit = label_of(key), split_unit(key)[1]
            name = key if label in simple else label
            simple[name] = value if isinstance(value, Mapping) else format_value(value, unit)
            units[name] = unit
    if simple:
        report.settings(simple, title="Further results", units=units)


def _provenance(run: Run, report: Report) -> None:
    settings = {key: value for key, value in run.config.items() if key not in ("command", "version")}
    if settings:
        report.settings(settings, units=run.config_units)
    model = run.summary.get("model")
    if isinstance(model, Mapping):
        report.model_card(model)
    _records("Inputs", run.summary.get("inputs"), report)
    timing = run.summary.get("timing")
    if isinstance(timing, Mapping) and timing:
        rows = [(label_of(key), value, split_unit(key)[1] or "s") for key, value in timing.items()]
        report.summary(rows, title="Timing")


def _records(title: str, value: Any, report: Report) -> bool:
    """A list of records as a table without the columns that are empty throughout; False for anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        return False
    names = dict.fromkeys(str(name) for one in value for name in one)
    columns = [name for name in names if any(one.get(name) is not None for one in value)]
    if columns:
        report.table(title, columns, [[_scalar(one.get(name)) for name in columns] for one in value])
    return True


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _typeset(unit: str) -> str:
    return unit.replace("^2", "²").replace("^3", "³")

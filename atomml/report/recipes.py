"""What the report of each command shows between its numbers and its settings.

A recipe takes the run and the report and adds plots, viewers and tables. A command without
one gets :func:`general`, which plots the log and the other CSV files by unit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from atomml.report import (
    crystal_change_recipes,
    crystal_recipes,
    defect_recipes,
    formation_recipe,
    hamiltonian_recipes,
    learning_recipe,
    ligand_recipe,
    property_recipes,
    transport_recipes,
    vacancy_recipes,
)
from atomml.report.data_recipe import data_report
from atomml.report.evaluation_recipe import SHOWN_RESULTS, evaluate
from atomml.report.plots import Scale, Series, histogram, line_plot
from atomml.report.quantities import label_of, split_unit, with_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.screen_recipe import screen
from atomml.report.sections import MAX_ROWS
from atomml.report.training import training

__all__ = ["RECIPES", "SHOWN_BY_RECIPE", "Recipe", "evaluate", "general", "md", "predict", "relax"]

Recipe = Callable[[Run, Report], None]

_CURVES = 6
_MIN_SPREAD = 10
_LONG_RUN_FS = 10_000.0
_COUNTERS = frozenset({"step", "frame", "stage", "segment"})
_QUANTITY = {
    "Å": "Lengths",
    "Å²": "Mean squared displacement",
    "Å³": "Volume",
    "GPa": "Pressure",
    "K": "Temperature",
    "eV": "Energy",
    "eV/Å": "Forces",
    "eV/atom": "Energy per atom",
    "°": "Angles",
}


def general(run: Run, report: Report) -> None:
    """Whatever the folder holds: its structures, its log by unit, its other CSV files."""
    show_structures(run, report, "Structures")
    _plot_log(run, report)
    _other_tables(run, report)


def md(run: Run, report: Report) -> None:
    """The trajectory; temperature, energies, drift, pressure and the rest of the log; RDF."""
    show_structures(run, report, "Trajectory")
    energies = [name for name in run.log.numeric if split_unit(name)[1] in ("eV", "eV/atom")]
    _plot_log(run, report, only_units=("K",))
    _energies(run, report, energies)
    _drift(run, report, energies)
    _plot_log(run, report, skip_units=("K", "eV", "eV/atom"))
    _other_tables(run, report)
    _averages(run, report)


def relax(run: Run, report: Report) -> None:
    """The path of the relaxation, its energy and forces by step, the cell before and after."""
    show_structures(run, report, "Path of the relaxation")
    forces = [name for name in run.log.numeric if split_unit(name)[1] == "eV/Å"]
    energies = [name for name in run.log.numeric if split_unit(name)[1] in ("eV", "eV/atom")]
    for name in energies[:1]:
        values = run.log.numeric[name]
        _log_plot(
            run,
            report,
            "Energy above the final one",
            {label_of(name): values - values[-1]},
            split_unit(name)[1],
        )
    series = {label_of(name): run.log.numeric[name] for name in forces}
    target = run.config.get("fmax")
    if forces and isinstance(target, (int, float)):
        series["asked for"] = np.full(len(run.log), float(target))
    _log_plot(run, report, "Forces", series, "eV/Å", "log")
    _plot_log(run, report, skip_units=("eV", "eV/atom", "eV/Å"))
    _before_and_after(run, report)
    _other_tables(run, report)


def predict(run: Run, report: Report) -> None:
    """The table of predictions, how they are spread, and the structures."""
    _other_tables(run, report)
    for table in run.tables.values():
        spread = [
            name for name, values in table.numeric.items() if split_unit(name)[1] and not _constant(values)
        ]
        if any("per_atom" in name for name in spread):  # the energy of cells of unlike size says nothing
            spread = [name for name in spread if name != "energy_eV"]
        for name in spread[:4] if len(table) >= _MIN_SPREAD else ():
            part = f"The first {len(table):,} of {table.total:,} rows." if len(table) < table.total else ""
            report.plot(label_of(name), histogram(table.numeric[name], with_unit(name)), part)
    _plot_log(run, report)
    show_structures(run, report, "Structures")


RECIPES: dict[str, Recipe] = {
    "data report": data_report,
    "defect": defect_recipes.defects,
    "diffusion": transport_recipes.diffusion,
    "elastic": crystal_recipes.elastic,
    "eos": crystal_recipes.eos,
    "evaluate": evaluate,
    "finetune": training,
    "formation": formation_recipe.formation,
    "hamiltonian evaluate": hamiltonian_recipes.evaluation,
    "hamiltonian predict": hamiltonian_recipes.prediction,
    "hamiltonian scf": hamiltonian_recipes.scf,
    "learn": learning_recipe.learning,
    "md": md,
    "neb": transport_recipes.neb,
    "phonons": crystal_recipes.phonons,
    "predict": predict,
    "property evaluate": property_recipes.evaluation,
    "property predict": property_recipes.prediction,
    "property study": property_recipes.study,
    "property train": property_recipes.training,
    "property vacancies": vacancy_recipes.survey,
    "property vacancies-train": vacancy_recipes.regression,
    "qha": crystal_change_recipes.qha,
    "ligand-strain": ligand_recipe.ligand_strain,
    "rdf": transport_recipes.rdf,
    "relax": relax,
    "screen": screen,
    "strain": crystal_change_recipes.strain,
    "surface": crystal_change_recipes.surface,
    "train": training,
    "vacancy": defect_recipes.defects,
    "vdos": transport_recipes.vdos,
}

SHOWN_BY_RECIPE: dict[str, Collection[str]] = {
    "defect": defect_recipes.SHOWN,
    "diffusion": ("rows",),
    "elastic": crystal_recipes.SHOWN_ELASTIC,
    "evaluate": SHOWN_RESULTS,
    "formation": formation_recipe.SHOWN,
    "hamiltonian evaluate": hamiltonian_recipes.SHOWN_ERRORS,
    "hamiltonian predict": ("rows",),
    "hamiltonian scf": hamiltonian_recipes.SHOWN_SCF,
    "learn": learning_recipe.SHOWN,
    "phonons": crystal_recipes.SHOWN_PHONONS,
    "property evaluate": property_recipes.SHOWN_EVALUATION,
    "property study": property_recipes.SHOWN_STUDY,
    "property train": property_recipes.SHOWN_TRAINING,
    "property vacancies": vacancy_recipes.SHOWN_SURVEY,
    "qha": crystal_change_recipes.SHOWN_QHA,
    "rdf": ("pairs",),
    "surface": crystal_change_recipes.SHOWN_SURFACE,
    "vacancy": defect_recipes.SHOWN,
}
"""Results that a recipe shows itself, so that they are not listed once more."""


def show_structures(run: Run, report: Report, title: str) -> None:
    """A viewer of the run's trajectory or structures, if it has any."""
    sample = run.structures
    if sample is not None:
        report.viewer(title, sample.frames, sample.values(), indices=sample.indices, total=sample.total)


def _abscissa(log: Columns) -> tuple[str, NDArray[np.float64], str]:
    """The column to plot a log over, in the unit that suits it: its name, values and axis label."""
    for name in ("time_ps", "time_fs", "step"):
        if name in log.numeric:
            values = log.numeric[name]
            if name == "time_fs" and np.nanmax(values) > _LONG_RUN_FS:
                return name, values / 1000, "time (ps)"
            return (
                name,
                values,
                with_unit(name).lower() if name == "step" else f"time ({split_unit(name)[1]})",
            )
    return "", np.arange(len(log), dtype=np.float64), "row of the log"


def _plot_log(
    run: Run, report: Report, *, only_units: Collection[str] = (), skip_units: Collection[str] = ()
) -> None:
    """One plot per unit in the log; without a unit, one per column."""
    groups: dict[str, list[str]] = {}
    skip = {"time_fs", "time_ps", *_COUNTERS}
    for name in run.log.numeric:
        unit = split_unit(name)[1]
        if name not in skip and unit not in skip_units and (not only_units or unit in only_units):
            groups.setdefault(unit or name, []).append(name)
    for group, names in groups.items():
        if all(_constant(run.log.numeric[name]) for name in names):
            continue  # the volume of a run at constant volume needs no plot
        unit = split_unit(names[0])[1]
        title = label_of(names[0]) if len(names) == 1 else _QUANTITY.get(group, label_of(names[0]))
        _log_plot(run, report, title, {label_of(name): run.log.numeric[name] for name in names}, unit)


def _log_plot(
    run: Run,
    report: Report,
    title: str,
    columns: dict[str, NDArray[np.float64]],
    unit: str,
    yscale: Scale = "linear",
) -> None:
    """Columns of the log over time or step, as one plot; what cannot be drawn (one row) is left out."""
    if len(run.log) < 2 or not columns:
        return
    x, xlabel = _abscissa(run.log)[1:]
    if yscale == "log" and not all((values[np.isfinite(values)] > 0).all() for values in columns.values()):
        yscale = "linear"
    series = [
        Series(label, x, values, style="dashed" if label.startswith(("Target", "asked")) else "line")
        for label, values in list(columns.items())[:_CURVES]
    ]
    caption = f"{_CURVES} of {len(columns)} columns of log.csv." if len(columns) > _CURVES else ""
    name = title if len(columns) > 1 else next(iter(columns))
    ylabel = name[:1].lower() + name[1:] if name[1:2].islower() else name
    svg = line_plot(series, xlabel, f"{ylabel} ({unit})" if unit else ylabel, title, yscale=yscale)
    report.plot(title, svg, caption)


def _constant(values: NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size == 0 or np.ptp(finite) <= 1e-9 * np.abs(finite).max())


def _energies(run: Run, report: Report, names: list[str]) -> None:
    """Potential and total energy since the start: their absolute values would hide what happens."""
    for unit in ("eV", "eV/atom"):
        columns = {
            label_of(name): run.log.numeric[name] - run.log.numeric[name][0]
            for name in names
            if split_unit(name)[1] == unit and not name.startswith(("conserved", "drift"))
        }
        _log_plot(run, report, "Energy since the start", columns, unit)


def _drift(run: Run, report: Report, names: list[str]) -> None:
    """The conserved quantity's change per atom: what the integrator gets wrong."""
    n_atoms = len(run.structures.frames[0]) if run.structures else 0
    for name in [name for name in names if name.startswith("conserved")][:1]:
        change = run.log.numeric[name] - run.log.numeric[name][0]
        per_atom = split_unit(name)[1] == "eV/atom" or n_atoms == 0
        unit = "meV/atom" if split_unit(name)[1] == "eV/atom" or n_atoms else "meV"
        values = 1000 * change / (1 if per_atom else n_atoms)
        _log_plot(run, report, "Drift of the conserved quantity", {"Drift": values}, unit)


def _averages(run: Run, report: Report) -> None:
    """``averages.csv``: one line per quantity, whose name carries the unit of its mean and deviations."""
    table = run.tables.get("averages")
    if table is None or "quantity" not in table:
        return
    rows = [[label_of(str(name)), split_unit(str(name))[1], *cells] for name, *cells in table.rows(MAX_ROWS)]
    report.table("Averages", ["quantity", "unit", *table.names[1:]], rows)


def _before_and_after(run: Run, report: Report) -> None:
    sample = run.structures
    if sample is None or len(sample.frames) < 2 or not sample.frames[0].pbc.any():
        return
    first, last = sample.frames[0], sample.frames[-1]
    names = ("a (Å)", "b (Å)", "c (Å)", "α (°)", "β (°)", "γ (°)", "volume (Å³)")
    before = [*first.cell.cellpar().tolist(), first.cell.volume]
    after = [*last.cell.cellpar().tolist(), last.cell.volume]
    rows = [
        [name, old, new, 100 * (new / old - 1)]
        for name, old, new in zip(names, before, after, strict=True)
        if old
    ]
    report.table("Cell before and after", ["quantity", "before", "after", "change_percent"], rows)


def _other_tables(run: Run, report: Report) -> None:
    """CSV files beside the log: curves over the first column where it grows, a sortable table otherwise."""
    for stem, table in run.tables.items():
        if not len(table) or (stem == "averages" and run.command == "md"):
            continue
        first = table.names[0]
        growing = first in table.numeric and bool((np.diff(table.numeric[first]) > 0).all())
        if len(table) > 2 and growing and len(table.numeric) == len(table.names) and split_unit(first)[1]:
            _curves(stem, table, report)
        else:
            names = [name for name in table.names if any(table.cells[name])] or table.names
            report.table(label_of(stem), names, table.rows(MAX_ROWS, names), total=table.total)


def _curves(stem: str, table: Columns, report: Report) -> None:
    """The columns of one file over its first, one plot per unit."""
    first, *others = table.names
    groups: dict[str, list[str]] = {}
    for name in others:
        groups.setdefault(split_unit(name)[1], []).append(name)
    for unit, names in groups.items():
        series = [
            Series(_curve_label(name), table.numeric[first], table.numeric[name]) for name in names[:_CURVES]
        ]
        what = "g(r)" if stem == "rdf" else (label_of(names[0]) if len(names) == 1 else label_of(stem))
        title = "Radial distribution function" if stem == "rdf" else label_of(stem)
        caption = f"{_CURVES} of {len(names)} columns of {stem}.csv." if len(names) > _CURVES else ""
        report.plot(
            title, line_plot(series, with_unit(first), f"{what} ({unit})" if unit else what, title), caption
        )


def _curve_label(name: str) -> str:
    return (
        label_of(name) if "_" in name and split_unit(name)[1] else name.removeprefix("g_").replace("_", "–")
    )

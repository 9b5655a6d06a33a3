"""The report of ``evaluate``: errors with intervals, parity, histograms, the worst structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.report.calibration_recipe import calibration
from atomml.report.plots import Series, histogram, line_plot, parity_plot
from atomml.report.quantities import label_of, with_unit
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.trajectory import sample_extxyz

__all__ = ["SHOWN_RESULTS", "evaluate"]

SHOWN_RESULTS = frozenset(
    {
        *("errors", "groups", "worst", "failed", "calibration"),
        *("element_shift_eV", "n_labelled", "not_evaluated"),
    }
)
"""Results that this recipe shows itself."""

_KINDS = {
    "element": "Errors by element",
    "group": "Errors by configuration type",
    "force_range": "Errors by size of the labelled force (eV/Å)",
    "composition": "Errors by composition",
    "n_atoms": "Errors by number of atoms",
}
_IN_PARTS = (
    *("energy_meV_per_atom", "shifted_energy_meV_per_atom", "forces_meV_per_A"),
    *("force_angles_deg", "stress_GPa", "magmoms_muB"),
)
_MOST_FRAMES = 2000
_SAMPLED_ATOMS = 30_000
_SMALLEST_FORCE = 1e-3  # meV/Å; below it a logarithmic axis shows digits of the file, not physics

_ROUNDING = 1e-6

Line = Mapping[str, Any]


def evaluate(run: Run, report: Report) -> None:
    """Tables of errors, plots of them, and which structures are worst."""
    lines = list(run.results.get("errors") or [])
    _whole(lines, report)
    _against_trivial(lines, report)
    _against_baseline(run, lines, report)
    _notes(run, report)
    _plots(run, report)
    calibration(run, report)
    groups = list(run.results.get("groups") or [])
    for kind, title in _KINDS.items():
        _by_part(title, kind, [line for line in groups if line["kind"] == kind], report)
    _worst(run, report)
    _failed(run, report)


def _whole(lines: Sequence[Line], report: Report) -> None:
    rows = [
        [
            *(with_unit(line["quantity"]), line["n_structures"]),
            *(line["mae"], _interval(line, "mae"), line["rmse"], _interval(line, "rmse")),
            *(_signed(line), line["r_squared"], line["max_error"]),
        ]
        for line in lines
    ]
    columns = ["quantity", "structures", "mae", "95 % interval", "rmse", "95 % interval"]
    columns += ["mean signed error", "R²", "largest"]
    if rows:
        report.table("Errors", columns, rows)
        report.text("What the errors mean", _MEANING)


_MEANING = (
    "Intervals come from a bootstrap over structures. The shifted energy is what is left after a constant "
    "for each element was fitted: models and calculations often differ by such constants, which change no "
    "force and no energy difference at fixed composition. Force vectors are lengths of the errors of whole "
    "forces; angles leave out atoms whose labelled force is below 0.05 eV/Å.\n\n"
    "A trivial predictor knows no structure: it says the mean energy per atom (for the shifted energy the "
    "best constant for each element), no forces, the mean stress and moment. Skill is 1 less the ratio of "
    "the two mean errors: 1 is perfect, 0 no better than trivial."
)


def _against_trivial(lines: Sequence[Line], report: Report) -> None:
    rows = [
        [with_unit(line["quantity"]), line["mae"], line["trivial_mae"], line["skill"]]
        for line in lines
        if line["trivial_mae"] is not None
    ]
    if rows:
        report.table("Compared with a trivial predictor", ["quantity", "mae", "trivial MAE", "skill"], rows)


def _against_baseline(run: Run, lines: Sequence[Line], report: Report) -> None:
    rows = [
        [
            *(with_unit(line["quantity"]), line["mae"], line["baseline_mae"], line["mae_difference"]),
            *(_interval(line, "mae_difference"), line["verdict"]),
        ]
        for line in lines
        if line.get("verdict")
    ]
    if rows:
        columns = ["quantity", "mae", "baseline's MAE", "difference", "95 % interval", "verdict"]
        baseline = run.summary.get("baseline")
        name = baseline.get("name") if isinstance(baseline, Mapping) else run.config.get("baseline")
        report.table(f"Compared with {name}", columns, rows)


def _notes(run: Run, report: Report) -> None:
    shifts = run.results.get("element_shift_eV")
    if isinstance(shifts, Mapping) and shifts:
        rows = [[symbol, value] for symbol, value in shifts.items()]
        report.table("Fitted shifts of the elements", ["element", "shift_eV"], rows)
    counts, missing = run.results.get("n_labelled"), run.results.get("not_evaluated")
    if isinstance(counts, Mapping):
        reasons = missing if isinstance(missing, Mapping) else {}
        rows = [[name, count, reasons.get(name)] for name, count in counts.items()]
        report.table("Labels", ["label", "structures with it", "not evaluated because"], rows)


def _plots(run: Run, report: Report) -> None:
    table = run.tables.get("errors")
    if table is not None:
        _energy_plots(table, report)
    forces = _forces(run, len(table) if table is not None else 0)
    if forces is not None:
        _force_plots(*forces, report)


def _energy_plots(table: Columns, report: Report) -> None:
    known = table.numeric
    part = f"The first {len(table):,} of {table.total:,} structures." if len(table) < table.total else ""
    if "reference_energy_eV_per_atom" in known:
        pair = known["reference_energy_eV_per_atom"], known["energy_eV_per_atom"]
        axes = "labelled energy (eV/atom)", "predicted energy (eV/atom)"
        report.plot("Energy: predicted and labelled", parity_plot(*pair, *axes), part)
        for name in ("energy_error_meV_per_atom", "shifted_energy_error_meV_per_atom"):
            if name in known:
                title = label_of(name)
                report.plot(title, histogram(known[name], f"{title.lower()} (meV/atom)"), part)
    if "reference_pressure_GPa" in known:
        pair = known["reference_pressure_GPa"], known["pressure_GPa"]
        axes = "labelled pressure (GPa)", "predicted pressure (GPa)"
        report.plot("Stress: predicted and labelled pressure", parity_plot(*pair, *axes), part)
        report.plot(
            "Stress error",
            histogram(known["stress_mae_GPa"], "mean absolute error of a structure (GPa)"),
            part,
        )


def _forces(
    run: Run, n_structures: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int, list[str]] | None:
    """Labelled and predicted forces ``(n, 3)`` in meV/Å of a sample, its frames, all frames, symbols."""
    path = run.folder / "predictions.extxyz"
    if not path.exists():
        return None
    n_atoms = int(run.results.get("n_atoms") or 0)
    per_structure = max(1.0, n_atoms / max(1, n_structures))
    sample = sample_extxyz(path, int(np.clip(_SAMPLED_ATOMS / per_structure, 20, _MOST_FRAMES)))
    frames = [
        atoms
        for atoms in sample.frames
        if "reference_forces" in atoms.arrays and "forces" in getattr(atoms.calc, "results", {})
    ]
    if not frames:
        return None
    labels = np.concatenate([np.atleast_2d(atoms.arrays["reference_forces"]) for atoms in frames])
    predicted = np.concatenate([np.atleast_2d(atoms.calc.results["forces"]) for atoms in frames])
    symbols = [str(symbol) for atoms in frames for symbol in atoms.symbols]
    return 1000 * labels, 1000 * predicted, len(frames), sample.total, symbols


def _force_plots(
    labels: NDArray[np.float64],
    predicted: NDArray[np.float64],
    n_frames: int,
    total: int,
    symbols: list[str],
    report: Report,
) -> None:
    part = f"{n_frames:,} of {total:,} structures, evenly spaced." if n_frames < total else ""
    axes = "labelled force component (eV/Å)", "predicted force component (eV/Å)"
    svg = parity_plot(labels / 1000, predicted / 1000, *axes)
    report.plot("Forces: predicted and labelled", svg, part)
    errors = predicted - labels
    report.plot("Force error", histogram(errors, "error of a force component (meV/Å)"), part)
    size, off = np.linalg.norm(labels, axis=1), np.linalg.norm(errors, axis=1)
    seen = (size > _SMALLEST_FORCE) & (off > _SMALLEST_FORCE)
    if seen.any():
        kinds = np.asarray(symbols)
        common = [str(symbol) for symbol in np.unique(kinds[seen])]
        if len(common) > 6:  # more colours than a legend can tell apart
            common, kinds = ["all elements"], np.full(len(kinds), "all elements")
        series = [
            Series(name, size[seen & (kinds == name)], off[seen & (kinds == name)], style="points")
            for name in common
        ]
        svg = line_plot(
            series,
            "size of the labelled force (meV/Å)",
            "size of the error (meV/Å)",
            "Error of the force over its size",
            xscale="log",
            yscale="log",
        )
        report.plot("Force error against size of the force", svg, part)


def _by_part(title: str, kind: str, lines: Sequence[Line], report: Report) -> None:
    """A row for each part, two columns for each quantity that any part has."""
    names = list(dict.fromkeys(line["name"] for line in lines))
    found = {(line["name"], line["quantity"]): line for line in lines}
    quantities = [quantity for quantity in _IN_PARTS if any((name, quantity) in found for name in names)]
    if not names or not quantities:
        return
    columns = [kind.replace("_", " "), "structures"]
    for quantity in quantities:
        columns += [f"mae_{quantity}", "95 % interval"]
        if any(found.get((name, quantity), {}).get("verdict") for name in names):
            columns += ["verdict"]
    rows = []
    for name in names:
        own = [found[name, quantity] for quantity in quantities if (name, quantity) in found]
        row: list[Any] = [name, max(line["n_structures"] for line in own) if own else None]
        for quantity in quantities:
            line = found.get((name, quantity), {})
            row += [line.get("mae"), _interval(line, "mae")]
            if any(found.get((other, quantity), {}).get("verdict") for other in names):
                row += [line.get("verdict")]
        rows.append(row)
    report.table(title, columns, rows)


def _worst(run: Run, report: Report) -> None:
    for by, title in (
        ("energy", "Largest errors of the shifted energy"),
        ("forces", "Largest errors of forces"),
    ):
        found = [line for line in run.results.get("worst") or [] if line["by"] == by]
        names = [name for name in found[0] if name != "by"] if found else []
        names = [name for name in names if any(line.get(name) is not None for line in found)]
        if found:
            report.table(title, names, [[line.get(name) for name in names] for line in found])


def _failed(run: Run, report: Report) -> None:
    found = list(run.results.get("failed") or [])
    if found:
        names = ["input", "frame", "error"]
        report.table("Not evaluated", names, [[line.get(name) for name in names] for line in found])


def _signed(line: Line) -> float | None:
    """The mean error; 0 where it is the rounding that is left of it, as of forces that add up to nothing."""
    value = line["mean_signed_error"]
    return 0.0 if value is not None and abs(value) < _ROUNDING * line["mae"] else value


def _interval(line: Line, name: str) -> str | None:
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    return None if low is None or high is None else f"{low:.4g} to {high:.4g}"

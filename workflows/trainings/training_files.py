"""What a training leaves in its folder when it is done: tables of parity, summary, report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from atomml.files import write_atomic
from atomml.run import RunFolder
from atomml.train.log import maes
from atomml.train.potential_objective import UNITS, PotentialObjective
from atomml.train.trainer import BEST, LAST
from atomml.workflows.inputs import input_record
from atomml.workflows.trainings.training import TrainResult
from atomml.workflows.trainings.training_heads import split_head

if TYPE_CHECKING:
    from atomml.data.dataset import Dataset
    from atomml.model import Potential
    from atomml.train.trainer import Trainer
    from atomml.train.validation import Validation
    from atomml.workflows.trainings.training_session import Session

__all__ = ["conclude"]

_PARITY_ROWS = 20_000


def conclude(session: Session, trainer: Trainer, timing: dict[str, float]) -> TrainResult:
    """Evaluate the best weights, write tables, summary and report; returns the result."""
    from atomml.checkpoint import load_model_file

    started = time.perf_counter()
    folder, out = session.folder, session.paths.out
    dtype = "float64" if session.options.precision == "float64" else "float32"
    best = load_model_file(out / BEST, dtype, str(session.processes.device))
    valid = _evaluated(session, best, session.valid)
    test = _evaluated(session, best, session.test)
    drift = session.drift(best)
    progress = trainer.progress
    errors = maes(valid.errors, "valid", UNITS) if valid else {}
    named = {f"{name}_mae": errors.get(f"valid_{name}_mae_{unit}") for name, (unit, _) in UNITS.items()}
    result = TrainResult(
        model=str(out / BEST),
        last_model=str(out / LAST),
        name=best.info.name,
        method=session.method,
        steps=progress.step,
        best_step=progress.best_step,
        best_epoch=progress.best_epoch,
        energy_mae=named["energy_mae"],
        forces_mae=named["forces_mae"],
        stress_mae=named["stress_mae"],
        magmoms_mae=named["magmoms_mae"],
        before=_before(out),
        test=_known(maes(test.errors, "test", UNITS)) if test else {},
        labels={what: seen.record() for what, seen in session.surveys.items()},
        reference_shifts=_by_symbol(session.shifts),
        heads={head: _known(maes(e, "valid", UNITS)) for head, e in (valid.heads if valid else {}).items()},
        n_frozen=session.n_frozen,
        n_replayed=len(session.replay.samples) if session.replay else 0,
        n_low_rank=sum(p.numel() for p in session.weights.learning().values()) if session.weights else 0,
        drift=drift.record() if drift else {},
        converged=not (drift and drift.exceeded),
        stopped_early=progress.stopped,
        warnings=list(folder.warnings),
        folder=out,
    )
    if isinstance(folder, RunFolder):
        for what, found in (("valid", valid), ("test", test)):
            if found is not None:
                _write_parity(folder, what, found)
        timing |= {"evaluation_s": time.perf_counter() - started}
        timing |= {"total_s": time.perf_counter() - session.started}
        _write_summary(session, folder, result, best, timing)
    return result


def _evaluated(session: Session, model: Potential, dataset: Dataset | None) -> Validation | None:
    from atomml.train.samples import Samples
    from atomml.train.validation import validate

    if dataset is None:
        return None
    samples = Samples(dataset, model, max_bytes=0.0)
    objective = PotentialObjective(session.loss)
    return validate(model, samples, objective, session.processes, session.settings.limits, parity=True)


def _before(out: Any) -> dict[str, float]:
    """The validation errors of the first line of the log, before any step."""
    import csv

    with (out / "log.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream), {})
    return {
        key: float(value)
        for key, value in first.items()
        if key.startswith("valid_") and key != "valid_loss" and value
    }


def _by_symbol(shifts: dict[str, dict[int, float]]) -> dict[str, Any]:
    """Shifts by symbol; by head and symbol where there are heads."""
    named = {head: {chemical_symbols[z]: e for z, e in own.items()} for head, own in shifts.items()}
    return named.get("", {}) if set(named) <= {""} else named


def _known(errors: dict[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in errors.items() if value is not None}


def _write_parity(folder: RunFolder, what: str, found: Validation) -> None:
    """``parity_valid_energy.csv`` and so on: label and prediction; of very many, evenly spaced rows."""
    assert found.parity is not None
    units = {"energy": "eV_per_atom", "forces": "eV_per_A", "stress": "eV_per_A3", "magmoms": "muB"}
    for name, unit in units.items():
        table = found.parity.table(name)
        if not len(table):
            continue
        stride = -(-len(table) // _PARITY_ROWS)
        lines = [f"label_{unit},prediction_{unit}"]
        lines += [f"{label!r},{value!r}" for label, value in np.asarray(table[::stride]).tolist()]
        write_atomic(folder.file(f"parity_{what}_{name}.csv"), "\n".join([*lines, ""]))


def _write_summary(
    session: Session, folder: RunFolder, result: TrainResult, best: Potential, timing: dict[str, float]
) -> None:
    from pathlib import Path

    from atomml.report.render import render_run

    files = [
        input_record(Path(split_head(path)[1]), role=role)
        for role in ("train", "valid", "test")
        for path in getattr(session.paths, role)
    ]
    parent = session.parent
    result.summary = folder.write_summary(
        results=result.results(),
        units=result.units(),
        model={
            "name": best.info.name,
            "sha256": best.info.sha256,
            "family": best.info.family,
            "parent": None if parent is None else {"name": parent.name, "sha256": parent.sha256},
        },
        inputs=files,
        timing=timing,
        converged=result.converged,
        held_out=session.held_out or None,
    )
    render_run(folder.path)

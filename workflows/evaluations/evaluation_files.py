"""The files of ``evaluate``: predictions beside labels as they come, tables at the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atomml.errors import FileFormatError
from atomml.files import write_atomic
from atomml.run import RunFolder
from atomml.workflows.predicting.prediction_files import AppendedFiles

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.entry import Entry, Labels
    from atomml.workflows.evaluations.evaluation import EvaluationResult
    from atomml.workflows.evaluations.evaluation_record import EvaluationRecord

__all__ = ["ERROR_COLUMNS", "EvaluationFiles", "write_tables"]

_XYZ = "predictions.extxyz"
_OWN = (
    *("energy_eV_per_atom", "energy_error_meV_per_atom"),
    *("force_mae_meV_per_A", "force_rmse_meV_per_A", "max_force_error_meV_per_A", "worst_atom"),
    *("stress_mae_GPa", "pressure_GPa", "magmom_mae_muB"),
)
ERROR_COLUMNS = (
    *("input", "frame", "group", "formula", "n_atoms"),
    *("reference_energy_eV_per_atom", *_OWN[:2], "shifted_energy_error_meV_per_atom"),
    *(*_OWN[2:7], "reference_pressure_GPa", *_OWN[7:]),
    *(f"baseline_{name}" for name in _OWN),
    "error",
)
"""Columns of ``errors.csv``; those that are empty throughout are left out."""


_CALIBRATION = ("quantity", "part", "n", "predicted", "rmse", "level", "observed", "observed_scaled")


class EvaluationFiles(AppendedFiles):
    """``predictions.extxyz``: each evaluated structure with what each model says and what the labels say.

    The answers of the model stand under ASE's names (``energy``, ``forces`` ...), those of the baseline
    and the labels behind ``baseline_`` and ``reference_``.
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run, [_XYZ])

    def write(
        self,
        entries: Sequence[Entry],
        answers: Sequence[Mapping[str, Any] | str],
        of: int,
        facts: Mapping[str, float],
    ) -> None:
        """Append one batch; structures that failed are in the event that commits it."""
        frames, failed = [], []
        for place, (entry, answer) in enumerate(zip(entries, answers, strict=True), self.done):
            if isinstance(answer, str):
                failed.append([place, answer])
            else:
                frames.append(_frame_text(entry, answer))
        self.append(_XYZ, "".join(frames).encode())
        self.done += len(entries)
        self.commit(of, failed=failed, **facts)

    def restored(
        self, entries: Sequence[Entry], models: Sequence[str]
    ) -> Iterator[dict[str, dict[str, Any]] | str]:
        """The outcome of each structure that an interrupted run had done, in order.

        Raises:
            FileFormatError: ``predictions.extxyz`` does not hold what the events say.
        """
        if not self.done:
            return
        from atomml.data.structures import read_structures

        failed = {place: error for event in self.events for place, error in event.get("failed", [])}
        path = self.paths[_XYZ]
        frames: Iterator[Any] = iter(())
        if len(failed) < self.done:
            frames = read_structures(path, validate=False)
        for place in range(self.done):
            if place in failed:
                yield str(failed[place])
                continue
            frame = next(frames, None)
            if frame is None or len(frame.atoms) != len(entries[place].atoms):
                raise FileFormatError(
                    f"{path} does not hold structure {place} of the data: start anew with --overwrite."
                )
            yield {who: _answers(frame.atoms, who) for who in models}


def write_tables(run: RunFolder, record: EvaluationRecord, result: EvaluationResult) -> None:
    """``errors.csv``, a row for each structure, and ``groups.csv``, a row for each line of the tables."""
    from atomml.workflows.evaluations.evaluation_tables import COLUMNS

    write_atomic(run.file("errors.csv"), _csv(ERROR_COLUMNS, record.rows))
    write_atomic(run.file("groups.csv"), _csv(COLUMNS, [*result.errors, *result.groups]))
    bins = [
        {"quantity": quantity, "part": part, **row}
        for quantity, one in record.calibrations.items()
        for part, rows in (("bin", one.bins), ("coverage", one.coverage))
        for row in rows
    ]
    if bins:
        write_atomic(run.file("calibration.csv"), _csv(_CALIBRATION, bins))


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    used = [name for name in columns if any(row.get(name) is not None for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(used)
    for row in rows:
        cells = [row.get(name) for name in used]
        writer.writerow(["" if c is None else repr(c) if isinstance(c, float) else c for c in cells])
    return text.getvalue()


def _frame_text(entry: Entry, answers: Mapping[str, Mapping[str, Any]]) -> str:
    from atomml.data.structures import extxyz_frame

    atoms = entry.atoms.copy()
    atoms.info.update(source=entry.source, frame=entry.frame)
    if entry.group:
        atoms.info["group"] = entry.group
    _attach(atoms, "reference", _of_labels(entry.labels))
    for who, found in answers.items():
        if who != "model":
            _attach(atoms, who, found)
    own = {name: value for name, value in answers["model"].items() if name != "energies"}
    return extxyz_frame(atoms, own)


def _of_labels(labels: Labels) -> dict[str, Any]:
    return {name: getattr(labels, name) for name in labels.names}


def _attach(atoms: Atoms, who: str, values: Mapping[str, Any]) -> None:
    """Values under ``who_NAME``: per atom as columns, the others beside the lattice."""
    import numpy as np

    for name, value in values.items():
        if name in ("forces", "magmoms"):
            atoms.arrays[f"{who}_{name}"] = np.asarray(value, dtype=np.float64)
        elif name in ("energy", "stress"):
            atoms.info[f"{who}_{name}"] = value


def _answers(atoms: Atoms, who: str) -> dict[str, Any]:
    """What a model said, read back."""
    if who == "model":
        results = getattr(atoms.calc, "results", None) or {}
        known = {name: results[name] for name in ("energy", "forces", "stress", "magmoms") if name in results}
        spread = {"forces_std": atoms.arrays.get("forces_std"), "energy_std": atoms.info.get("energy_std")}
        return known | {name: value for name, value in spread.items() if value is not None}
    found = {}
    for name in ("energy", "forces", "stress", "magmoms"):
        value = atoms.arrays.get(f"{who}_{name}", atoms.info.get(f"{who}_{name}"))
        if value is not None:
            found[name] = value
    return found

"""The lines of ``log.csv``: one per epoch, the first before any step."""

from __future__ import annotations

from collections.abc import Mapping

from atomml.train.losses import Errors
from atomml.train.resume import Progress
from atomml.train.validation import Validation
from atomml.units import GPA

__all__ = ["COLUMNS", "UNITS", "log_row", "maes", "row_text"]

UNITS = {
    "energy": ("meV_per_atom", 1000.0),
    "forces": ("meV_per_A", 1000.0),
    "stress": ("GPa", GPA),
    "magmoms": ("muB", 1.0),
}
"""Suffix and factor under which errors of each label are written; losses count eV, Å and μB."""

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    *(f"train_{name}_mae_{unit}" for name, (unit, _) in UNITS.items()),
    "valid_loss",
    *(f"valid_{name}_mae_{unit}" for name, (unit, _) in UNITS.items()),
)


def maes(errors: Errors, prefix: str) -> dict[str, float | None]:
    """Mean absolute errors under keys that carry their unit (``valid_energy_mae_meV_per_atom``)."""
    found: dict[str, float | None] = {}
    for name, (unit, factor) in UNITS.items():
        value = errors.mae(name)
        found[f"{prefix}_{name}_mae_{unit}"] = None if value is None else factor * value
    return found


def log_row(
    progress: Progress, epoch: int, rate: float, validation: Validation | None
) -> dict[str, float | None]:
    """The line of an epoch: means over its steps, made while the weights changed, and the validation."""
    row: dict[str, float | None] = {"epoch": epoch, "step": progress.step, "learning_rate": rate}
    row["train_loss"] = progress.loss_sum / progress.position if progress.position else None
    row |= maes(progress.errors, "train")
    row["valid_loss"] = validation.loss if validation else None
    row |= maes(validation.errors if validation else Errors(), "valid")
    return row


def row_text(row: Mapping[str, float | None]) -> str:
    """The line as text; numbers keep all their digits."""
    return ",".join("" if row[name] is None else repr(row[name]) for name in COLUMNS) + "\n"

"""The lines of ``log.csv``: one per epoch, the first before any step."""

from __future__ import annotations

from collections.abc import Mapping

from atomml.train.losses import Errors
from atomml.train.resume import Progress
from atomml.train.validation import Validation

__all__ = ["columns", "log_row", "maes", "row_text"]

_PARTS = ("train", "valid")


def columns(units: Mapping[str, tuple[str, float]]) -> tuple[str, ...]:
    """Names of the columns for errors in these units, as an objective gives them."""
    train, valid = ([f"{part}_{name}_mae_{unit}" for name, (unit, _) in units.items()] for part in _PARTS)
    return ("epoch", "step", "learning_rate", "train_loss", *train, "valid_loss", *valid)


def maes(errors: Errors, prefix: str, units: Mapping[str, tuple[str, float]]) -> dict[str, float | None]:
    """Mean absolute errors under keys that carry their unit (``valid_energy_mae_meV_per_atom``)."""
    found: dict[str, float | None] = {}
    for name, (unit, factor) in units.items():
        value = errors.mae(name)
        found[f"{prefix}_{name}_mae_{unit}"] = None if value is None else factor * value
    return found


def log_row(
    progress: Progress,
    epoch: int,
    rate: float,
    validation: Validation | None,
    units: Mapping[str, tuple[str, float]],
) -> dict[str, float | None]:
    """The line of an epoch: means over its steps, made while the weights changed, and the validation."""
    row: dict[str, float | None] = {"epoch": epoch, "step": progress.step, "learning_rate": rate}
    row["train_loss"] = progress.loss_sum / progress.position if progress.position else None
    row |= maes(progress.errors, "train", units)
    row["valid_loss"] = validation.loss if validation else None
    row |= maes(validation.errors if validation else Errors(), "valid", units)
    return row


def row_text(row: Mapping[str, float | None]) -> str:
    """The line as text; numbers keep all their digits."""
    return ",".join("" if value is None else repr(value) for value in row.values()) + "\n"

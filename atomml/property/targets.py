"""What is predicted: a property, on which scale it is learned, and how labels go there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atomml.errors import OptionError, StructureError

__all__ = ["TRANSFORMS", "Target", "parse_targets"]

TRANSFORMS = ("none", "abs", "log", "signed-log")
"""Scales: the value, its absolute value, log10 of it, and sign(x) log10(1 + |x|)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """One property.

    Attributes:
        name: Under which structures carry it.
        transform: One of :data:`TRANSFORMS`; ``none`` for classes.
        classes: Names of the classes, sorted; empty for a number.
        unit: Unit of the property, as the user gave it.
        mean, scale: Of the transformed labels of the training set: models learn numbers around zero.
    """

    name: str
    transform: str = "none"
    classes: tuple[str, ...] = ()
    unit: str = ""
    mean: float = 0.0
    scale: float = 1.0

    @property
    def label(self) -> str:
        """The learned quantity in words: ``log10 sigma_p``, ``|S_p|``."""
        wrapped = {"abs": "|{}|", "log": "log10 {}", "signed-log": "signed log10 {}"}
        return wrapped.get(self.transform, "{}").format(self.name)

    @property
    def key(self) -> str:
        """The same as a column's name: ``log_sigma_p``."""
        return self.name if self.transform == "none" else f"{self.transform.replace('-', '_')}_{self.name}"

    @property
    def width(self) -> int:
        """How many outputs of a model belong to it: one, or one for each class."""
        return max(len(self.classes), 1)

    def learned(self, values: ArrayLike) -> Floats:
        """Values on the scale on which errors are counted; NaN for NaN and for what log10 cannot take."""
        x = np.asarray(values, dtype=np.float64)
        if self.transform == "abs":
            return np.abs(x)
        if self.transform == "log":
            return np.log10(np.where(x > 0, x, np.nan))
        if self.transform == "signed-log":
            return np.sign(x) * np.log10(1.0 + np.abs(x))
        return x

    def value(self, learned: ArrayLike) -> Floats:
        """Undo :meth:`learned`; an absolute value stays one, cut off at zero."""
        y = np.asarray(learned, dtype=np.float64)
        if self.transform == "abs":
            return np.maximum(y, 0.0)
        if self.transform == "log":
            return 10.0 ** np.clip(y, -300, 300)
        if self.transform == "signed-log":
            return np.sign(y) * (10.0 ** np.minimum(np.abs(y), 300) - 1.0)
        return y

    def encode(self, value: Any, where: str) -> float:
        """A label on the learned scale, or the place of its class; NaN for a label that is missing.

        Raises:
            StructureError: Not a number, no positive one under ``log``, or a class that training never saw.
        """
        if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan", "none")):
            return float("nan")
        if self.classes:
            text = class_name(value)
            if text not in self.classes:
                raise StructureError(
                    f"{where}: {self.name} is {text}, a class that there is none of in training "
                    f"({', '.join(self.classes[:6])})."
                )
            return float(self.classes.index(text))
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise StructureError(
                f"{where}: {self.name} is {value!r}: give a number, or leave it out."
            ) from None
        if np.isnan(number):
            return number
        if self.transform == "log" and not number > 0:
            raise StructureError(
                f"{where}: {self.name} is {number:g}, which has no logarithm: learn it as "
                f"{self.name}:signed-log, or leave the label out."
            )
        if not np.isfinite(number):
            raise StructureError(f"{where}: {self.name} is {number}: give a finite number, or leave it out.")
        return float(self.learned(number))

    def fitted(self, encoded: Floats) -> Self:
        """With mean and scale of ``(n,)`` labels of the training set.

        Raises:
            OptionError: No label, or all of them equal.
        """
        known = encoded[np.isfinite(encoded)]
        if not len(known):
            raise OptionError(f"No training structure is labelled with {self.name}.")
        if self.classes:
            return self
        spread = float(known.std())
        if len(known) > 1 and not spread > 1e-12 * max(abs(float(known.mean())), 1e-300):
            raise OptionError(f"All labels of {self.name} are {known[0]:g}: there is nothing to learn.")
        return replace(self, mean=float(known.mean()), scale=spread or 1.0)

    def hyperparameters(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {**vars(self), "classes": list(self.classes)}

    @classmethod
    def from_hyperparameters(cls, values: dict[str, Any]) -> Self:
        """Undo :meth:`hyperparameters`."""
        return cls(**{**values, "classes": tuple(values["classes"])})


def class_name(value: Any) -> str:
    """A class as text; ``True`` and ``1.0`` as their files may write them alike."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def parse_targets(texts: Sequence[str], classes: Sequence[str] = ()) -> list[Target]:
    """Targets from ``NAME`` and ``NAME:TRANSFORM``, those among ``classes`` as classes.

    Raises:
        OptionError: None, one twice, a transform that does not exist, a class with a transform.
    """
    found: list[Target] = []
    for text in texts:
        name, colon, transform = text.strip().rpartition(":")
        name, transform = (name, transform) if colon else (transform, "none")
        if not name or transform not in TRANSFORMS:
            raise OptionError(
                f"The target {text!r} is not understood: write NAME or NAME:TRANSFORM, with one of "
                f"{', '.join(TRANSFORMS)}."
            )
        if name in classes and transform != "none":
            raise OptionError(f"{name} is a class, which has no {transform}: write {name} alone.")
        found.append(Target(name, transform))
    if not found:
        raise OptionError("There is nothing to predict: name labels with --target.")
    keys = [target.key for target in found]
    if doubled := {key for key in keys if keys.count(key) > 1}:
        raise OptionError(f"The target {sorted(doubled)[0]} is given twice.")
    if unknown := set(classes) - {target.name for target in found}:
        raise OptionError(f"{sorted(unknown)[0]} is called a class, and is no target: name it with --target.")
    return found

"""What a law is: a function that measures how far a model departs from it, and by how much it may.

A law yields one :class:`Measurement` for each structure and quantity that it looks at;
the kit keeps the worst of each quantity as a :class:`CheckResult`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "CheckResult", "Law", "Measurement", "law", "laws_of"]


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one quantity of one law.

    Attributes:
        name: ``law/quantity``, such as ``rotation/forces``.
        passed: Whether the largest departure is within the tolerance; NaN never is.
        value: Largest departure found, in ``unit``.
        tolerance: What is allowed.
        unit: Unit of both.
        detail: Where the largest departure was found, or the error that stopped the law.
    """

    name: str
    passed: bool
    value: float
    tolerance: float
    unit: str
    detail: str


@dataclass(frozen=True)
class Measurement:
    """One departure from a law, on one structure.

    Attributes:
        quantity: What was compared: ``energy``, ``forces``, ``stress`` ...
        value: How far it departs from the law, in ``unit``.
        tolerance: How far it may.
        unit: Unit of both.
        where: The structure, and atom or direction if that helps.
    """

    quantity: str
    value: float
    tolerance: float
    unit: str
    where: str

    @property
    def excess(self) -> float:
        """Departure as a multiple of the tolerance; infinite for NaN and where no departure is allowed."""
        if math.isnan(self.value):
            return math.inf
        if self.tolerance == 0.0:
            return 0.0 if self.value == 0.0 else math.inf
        return self.value / self.tolerance


Check = Callable[[Any], Iterable[Measurement]]


@dataclass(frozen=True)
class Law:
    """A registered law.

    Attributes:
        name: Name of the function that states it.
        kind: Kind of model that it binds.
        check: Takes the kind's subject and yields measurements.
        dtypes: Precisions in which it is a statement at all.
        slow: Whether it takes more than some seconds; left out of a quick run.
    """

    name: str
    kind: str
    check: Check
    dtypes: tuple[str, ...]
    slow: bool

    @property
    def summary(self) -> str:
        """First line of the law's docstring."""
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def judge(self, subject: Any) -> list[CheckResult]:
        """The worst measurement of each quantity; an exception is a failure of the law, not of the kit."""
        worst: dict[str, Measurement] = {}
        try:
            for found in self.check(subject):
                if found.quantity not in worst or found.excess > worst[found.quantity].excess:
                    worst[found.quantity] = found
        except Exception as error:  # whatever a broken model raises is its verdict
            stopped = f"{type(error).__name__}: {error}"
            return [CheckResult(f"{self.name}/answer", False, math.nan, 0.0, "", stopped)]
        return [self._verdict(measured) for measured in worst.values()]

    def _verdict(self, worst: Measurement) -> CheckResult:
        return CheckResult(
            name=f"{self.name}/{worst.quantity}",
            passed=bool(worst.excess <= 1.0),
            value=float(worst.value),
            tolerance=float(worst.tolerance),
            unit=worst.unit,
            detail=worst.where,
        )


_LAWS: dict[tuple[str, str], Law] = {}


def law(
    kind: str, *, dtypes: tuple[str, ...] = ("float32", "float64"), slow: bool = False
) -> Callable[[Check], Check]:
    """Register the decorated function as a law for models of a kind; its name is the law's name.

    Raises:
        ValueError: A second law of that name and kind.
    """

    def register(check: Check) -> Check:
        """Add the check under its name."""
        name = getattr(check, "__name__", "")
        if (kind, name) in _LAWS:
            raise ValueError(f"there is already a law named {name} for {kind} models")
        _LAWS[kind, name] = Law(name, kind, check, dtypes, slow)
        return check

    return register


def laws_of(kind: str) -> list[Law]:
    """All registered laws for a kind of model, in the order in which they were stated."""
    return [found for (of_kind, _), found in _LAWS.items() if of_kind == kind]

"""Targets that change in the course of a run: ``300`` or ``300:1200``."""

from __future__ import annotations

from dataclasses import dataclass

from atomml.errors import OptionError

__all__ = ["Ramp"]


@dataclass(frozen=True)
class Ramp:
    """A value that goes linearly from ``start`` to ``end``, then stays.

    Attributes:
        start: Value at step 0.
        end: Value at step ``n_steps`` and after.
        n_steps: Length of the ramp.
    """

    start: float
    end: float
    n_steps: int = 1

    @classmethod
    def parse(cls, text: str | float, name: str, n_steps: int) -> Ramp:
        """Read ``"300"``, ``300.0`` or ``"300:1200"``.

        Raises:
            OptionError: Not one or two finite numbers; ``name`` says of which option.
        """
        parts = str(text).split(":")
        try:
            values = [float(part) for part in parts]
        except ValueError:
            values = []
        if len(values) not in (1, 2) or not all(value - value == 0 for value in values):
            raise OptionError(
                f"{name} is {text!r}: give a number, or two as START:END for a ramp over the run."
            )
        return cls(values[0], values[-1], max(n_steps, 1))

    def at(self, step: float) -> float:
        """The value at a step."""
        if self.start == self.end:
            return self.start
        share = min(max(step / self.n_steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * share

    @property
    def mean(self) -> float:
        """The value half way."""
        return 0.5 * (self.start + self.end)

    @property
    def highest(self) -> float:
        """The larger of both ends."""
        return max(self.start, self.end)

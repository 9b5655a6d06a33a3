"""A weight in the loss that may change in the course of a run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from atomml.errors import OptionError

__all__ = ["WeightSchedule", "fallen"]

_FALL = re.compile(r"(?P<first>[^:~]+):(?P<second>[^:~]+)~(?P<ratio>[^:~/]+)(/(?P<stairs>[^:~/]+))?")
_CHANGE = re.compile(r"(?P<first>[^:@]+):(?P<second>[^:@]+)@(?P<share>[^:@]+)")


def fallen(progress: float, ratio: float, stairs: float = 0.0) -> float:
    """``ratio ** progress``, in equal stairs if there are any: how DeePMD-kit's learning rate falls."""
    if stairs:
        progress = math.floor(progress * stairs * (1 + 1e-12)) / stairs
    return ratio**progress


@dataclass(frozen=True)
class WeightSchedule:
    """A weight that is constant, goes linearly or exponentially from one value to another, or changes once.

    Attributes:
        start: Value at the start.
        end: Value at the end.
        change_at: Share of the run at which ``start`` gives way to ``end``; None for a straight line.
        ratio: What an exponential falls to in the run, by which ``start`` gives way to ``end``, as
            DeePMD-kit's prefactors follow its learning rate; None for a straight line.
        stairs: Stairs in which it falls; 0 for a smooth fall.
    """

    start: float
    end: float
    change_at: float | None = None
    ratio: float | None = None
    stairs: float = 0.0

    @classmethod
    def parse(cls, text: str | float, name: str) -> WeightSchedule:
        """Read ``1``, ``1:10`` (a ramp over the run) or ``1:10@0.75`` (10 in the last quarter).

        ``1:10~0.01/20`` goes from 1 to 10 as an exponential falls to 0.01 in 20 stairs.

        Raises:
            OptionError: Something else, or a negative weight; ``name`` says of which option.
        """
        share: float | None = None
        fall = _FALL.fullmatch(str(text).strip())
        if fall:
            return cls._falling(fall, str(text), name)
        try:
            change = _CHANGE.fullmatch(str(text).strip())
            if change:
                values = [float(change["first"]), float(change["second"])]
                share = float(change["share"])
            else:
                values = [float(part) for part in str(text).split(":")]
        except ValueError:
            values = []
        in_range = all(0 <= value < float("inf") for value in values) and (share is None or 0 < share < 1)
        if len(values) not in (1, 2) or not in_range:
            raise OptionError(
                f"{name} is {str(text)!r}: give a weight (1), START:END for a ramp over the run (1:10), or "
                "FIRST:SECOND@SHARE to change it at that share of the run (1:10@0.75); none is negative."
            )
        return cls(values[0], values[-1], share)

    @classmethod
    def _falling(cls, found: re.Match[str], text: str, name: str) -> WeightSchedule:
        try:
            first, second, ratio = (float(found[key]) for key in ("first", "second", "ratio"))
            stairs = float(found["stairs"] or 0)
        except ValueError:
            ratio = -1.0
        if not 0 < ratio <= 1 or not all(0 <= value < float("inf") for value in (first, second, stairs)):
            raise OptionError(
                f"{name} is {text!r}: write START:END~RATIO or START:END~RATIO/STAIRS (1:10~0.01/20)."
            )
        return cls(first, second, ratio=ratio, stairs=stairs)

    def at(self, progress: float) -> float:
        """The weight when a share ``progress`` (0 to 1) of the run is done."""
        progress = min(max(progress, 0.0), 1.0)
        if self.ratio is not None:
            return self.end + (self.start - self.end) * fallen(progress, self.ratio, self.stairs)
        if self.change_at is not None:
            return self.end if progress >= self.change_at else self.start
        return self.start + (self.end - self.start) * progress

    @property
    def is_zero(self) -> bool:
        """Whether the weight is zero throughout."""
        return self.start == self.end == 0.0

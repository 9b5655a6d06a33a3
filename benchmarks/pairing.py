"""Two ways of the same work, timed in turn, so that a machine that slows down slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HEAD", "Pair", "in_turn", "seconds_of"]


@dataclass(frozen=True)
class Pair:
    """Seconds of each round.

    Attributes:
        ours: Of our way.
        theirs: Of the peer's.
    """

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times faster we were, round by round."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def row(self, name: str) -> str:
        """A line of a Markdown table: both medians in ms, median ratio, its smallest and largest."""
        ratios = self.ratios
        return (
            f"| {name} | {1e3 * statistics.median(self.theirs):.1f} "
            f"| {1e3 * statistics.median(self.ours):.1f} "
            f"| {statistics.median(ratios):.1f} | {min(ratios):.1f} to {max(ratios):.1f} |"
        )


HEAD = "| | peer, ms | atomml, ms | times faster (median) | range |\n|---|---|---|---|---|"
"""Of a table of :meth:`Pair.row`."""


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], rounds: int, warm_up: int = 2) -> Pair:
    """Time both, one after the other, ``rounds`` times, after ``warm_up`` rounds that are not counted."""
    pair = Pair([], [])
    for count in range(warm_up + rounds):
        for function, times in ((ours, pair.ours), (theirs, pair.theirs)):
            spent = seconds_of(function)
            if count >= warm_up:
                times.append(spent)
    return pair


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds that it takes.

    A pause before it lets the threads of another go to sleep: OpenMP's wait for more work for some 10 ms on a
    core that is not theirs alone.
    """
    time.sleep(0.05)
    start = time.perf_counter()
    function()
    return time.perf_counter() - start

"""What an audit finds: a trap by name, how bad it is, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from atomml.data.audit.evidence import Evidence

__all__ = ["ERROR", "NOTE", "SEVERITIES", "WARNING", "Finding", "Trap"]

ERROR = "error"
"""Labels or structures are wrong: a model trained on them is wrong too."""

WARNING = "warning"
"""Most likely wrong, or right and in need of a decision."""

NOTE = "note"
"""A fact that other programs trip over and that a reader should know."""

SEVERITIES = (ERROR, WARNING, NOTE)
"""The worst first."""

_NAMED = 10


@dataclass(frozen=True)
class Finding:
    """One trap that a data set holds.

    Attributes:
        trap: Its name, such as ``stress-in-kbar``.
        severity: ``error``, ``warning`` or ``note``.
        sentence: What is wrong, with the numbers that show it.
        advice: What to do.
        entries: The first entries that show it, by index; empty if the set as a whole does.
        n_entries: How many show it.
    """

    trap: str
    severity: str
    sentence: str
    advice: str
    entries: tuple[int, ...] = ()
    n_entries: int = 0

    @classmethod
    def of(cls, trap: str, severity: str, sentence: str, advice: str, entries: ArrayLike = ()) -> Finding:
        """A finding on these entries (indices, or a mask over the set); the first ten are named."""
        found = np.asarray(entries)
        indices = np.flatnonzero(found) if found.dtype == bool else found.astype(np.int64)
        named = tuple(int(index) for index in indices[:_NAMED])
        return cls(trap, severity, sentence, advice, named, len(indices))


Trap = Callable[["Evidence"], Sequence[Finding]]
"""A trap looks at the evidence and returns what it found, most often nothing."""

"""Structures that can't be what they say: other units of length, overlaps, lost atoms, lost periodicity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, WARNING, Finding

__all__ = ["atoms_far_away", "atoms_too_close", "length_unit", "periodicity_lost", "unreadable"]

_NOBLE = frozenset((2, 10, 18, 36, 54, 86))
_LONG, _LONGEST = 1.5, 2.8  # of the sum of covalent radii; bonds are 0.8 to 1.3, and in bohr 1.5 to 2.5
_SHORT = 0.62  # two conversions too many leave 0.42 to 0.62
_OVERLAP = 0.5


def length_unit(evidence: Evidence) -> list[Finding]:
    """Every shortest distance of the set too long or too short by the factor of the bohr."""
    closest = evidence["closest"][_bonded(evidence)]
    if len(closest) < 3:
        return []
    low, middle = float(np.percentile(closest, 10)), float(np.median(closest))
    if low > _LONG and middle < _LONGEST:
        sentence = (
            f"The shortest distance is {middle:.2f} times the sum of the covalent radii in the median "
            f"(a bond is 0.8 to 1.3 times): the positions look as if they were in bohr."
        )
        advice = "Multiply positions and cell by 0.529177 Å."
        return [Finding.of("positions-in-bohr", ERROR, sentence, advice, _bonded(evidence))]
    if np.percentile(closest, 90) < _SHORT and middle > 0.3:
        sentence = (
            f"The shortest distance is {middle:.2f} times the sum of the covalent radii in the median "
            "(a bond is 0.8 to 1.3 times): the positions look as if they were converted from bohr once too "
            "often."
        )
        advice = "Divide positions and cell by 0.529177."
        return [Finding.of("positions-too-small", ERROR, sentence, advice, _bonded(evidence))]
    return []


def _bonded(evidence: Evidence) -> NDArray[np.bool_]:
    """Entries whose surroundings are known and that hold something other than noble gases."""
    noble = np.array([number in _NOBLE for number in evidence.elements], dtype=bool)
    binding = evidence.counts[:, ~noble].sum(axis=1) >= np.maximum(1, 0.5 * evidence["n_atoms"])
    return binding & np.isfinite(evidence["closest"]) & ~evidence.isolated


def atoms_too_close(evidence: Evidence) -> list[Finding]:
    """Atoms nearer than half the sum of their covalent radii."""
    close = evidence["closest"] < _OVERLAP
    if not close.any() or any(one.trap == "positions-too-small" for one in length_unit(evidence)):
        return []
    worst = float(evidence["closest"][close].min())
    sentence = (
        f"In {int(close.sum())} entries atoms lie closer than half the sum of their covalent radii "
        f"(the worst at {worst:.2f} of it)."
    )
    advice = "Leave them out, unless collisions are what the model is for."
    return [Finding.of("atoms-too-close", ERROR, sentence, advice, close)]


def atoms_far_away(evidence: Evidence) -> list[Finding]:
    """Atoms that have left the structure."""
    lost = evidence["n_lost"] > 0
    if not lost.any():
        return []
    sentence = (
        f"In {int(lost.sum())} entries an atom lies far from all others "
        f"(up to {int(evidence['n_lost'][lost].max())} atoms of one): it evaporated, or the cell is wrong."
    )
    advice = "Leave them out, or check cell and positions; a model of short range sees nothing there."
    return [Finding.of("far-away-atoms", WARNING, sentence, advice, lost)]


def periodicity_lost(evidence: Evidence) -> list[Finding]:
    """Cells without periodicity whose atoms are bonded through the faces."""
    lost = evidence["crossing"] > 0.03
    if not lost.any():
        return []
    sentence = (
        f"{int(lost.sum())} entries have a cell that isn't periodic, and bonds through its faces: "
        "the flag pbc got lost."
    )
    return [
        Finding.of(
            "periodicity-lost", ERROR, sentence, 'Set pbc="T T T" where the cell is a crystal\'s.', lost
        )
    ]


def unreadable(evidence: Evidence) -> list[Finding]:
    """Structures without sense, such as a flat periodic cell."""
    if not evidence.unreadable:
        return []
    first = next(iter(evidence.unreadable.values()))
    sentence = f"{len(evidence.unreadable)} entries are no structures: {first}"
    return [Finding.of("no-structure", ERROR, sentence, "Leave them out.", sorted(evidence.unreadable))]

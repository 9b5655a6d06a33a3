"""What two sets share: exact and near duplicates, neighbours in time, compositions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.dataset import Dataset
from atomml.data.fingerprint import structure_fingerprint
from atomml.data.split import Indices, SplitFacts

__all__ = ["NEAR", "Leak", "find_leaks"]

NEAR = 1e-3
"""Distance of two fingerprints over their length, below which structures count as nearly the same.

Medians measured: silicon and molybdenum whose atoms are each moved by 0.01 Å in random directions
lie 7e-4 and 5e-4 from where they were; acetylacetone, moved by 0.003 Å, 7e-4, by 0.01 Å 2e-3.
Neighbours in its dynamics at 300 K lie 4e-3 apart and more.
"""


@dataclass(frozen=True)
class Leak:
    """How many entries of ``second`` have a counterpart in ``first``.

    Attributes:
        first: Name of a set, such as ``train``.
        second: Name of another, such as ``test``.
        exact: Entries that are an exact duplicate.
        near: Entries whose fingerprint is near that of one of the same formula (exact ones included).
        in_time: Entries with a frame of the same trajectory within the gap.
        same_formula: Entries whose reduced formula is there too.
        n_entries: Entries of ``second``.
        n_compared: Of those, how many fingerprints were compared; fewer than all in a large set.
    """

    first: str
    second: str
    exact: int
    near: int
    in_time: int
    same_formula: int
    n_entries: int
    n_compared: int


def find_leaks(
    data: Dataset,
    facts: SplitFacts,
    sets: Sequence[tuple[str, Indices]],
    *,
    gap: int = 10,
    most_compared: int = 20_000,
    seed: int = 0,
) -> list[Leak]:
    """Compare each pair of sets.

    Args:
        data: The whole.
        facts: Of :func:`atomml.data.split.gather_facts`.
        sets: Name and indices of each.
        gap: Frames within which two entries of one trajectory are neighbours in time.
        most_compared: Entries of one set whose fingerprints are compared; more are drawn from at random.
        seed: For that.
    """
    generator = np.random.default_rng(seed)
    drawn = {name: _draw(indices, most_compared, generator) for name, indices in sets}
    prints = {
        name: np.array([structure_fingerprint(data[int(i)].atoms) for i in rows])
        for name, rows in drawn.items()
    }
    leaks = []
    for k, (first, one) in enumerate(sets):
        for second, other in sets[k + 1 :]:
            near = _n_near(
                prints[first], prints[second], [facts.formulas[i] for i in drawn[first]],
                [facts.formulas[i] for i in drawn[second]],
            )  # fmt: skip
            leaks.append(
                Leak(
                    first,
                    second,
                    exact=_n_shared(facts.digests, one, other),
                    near=near,
                    in_time=_n_in_time(facts, one, other, gap),
                    same_formula=_n_shared(facts.formulas, one, other),
                    n_entries=len(other),
                    n_compared=len(drawn[second]),
                )
            )
    return leaks


def _draw(indices: Indices, most: int, generator: np.random.Generator) -> Indices:
    if len(indices) <= most:
        return indices
    return np.sort(generator.choice(indices, most, replace=False))


def _n_shared(names: Sequence[object], one: Indices, other: Indices) -> int:
    there = {names[i] for i in one}
    return sum(names[i] in there for i in other)


def _n_near(
    one: NDArray[np.float64], other: NDArray[np.float64], formulas: list[str], other_formulas: list[str]
) -> int:
    """Entries of the other set with a fingerprint of the same formula close by."""
    from scipy.spatial import cKDTree

    found = 0
    rows: dict[str, list[int]] = {}
    for i, formula in enumerate(formulas):
        rows.setdefault(formula, []).append(i)
    wanted: dict[str, list[int]] = {}
    for i, formula in enumerate(other_formulas):
        if formula in rows:
            wanted.setdefault(formula, []).append(i)
    for formula, mine in wanted.items():
        points = other[mine]
        distance, _ = cKDTree(one[rows[formula]]).query(points)
        found += int((distance <= NEAR * np.linalg.norm(points, axis=1)).sum())
    return found


def _n_in_time(facts: SplitFacts, one: Indices, other: Indices, gap: int) -> int:
    times: dict[str, list[int]] = {}
    for i in one:
        if facts.trajectories[i]:
            times.setdefault(facts.trajectories[i], []).append(int(facts.frames[i]))
    ordered = {name: np.sort(values) for name, values in times.items()}
    found = 0
    for i in other:
        there = ordered.get(facts.trajectories[i]) if facts.trajectories[i] else None
        if there is None:
            continue
        place = int(np.searchsorted(there, facts.frames[i]))
        near = there[max(place - 1, 0) : place + 1]
        found += bool((np.abs(near - facts.frames[i]) <= gap).any())
    return found

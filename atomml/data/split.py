"""Training, validation and test sets that share nothing that they should not.

All kinds of split deal out *units*, sets of entries that must stay together: exact duplicates, one
composition, one scaffold, one trajectory or one block of it. Units go, the largest first, to the
set that lacks most; ties are broken by the seed. The result depends on the entries and the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.dataset import Dataset
from atomml.data.duplicates import structure_digest
from atomml.errors import InputError, OptionError

__all__ = ["KINDS", "SplitFacts", "gather_facts", "split_entries"]

KINDS = ("random", "composition", "trajectory", "scaffold")
"""What a split can go by."""

_ENOUGH_TRAJECTORIES = 3  # of them for each set, before whole ones are dealt out

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SplitFacts:
    """What a split needs to know of each entry, in the order of the set.

    Attributes:
        digests: Equal for exact duplicates.
        formulas: Reduced formula.
        trajectories: Name of the trajectory; "" for an entry that stands alone.
        frames: Place in the file.
        scaffolds: Murcko scaffold; empty unless asked for.
    """

    digests: list[bytes]
    formulas: list[str]
    trajectories: list[str]
    frames: Indices
    scaffolds: list[str]

    def __len__(self) -> int:
        return len(self.digests)


def gather_facts(data: Dataset, scaffolds: bool = False) -> SplitFacts:
    """One pass over a set.

    Args:
        data: The set.
        scaffolds: Whether to find scaffolds, which takes RDKit.

    Raises:
        InputError: An entry without a scaffold, because it is periodic or no molecule.
        MissingExtraError: RDKit is not installed.
    """
    digests, formulas, trajectories, frames, found = [], [], [], [], []
    for entry in data:
        digests.append(structure_digest(entry))
        formulas.append(entry.atoms.symbols.formula.reduce()[0].format("hill"))
        trajectories.append(entry.trajectory)
        frames.append(entry.frame)
        if scaffolds:
            from atomml.data.scaffolds import scaffold

            found.append(scaffold(entry.atoms, entry.where))
    return SplitFacts(digests, formulas, trajectories, np.array(frames, dtype=np.int64), found)


def split_entries(
    facts: SplitFacts, fractions: Sequence[float], by: str = "random", seed: int = 0, gap: int = 10
) -> list[Indices]:
    """Indices of each set, ascending.

    Args:
        facts: Of :func:`gather_facts`.
        fractions: Share of each set; they add up to 1.
        by: One of :data:`KINDS`. ``trajectory`` deals out whole trajectories where there are many,
            and else cuts each into one block a set, with ``gap`` frames left out between them.
        seed: Breaks ties; the same seed gives the same split.
        gap: Frames in time between two sets.

    Raises:
        OptionError: Fractions that do not add up to 1, or an unknown kind.
        InputError: Too few units for a split of this kind.
    """
    fractions = _checked(fractions)
    if by not in KINDS:
        raise OptionError(f"A split by {by!r} is unknown: give one of {', '.join(KINDS)}.")
    generator = np.random.default_rng(seed)
    if by == "trajectory":
        return _by_trajectory(facts, fractions, generator, gap)
    names: dict[str, Sequence[object]] = {
        "random": facts.digests,
        "composition": facts.formulas,
        "scaffold": facts.scaffolds,
    }
    units = _units(names[by])
    if len(units) < len(fractions):
        what = "entries" if by == "random" else f"{by}s"
        raise InputError(
            f"There are {len(units)} different {what} for {len(fractions)} sets: "
            "give more data, or split by something else."
        )
    return _deal(units, fractions, generator)


def _checked(fractions: Sequence[float]) -> list[float]:
    values = [float(value) for value in fractions]
    if len(values) < 2 or any(not 0 < value < 1 for value in values) or abs(sum(values) - 1.0) > 1e-6:
        raise OptionError(
            f"The fractions {', '.join(f'{value:g}' for value in values)} are no split: "
            "give two or more, each between 0 and 1, that add up to 1."
        )
    return values


def _units(names: Sequence[object]) -> list[Indices]:
    """Entries of the same name together, in the order of their first."""
    members: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return [np.array(unit, dtype=np.int64) for unit in members.values()]


def _deal(
    units: Sequence[Indices],
    fractions: Sequence[float],
    generator: np.random.Generator,
    dealt: Sequence[Indices] = (),
) -> list[Indices]:
    """Each unit to the set that lacks most, the largest first; no set stays empty while units last."""
    n_entries = sum(map(len, units)) + sum(map(len, dealt))
    wanted = np.array(fractions) * n_entries
    sets: list[list[Indices]] = [[part] for part in dealt] or [[] for _ in fractions]
    sizes = np.array([sum(map(len, part)) for part in sets], dtype=np.float64)
    order = generator.permutation(len(units))
    order = order[np.argsort([-len(units[k]) for k in order], kind="stable")]
    for left, k in zip(range(len(order), 0, -1), order, strict=True):
        empty = np.flatnonzero(sizes == 0)
        lacking = wanted - sizes
        if len(empty) and left <= len(empty):
            lacking[sizes > 0] = -np.inf
        best = int(np.argmax(lacking))
        sets[best].append(units[k])
        sizes[best] += len(units[k])
    return [np.sort(np.concatenate(part)) if part else np.empty(0, dtype=np.int64) for part in sets]


def _by_trajectory(
    facts: SplitFacts, fractions: Sequence[float], generator: np.random.Generator, gap: int
) -> list[Indices]:
    units = _units([name or index for index, name in enumerate(facts.trajectories)])
    runs = [unit for unit in units if facts.trajectories[unit[0]]]
    alone = [unit for unit in units if not facts.trajectories[unit[0]]]
    if not runs:
        raise InputError("No entry belongs to a trajectory: split at random or by composition.")
    largest = max(map(len, runs))
    if len(runs) >= _ENOUGH_TRAJECTORIES * len(fractions) and largest <= min(fractions) * len(facts):
        return _deal(units, fractions, generator)
    blocks: list[list[Indices]] = [[] for _ in fractions]
    for run in runs:
        ordered = run[np.argsort(facts.frames[run], kind="stable")]
        for place, block in _cut(ordered, facts.frames[ordered], fractions, generator, gap):
            blocks[place].append(block)
    dealt = [np.concatenate(part) if part else np.empty(0, dtype=np.int64) for part in blocks]
    return _deal(alone, fractions, generator, dealt)


def _cut(
    run: Indices, frames: Indices, fractions: Sequence[float], generator: np.random.Generator, gap: int
) -> list[tuple[int, Indices]]:
    """One trajectory in blocks, in an order of the sets drawn by the seed; the gaps belong to none.

    Short ones, whose gaps would take half of the frames, go to one set, drawn by the fractions.
    """
    if len(run) < 2 * gap * (len(fractions) - 1) or len(run) < 2 * len(fractions):
        return [(int(generator.choice(len(fractions), p=np.array(fractions) / sum(fractions))), run)]
    order = generator.permutation(len(fractions))
    edges = np.rint(np.cumsum(np.array(fractions)[order]) * len(run)).astype(int)
    starts = np.concatenate([[0], edges[:-1]])
    blocks = []
    last = None  # the last frame of the block before
    for place, start, end in zip(order, starts, edges, strict=True):
        block, times = run[start:end], frames[start:end]
        if last is not None:
            block = block[times - last > gap]
        if len(block):
            last = int(frames[end - 1])
            blocks.append((int(place), block))
    return blocks

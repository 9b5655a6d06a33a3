"""A part of the data held out for validation, when the user gives none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from atomml.data.dataset import Dataset
from atomml.errors import OptionError

__all__ = ["Holdout", "hold_out"]


@dataclass(frozen=True)
class Holdout:
    """Which entries are trained on and which are held out.

    Attributes:
        train: Indices, ascending.
        valid: Indices, ascending.
        sentence: How they were chosen.
    """

    train: list[int]
    valid: list[int]
    sentence: str


def hold_out(dataset: Dataset, fraction: float, seed: int) -> Holdout:
    """Hold out about ``fraction`` of the entries: whole trajectories, and single structures of every group.

    Neighbours in time are nearly the same structure, so a trajectory is never divided; but if there
    is only one and nothing else, its end is held out.

    Raises:
        OptionError: The set is too small for it.
    """
    n = len(dataset)
    wanted = round(fraction * n)
    if wanted < 1 or wanted >= n:
        raise OptionError(
            f"valid_fraction {fraction:g} of {n} structures leaves nothing to train on or to validate with: "
            "give --valid, another fraction, or 0 to do without."
        )
    units = _units(dataset)
    if len(units) == 1:
        text = f"The last {wanted} of {n} frames of the only trajectory are held out for validation."
        return Holdout(list(range(n - wanted)), list(range(n - wanted, n)), text)
    random = np.random.default_rng([seed, 2])
    held: list[int] = []
    by_group = defaultdict(list)
    for group, indices in units:
        by_group[group].append(indices)
    for group in sorted(by_group):
        held += _from_group(by_group[group], fraction, random)
    if not held:  # groups of a few structures each: one unit of all
        held = list(units[int(random.integers(len(units)))][1])
    chosen = set(held)
    train = [i for i in range(n) if i not in chosen]
    text = (
        f"{len(chosen)} of {n} structures are held out for validation: {fraction:.0%} of every group, "
        f"trajectories undivided, seed {seed}."
    )
    return Holdout(train, sorted(chosen), text)


def _units(dataset: Dataset) -> list[tuple[str, list[int]]]:
    """What is not divided: a trajectory, or a structure that stands alone; with its group."""
    units: dict[tuple[str, str, int], list[int]] = {}
    groups: dict[tuple[str, str, int], str] = {}
    for index, entry in enumerate(dataset):
        alone = index if not entry.trajectory else -1
        key = (entry.source if entry.trajectory else "", entry.trajectory, alone)
        units.setdefault(key, []).append(index)
        groups.setdefault(key, entry.group)
    return [(groups[key], indices) for key, indices in units.items()]


def _from_group(units: list[list[int]], fraction: float, random: np.random.Generator) -> list[int]:
    """Units in random order until the fraction is reached; never all of a group."""
    wanted = fraction * sum(len(unit) for unit in units)
    held: list[int] = []
    for number in random.permutation(len(units))[: len(units) - 1]:
        unit = units[int(number)]
        if len(held) + len(unit) / 2 > wanted:
            continue
        held += unit
    return held

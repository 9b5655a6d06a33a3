"""A part of the data held out for validation, when the user gives none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomml.data.dataset import Dataset
from atomml.data.split import gather_facts, split_entries
from atomml.errors import InputError, OptionError
from atomml.train.references import is_isolated_atom

__all__ = ["Holdout", "hold_out"]

_GAP = 1  # frames; neighbours in time are nearly the same structure


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
    """Hold out about ``fraction`` of the entries, one at least: by trajectory if there are any, or at random.

    Isolated atoms are trained on: they are reference energies, and each is the only one of its element.

    Args:
        dataset: All entries.
        fraction: Share that is held out.
        seed: Of the choice.

    Raises:
        OptionError: The set is too small for it.
    """
    alone = {i for i in np.flatnonzero(dataset.n_atoms == 1).tolist() if is_isolated_atom(dataset[i])}
    others = np.array([i for i in range(len(dataset)) if i not in alone], dtype=np.int64)
    facts, n = gather_facts(dataset.subset(others)), len(others)
    by = "trajectory" if any(facts.trajectories) else "random"
    least = 1 + _GAP if by == "trajectory" else 1  # at a cut, the gap is taken out of what is held out
    share = max(fraction, least / n) if n > least else fraction
    try:
        parts = split_entries(facts, [1 - share, share], by=by, seed=seed, gap=_GAP)
    except InputError as error:
        raise OptionError(f"Nothing can be held out of {n} structures ({error}): give --valid.") from error
    train, valid = (others[part].tolist() for part in parts)
    if not train or not valid:
        raise OptionError(
            f"valid_fraction {fraction:g} of {n} structures leaves nothing to train on or to validate with: "
            "give --valid, another fraction, or 0 to do without."
        )
    how = "stretches of trajectories and single structures" if by == "trajectory" else "drawn at random"
    text = f"{len(valid)} of {n} structures are held out for validation: {how}, seed {seed}."
    if alone:
        text += f" Isolated atoms ({len(alone)}) are trained on."
    unused = n - len(train) - len(valid)
    if unused:
        text += f" {unused} beside them in time are left out of both sets."
    return Holdout(sorted([*train, *alone]), valid, text)

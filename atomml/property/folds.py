"""Folds of a study: at random, or by prototype, so that no kind of structure is in training and test."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

__all__ = ["grouped_folds", "prototype_of", "random_folds"]

Ints = NDArray[np.int64]


def random_folds(n: int, n_folds: int, seed: int) -> list[Ints]:
    """Places of the test structures of each fold; every place once."""
    order = np.random.default_rng([seed, 5]).permutation(n)
    return [np.sort(part) for part in np.array_split(order, n_folds)]


def grouped_folds(groups: Sequence[str], n_folds: int, seed: int) -> list[Ints]:
    """The same with each group whole in one fold; the largest are dealt first, to the smallest fold.

    Args:
        groups: ``(n,)`` group of each structure.
        n_folds: How many; folds may stay empty where there are fewer groups.
        seed: Decides between groups of one size.
    """
    names, place, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.lexsort((np.random.default_rng([seed, 6]).random(len(names)), -counts))
    sizes, fold_of = np.zeros(n_folds), np.zeros(len(names), dtype=np.int64)
    for group in order:
        fold = int(np.argmin(sizes))
        fold_of[group] = fold
        sizes[fold] += counts[group]
    return [np.flatnonzero(fold_of[place] == fold) for fold in range(n_folds)]


def prototype_of(atoms: Atoms) -> str:
    """Stoichiometry without names, and space group: ``AB-225`` for rocksalt; ``AB`` for a molecule.

    Structures of one prototype share symmetry and ratio of elements, not always the sites that they occupy.
    """
    from atomml.data.symmetry import symmetry_dataset

    counts = np.unique(atoms.numbers, return_counts=True)[1]
    counts = np.sort(counts // np.gcd.reduce(counts))
    letters = [ascii_uppercase[k % 26] for k in range(len(counts))]
    name = "".join(f"{a}{n if n > 1 else ''}" for a, n in zip(letters, counts, strict=True))
    if not atoms.pbc.all():
        return name
    found = symmetry_dataset(atoms, 0.01)
    return f"{name}-{found.number if found is not None else 1}"

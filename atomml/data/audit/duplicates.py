"""Entries that are there twice, by fingerprint: with the same labels, or with others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.evidence import Evidence, parse_composition
from atomml.data.audit.finding import ERROR, NOTE, Finding

__all__ = ["Twins", "duplicates", "find_twins"]

_SAME = 2e-6  # of a fingerprint; eight decimals of positions leave 1e-7, and 0.01 Å makes 1e-4
_NEAR = 1e-3
_NEIGHBOURS = 4
_ENERGY = 1e-3  # eV/atom
_ENERGY_CELLS = 5e-3  # eV/atom, for the same crystal in two cells: other k-points
_FORCE = 0.05  # eV/Å


@dataclass(frozen=True)
class Twins:
    """Pairs of entries with one fingerprint.

    Attributes:
        first: ``(n,)`` indices, the smaller of each pair.
        second: ``(n,)``.
        n_near: Entries that have another within a fingerprint distance of 0.001, about 0.01 Å.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    n_near: int


def find_twins(evidence: Evidence) -> Twins:
    """Nearest fingerprints within each formula, charge, spin and periodicity."""
    from scipy.spatial import cKDTree

    pairs: set[tuple[int, int]] = set()
    n_near = 0
    for rows in _alike(evidence):
        points = evidence.fingerprints[rows]
        k = min(_NEIGHBOURS, len(rows))
        distance, neighbour = cKDTree(points).query(points, k=k, distance_upper_bound=_NEAR)
        near = (distance < _NEAR) & (neighbour != np.arange(len(rows))[:, None])
        n_near += int(near.any(axis=1).sum())
        for i, column in zip(*np.nonzero(near & (distance < _SAME)), strict=True):
            a, b = int(rows[i]), int(rows[neighbour[i, column]])
            pairs.add((min(a, b), max(a, b)))
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Twins(table[:, 0], table[:, 1], n_near)


def _alike(evidence: Evidence) -> list[NDArray[np.int64]]:
    """Entries of one reduced formula, charge, spin and periodicity; groups of two and more."""
    reduced = []
    for word in evidence.words["composition"]:
        parts = parse_composition(word)
        divisor = int(np.gcd.reduce([count for _, count in parts])) if parts else 1
        reduced.append(" ".join(f"{number}:{count // divisor}" for number, count in parts))
    names = {name: k for k, name in enumerate(dict.fromkeys(reduced))}
    kind = np.array([names[name] for name in reduced], dtype=np.float64)[evidence.codes["composition"]]
    keys = np.stack([kind, evidence["charge"], evidence["spin"], evidence["n_periodic"]], axis=1)
    used = np.flatnonzero(np.isfinite(evidence.fingerprints[:, 0]) & ~evidence.isolated)
    _, place = np.unique(keys[used], axis=0, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(place.ravel()[order])) + 1
    return [used[part] for part in np.split(order, cuts) if len(part) > 1]


def duplicates(evidence: Evidence) -> list[Finding]:
    """The same structure again; an error where its labels differ."""
    twins = find_twins(evidence)
    if not len(twins.first):
        return []
    differs, worst = _labels_differ(evidence, twins)
    found = []
    if differs.any():
        sentence = (
            f"{int(differs.sum())} pairs of entries are the same structure with different labels, "
            f"up to {1000 * worst:.1f} meV/atom apart."
        )
        advice = "Find out which is right (k-points, convergence, functional, spin) and keep one."
        entries = np.unique(np.concatenate([twins.first[differs], twins.second[differs]]))
        found.append(Finding.of("duplicates-disagree", ERROR, sentence, advice, entries))
    again = np.unique(twins.second[~differs])
    if len(again):
        sentence = (
            f"{len(again)} entries are a structure that is there before, rotated, moved or repeated or not."
        )
        advice = "They weigh double, and leak from training into test: split by structure, or drop them."
        found.append(Finding.of("duplicates", NOTE, sentence, advice, again))
    return found


def _labels_differ(evidence: Evidence, twins: Twins) -> tuple[NDArray[np.bool_], float]:
    a, b = twins.first, twins.second
    energy = evidence["energy"] / evidence["n_atoms"]
    gap = np.nan_to_num(np.abs(energy[a] - energy[b]))
    same_size = evidence["n_atoms"][a] == evidence["n_atoms"][b]
    force = np.sqrt(evidence["mean_square_force"])
    off = np.nan_to_num(np.abs(force[a] - force[b])) > _FORCE + 0.02 * np.nan_to_num(force[a])
    differs = (gap > np.where(same_size, _ENERGY, _ENERGY_CELLS)) | off
    return differs, float(gap[differs].max()) if differs.any() else 0.0

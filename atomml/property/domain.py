"""How far a structure lies from those a model was trained on, and whether it is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.data.fingerprint import structure_fingerprint
from atomml.data.leakage import NEAR

__all__ = ["Domain", "Known", "duplicates_within", "fingerprints_of", "make_domain"]

Floats = NDArray[np.float64]

_NEIGHBOURS = 5
_MOST = 5000
_HELD = 0.95


@dataclass(frozen=True)
class Domain:
    """The training set in the space of a model's features.

    Attributes:
        features: ``(n, n_features)`` of training structures, each over its scale.
        scale: ``(n_features,)``.
        reach: Mean distance to the five nearest training structures below which 95% of structures lay that
            training did not see but that were drawn like it.
    """

    features: Floats
    scale: Floats
    reach: float

    def distance(self, features: Floats) -> Floats:
        """``(m,)`` mean distance of each to its five nearest, over the reach: beyond 1 it is outside."""
        return _near(features / self.scale, self.features) / self.reach


def make_domain(train: Floats, held_out: Floats, seed: int = 0) -> Domain:
    """From features of the training structures, and of others that were drawn like them.

    Args:
        train: ``(n, n_features)``; of more than 5,000 a seeded part is kept.
        held_out: ``(m, n_features)``; with none, training structures are measured without themselves.
        seed: Of the part.
    """
    if len(train) > _MOST:
        train = train[np.random.default_rng(seed).choice(len(train), _MOST, replace=False)]
    spread = train.std(axis=0)
    scale = np.where(spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300), spread, 1.0)
    scale = scale * np.sqrt(train.shape[1])
    scaled = train / scale
    found = _near(held_out / scale, scaled) if len(held_out) else _near(scaled, scaled, skip=1)
    reach = float(np.quantile(found, _HELD)) if len(found) else 1.0
    return Domain(scaled, scale, max(reach, 1e-12))


def _near(points: Floats, others: Floats, skip: int = 0) -> Floats:
    """Mean distance to the nearest few of the others; ``skip`` leaves out the very nearest."""
    k = min(_NEIGHBOURS + skip, len(others))
    if k <= skip:
        return np.zeros(len(points))
    found = np.empty(len(points))
    for start in range(0, len(points), 256):
        part = points[start : start + 256]
        squared = (part**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * part @ others.T
        nearest = np.sort(np.partition(np.maximum(squared, 0.0), k - 1, axis=1)[:, :k], axis=1)
        found[start : start + 256] = np.sqrt(nearest[:, skip:]).mean(axis=1)
    return found


def fingerprints_of(structures: Sequence[Atoms]) -> Floats:
    """``(n, n_features)`` of :func:`atomml.data.fingerprint.structure_fingerprint`."""
    return np.stack([structure_fingerprint(atoms) for atoms in structures])


@dataclass(frozen=True)
class Known:
    """Structures that a model was trained on, by which it knows them again.

    Attributes:
        fingerprints: ``(n, n_features)``.
        formulas: Reduced formula of each.
        ids: What each was called.
    """

    fingerprints: Floats
    formulas: tuple[str, ...]
    ids: tuple[str, ...]

    @classmethod
    def of(cls, structures: Sequence[Atoms], ids: Sequence[str]) -> Known:
        """From the structures themselves."""
        return cls(fingerprints_of(structures), tuple(map(formula_of, structures)), tuple(ids))

    def same_as(self, atoms: Atoms) -> str | None:
        """What the training structure was called that this one is, or nearly is; None for a new one.

        The same formula, and fingerprints nearer than :data:`atomml.data.leakage.NEAR`: rotations, shifts,
        orders of atoms and supercells do not tell structures apart.
        """
        formula = formula_of(atoms)
        candidates = [k for k, one in enumerate(self.formulas) if one == formula]
        if not candidates:
            return None
        own = structure_fingerprint(atoms)
        off = np.linalg.norm(self.fingerprints[candidates] - own, axis=1)
        best = int(off.argmin())
        near = off[best] <= NEAR * max(float(np.linalg.norm(own)), 1e-300)
        return self.ids[candidates[best]] if near else None


def formula_of(atoms: Atoms) -> str:
    """The reduced formula, elements in alphabetical order."""
    symbols, counts = np.unique(list(atoms.symbols), return_counts=True)
    common = int(np.gcd.reduce(counts))
    return "".join(f"{s}{c // common if c > common else ''}" for s, c in zip(symbols, counts, strict=True))


def duplicates_within(structures: Sequence[Atoms], ids: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names of structures that are the same, or nearly."""
    fingerprints, formulas = fingerprints_of(structures), [formula_of(atoms) for atoms in structures]
    groups: dict[str, list[int]] = {}
    for k, formula in enumerate(formulas):
        groups.setdefault(formula, []).append(k)
    pairs = []
    for members in groups.values():
        for place, one in enumerate(members):
            for other in members[:place]:
                off = float(np.linalg.norm(fingerprints[one] - fingerprints[other]))
                if off <= NEAR * float(np.linalg.norm(fingerprints[one])):
                    pairs.append((ids[other], ids[one]))
    return pairs

"""Features by degree, and how degrees couple.

Features are ``(components, rows, channels)``. Natural ones have a component for each order of each degree l
from 0, with parity (-1)^l; unnatural ones, of parity -(-1)^l, go from l = 1 to the highest but one: blocks of
orbitals need no more. Orders run from -l to l in the frame of :data:`AXES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.electronic.orbitals import AXES, coupling

__all__ = ["Couplings", "Path", "by_degree", "couplings", "harmonics", "n_components", "paths_of"]


@dataclass(frozen=True)
class Path:
    """One way to couple two natural degrees to a third.

    Attributes:
        first, second, result: Degrees.
    """

    first: int
    second: int
    result: int

    @property
    def natural(self) -> bool:
        """Whether the result has parity (-1)^l."""
        return (self.first + self.second + self.result) % 2 == 0


def n_components(max_degree: int, lowest: int = 0) -> int:
    """Components of all degrees from the lowest to the highest."""
    return (max_degree + 1) ** 2 - lowest**2


def by_degree(x: Tensor, max_degree: int, lowest: int = 0) -> tuple[Tensor, ...]:
    """The components of each degree, of features that hold these and no others."""
    return torch.split(x, [2 * d + 1 for d in range(lowest, max_degree + 1)])


def harmonics(vectors: Tensor, max_degree: int) -> Tensor:
    """Real spherical harmonics of directions, ``(components, n)``; each degree has norm sqrt(2 l + 1)."""
    from e3nn import o3

    turned = vectors[:, list(AXES)]
    degrees = list(range(max_degree + 1))
    values = o3.spherical_harmonics(degrees, turned, normalize=True, normalization="component")
    return values.T.contiguous()


@dataclass(frozen=True)
class Couplings:
    """Non-zero coefficients of several paths, as the kernels read them; sorted by path and component.

    A segment is what goes into one component by one path. Unnatural components follow the natural ones.

    Attributes:
        paths: The paths.
        max_degree: Of the features.
        start: ``(n_segments + 1,)`` first term of each segment.
        path: ``(n_segments,)`` its path.
        result: ``(n_segments,)`` its component.
        first, second: ``(n_terms,)`` components that are multiplied.
        value: ``(n_terms,)`` coefficient.
    """

    paths: tuple[Path, ...]
    max_degree: int
    start: NDArray[np.int64]
    path: NDArray[np.int64]
    result: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    value: NDArray[np.float64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """``(n_paths,)`` number of non-zero coefficients."""
        terms = np.diff(self.start)
        return np.bincount(self.path, weights=terms, minlength=len(self.paths)).astype(np.float64)

    @property
    def n_results(self) -> int:
        """Components of the result, natural and unnatural."""
        return n_components(self.max_degree) + n_components(self.max_degree - 1, 1)


def paths_of(max_first: int, max_second: int, max_degree: int, *, unnatural: bool) -> tuple[Path, ...]:
    """All paths, with or without those to unnatural degrees."""
    found = [
        Path(a, b, c)
        for a in range(max_first + 1)
        for b in range(max_second + 1)
        for c in range(abs(a - b), min(a + b, max_degree) + 1)
    ]
    return tuple(p for p in found if p.natural or (unnatural and p.result < max_degree))


@lru_cache(maxsize=256)
def couplings(paths: tuple[Path, ...], max_degree: int) -> Couplings:
    """The table of some paths; each result is scaled to the size of one product of unit components."""
    start, path, result, first, second, value = [0], [], [], [], [], []
    for number, one in enumerate(paths):
        table = coupling(one.first, one.second, one.result)
        offset = one.result**2 if one.natural else n_components(max_degree) + one.result**2 - 1
        for m in range(2 * one.result + 1):
            rows, columns = np.nonzero(table[:, :, m])
            if not len(rows):
                continue
            first += (one.first**2 + rows).tolist()
            second += (one.second**2 + columns).tolist()
            value += table[rows, columns, m].tolist()
            start.append(len(first))
            path.append(number)
            result.append(offset + m)
    a, b, c, d, e = (np.array(entries, np.int64) for entries in (start, path, result, first, second))
    return Couplings(paths, max_degree, a, b, c, d, e, np.array(value))

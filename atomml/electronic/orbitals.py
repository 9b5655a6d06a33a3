"""Order of orbitals, and blocks of them as coefficients of degrees: an orthogonal change of basis.

A block of a shell of degree a and one of degree b is the product of both, and couples to the degrees |a - b|
to a + b. So the block of two atoms, whatever their basis set, is as many coefficients as it has numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "AXES",
    "BlockLayout",
    "Shells",
    "block_layout",
    "coupling",
    "highest_degree",
    "n_orbitals",
    "orbital_order",
]

AXES = (1, 2, 0)
"""Which Cartesian axes e3nn's are: with x, y, z relabelled y, z, x its real harmonics of order -l ... l are
those of quantum chemistry, and a p shell in PySCF's order (x, y, z) becomes (y, z, x)."""

Shells = tuple[int, ...]
"""Degrees of an element's shells, in PySCF's order."""


@lru_cache(maxsize=512)
def coupling(first: int, second: int, result: int) -> NDArray[np.float64]:
    """Real Clebsch-Gordan coefficients ``(2 l1 + 1, 2 l2 + 1, 2 l3 + 1)``, orthonormal in the first two."""
    from e3nn import o3

    table: NDArray[np.float64] = o3.wigner_3j(first, second, result, dtype=torch.float64).numpy()
    return np.ascontiguousarray(np.where(np.abs(table) < 1e-12, 0.0, table) * np.sqrt(2 * result + 1))


def n_orbitals(shells: Shells) -> int:
    """Orbitals of an element."""
    return sum(2 * degree + 1 for degree in shells)


def highest_degree(elements: Iterable[Shells]) -> int:
    """Of the features that blocks of these elements couple to: twice that of their shells, 2 at least."""
    return max(2, *(2 * degree for shells in elements for degree in shells))


def orbital_order(shells: Shells) -> NDArray[np.int64]:
    """Positions in PySCF's order of the orbitals in the order of :data:`AXES`.

    PySCF's p shells are x, y, z; all others run from order -l to l already. ``matrix[order][:, order]`` is
    the matrix here.
    """
    order: list[int] = []
    for degree in shells:
        own = np.arange(2 * degree + 1) if degree != 1 else np.array(AXES)
        order += (len(order) + own).tolist()
    return np.array(order, np.int64)


@dataclass(frozen=True)
class BlockLayout:
    """The coefficients of a pair of elements.

    Attributes:
        rows, columns: Orbitals of both.
        degrees: Of each path its result's degree; by degree, natural before unnatural.
        natural: Of each path whether its result has parity (-1)^l.
        start: ``(n_paths + 1,)`` first coefficient of each path.
        basis: ``(rows * columns, n_coefficients)``, orthogonal: coefficients to the block, flattened, in
            PySCF's order.
        groups: Degree, naturalness, and first and last path of each run of equal ones.
    """

    rows: int
    columns: int
    degrees: tuple[int, ...]
    natural: tuple[bool, ...]
    start: NDArray[np.int64]
    basis: torch.Tensor
    groups: tuple[tuple[int, bool, int, int], ...]

    @property
    def n_paths(self) -> int:
        """Coefficients up to their orders."""
        return len(self.degrees)


@lru_cache(maxsize=4096)
def block_layout(first: Shells, second: Shells) -> BlockLayout:
    """The layout of a pair of elements by their shells."""
    starts = [np.concatenate([[0], np.cumsum([2 * d + 1 for d in shells])]) for shells in (first, second)]
    n, m = n_orbitals(first), n_orbitals(second)
    found = [
        (c, (a + b + c) % 2 == 1, i, j)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        for c in range(abs(a - b), a + b + 1)
    ]
    found.sort()
    columns = []
    for c, _, i, j in found:
        table = coupling(first[i], second[j], c)
        for k in range(2 * c + 1):
            block = np.zeros((n, m))
            rows, cols = (starts[s][q] for s, q in ((0, i), (1, j)))
            block[rows : rows + table.shape[0], cols : cols + table.shape[1]] = table[:, :, k]
            columns.append(_in_pyscf_order(block, first, second).ravel())
    degrees = tuple(c for c, _, _, _ in found)
    natural = tuple(not odd for _, odd, _, _ in found)
    kinds = list(zip(degrees, natural, strict=True))
    groups = []
    for kind in dict.fromkeys(kinds):
        begin = kinds.index(kind)
        groups.append((*kind, begin, begin + kinds.count(kind)))
    start = np.concatenate([[0], np.cumsum([2 * d + 1 for d in degrees])]).astype(np.int64)
    basis = torch.from_numpy(np.stack(columns, axis=1))
    return BlockLayout(n, m, degrees, natural, start, basis, tuple(groups))


def _in_pyscf_order(block: NDArray[np.float64], first: Shells, second: Shells) -> NDArray[np.float64]:
    """Undo :func:`orbital_order` on rows and columns."""
    found = np.empty_like(block)
    found[np.ix_(orbital_order(first), orbital_order(second))] = block
    return found

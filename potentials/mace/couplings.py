"""Generalised Clebsch-Gordan coefficients: powers of features coupled to one irrep.

Batatia et al., NeurIPS 2022, eq. 10: features of nu factors are coupled from the left, ((1 2) 3) ..., through
every intermediate irrep. Because all factors are the same features, coefficients are kept per monomial, that
is summed over the orders of its factors, and monomials that no coupling uses are dropped.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from atomml.potentials.mace.irreps import clebsch_gordan

__all__ = ["Coupling", "coupling"]

Irrep = tuple[int, int]


@dataclass(frozen=True)
class Coupling:
    """How one power of features couples to an irrep.

    Attributes:
        factors: ``(n_monomials, order)`` components that are multiplied, ascending in each row.
        coefficients: ``(n_monomials, n_paths, 2l + 1)`` float64.
    """

    factors: Tensor
    coefficients: Tensor

    @property
    def n_paths(self) -> int:
        """Number of ways to couple; vanishing and dependent ones count."""
        return int(self.coefficients.shape[1])


@lru_cache(maxsize=64)
def coupling(inputs: tuple[Irrep, ...], target: Irrep, order: int) -> Coupling:
    """The coupling of ``order`` factors of features with these irreps, one component set of each.

    Paths come in the order of mace-torch, so that its weights carry over: results of fewer factors sorted by
    irrep, then the irreps of the next factor. At order 4 intermediates have natural parity only, as there.

    Raises:
        ValueError: A target that the features cannot reach at any order has no paths; that is no error.
    """
    size = sum(2 * degree + 1 for degree, _ in inputs)
    factors = _monomials(size, order)
    index = _monomial_of(factors, size)
    columns: list[Tensor] = []
    for irrep, tensor in _couple(inputs, order, order == 4, target):
        if irrep == target:
            flat = tensor.reshape(2 * target[0] + 1, -1)
            columns.append(flat.new_zeros(flat.shape[0], len(factors)).index_add(1, index, flat).T)
    if not columns:
        return Coupling(factors[:0], torch.zeros(0, 0, 2 * target[0] + 1, dtype=torch.float64))
    coefficients = torch.stack(columns, dim=1)
    coefficients = torch.where(coefficients.abs() < 1e-12, 0.0, coefficients)
    used = coefficients.abs().amax(dim=(1, 2)) > 0
    return Coupling(factors[used], coefficients[used])


def _couple(
    inputs: tuple[Irrep, ...], order: int, natural: bool, target: Irrep | None = None
) -> list[tuple[Irrep, Tensor]]:
    """Results of coupling ``order`` factors: irrep and ``(2l + 1, size, ..., size)``, sorted by irrep."""
    size = sum(2 * degree + 1 for degree, _ in inputs)
    starts = list(itertools.accumulate((2 * degree + 1 for degree, _ in inputs), initial=0))
    if order == 1:
        unit = torch.eye(size, dtype=torch.float64)
        found = [(ir, unit[starts[k] : starts[k + 1]]) for k, ir in enumerate(inputs)]
        return sorted(found, key=lambda one: one[0])
    found = []
    for left, tensor in _couple(inputs, order - 1, natural):
        flat = tensor.reshape(len(tensor), -1)
        for k, (degree, parity) in enumerate(inputs):
            for out in range(abs(left[0] - degree), left[0] + degree + 1):
                irrep = (out, left[1] * parity)
                if (target is not None and irrep != target) or (natural and irrep[1] != (-1) ** out):
                    continue
                scaled = clebsch_gordan(out, left[0], degree) * (2 * out + 1) ** 0.5
                coupled = torch.einsum("lp,olr->opr", flat, scaled)
                placed = coupled.new_zeros(*coupled.shape[:2], size)
                placed[..., starts[k] : starts[k + 1]] = coupled
                found.append((irrep, placed.reshape(2 * out + 1, *tensor.shape[1:], size)))
    return sorted(found, key=lambda one: one[0])


def _monomials(size: int, order: int) -> Tensor:
    """Every ascending choice of ``order`` components, with repetition."""
    rows = list(itertools.combinations_with_replacement(range(size), order))
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), order)


def _monomial_of(factors: Tensor, size: int) -> Tensor:
    """The monomial of each tuple of components, tuples in row-major order."""
    order = factors.shape[1]
    weights = size ** torch.arange(order - 1, -1, -1)
    codes = (factors * weights).sum(dim=1)
    every = torch.cartesian_prod(*[torch.arange(size)] * order).reshape(-1, order)
    ascending = (every.sort(dim=1).values * weights).sum(dim=1)
    return torch.searchsorted(codes, ascending)

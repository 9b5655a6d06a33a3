"""Which component of which feature feeds which component of a message, and where they lie in memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.potentials.mace.interaction import Convolution
from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.product import Contraction, Product

__all__ = ["Links", "Polynomials", "starts"]


def starts(sizes: list[int]) -> list[int]:
    """Sums of the sizes before each."""
    return list(itertools.accumulate(sizes, initial=0))


@dataclass(frozen=True)
class Links:
    """The links of a convolution, by path, then feature, then result.

    Attributes:
        paths: ``(n_links, 6)`` as :func:`~.messages.sum_messages` takes it for one atom; columns 1 and 4
            hold the rows for no atoms at all, see :meth:`for_atoms`.
        before: ``(n_links, 2)`` rows of an atom that lie before the blocks of feature and result.
        terms, weights, back_weights, term_start: Harmonics of each link; ``back_weights`` are for edges
            seen from their other end.
        results: For each result irrep its number of rows of an atom: components times paths.
    """

    paths: NDArray[np.int64]
    before: NDArray[np.int64]
    terms: NDArray[np.int64]
    weights: NDArray[Any]
    back_weights: NDArray[Any]
    term_start: NDArray[np.int64]
    results: list[int]

    @classmethod
    def of(
        cls, convolution: Convolution, features: list[Block], targets: list[Block], dtype: Any = np.float32
    ) -> Links:
        """The links of a convolution whose features are these blocks, with coefficients of this type."""
        counts = [sum(r.irrep == t.irrep for r in convolution.results) for t in targets]
        sizes = [block.dim * count for block, count in zip(targets, counts, strict=True)]
        feature_starts = starts([block.dim for block in features])
        result_starts = starts(sizes)
        place = [block.irrep for block in targets]
        seen = [0] * len(targets)
        paths, before = [], []
        terms: list[int] = []
        weights: list[float] = []
        back: list[float] = []
        term_start = [0]
        for number, (index, degree, result) in enumerate(convolution.paths):
            target = place.index(result.irrep)
            table = convolution.get_buffer(f"coupling_{number}").double()
            for i in range(features[index].dim):
                first = 1
                for k in range(result.dim):
                    used = torch.nonzero(table[i, :, k].abs() > 1e-12).squeeze(1).tolist()
                    if not used:
                        continue
                    row = k * counts[target] + seen[target]
                    paths.append((number, i, features[index].dim, first, row, sizes[target]))
                    before.append((feature_starts[index], result_starts[target]))
                    first = 0
                    terms += [degree * degree + j for j in used]
                    weights += [float(table[i, j, k]) for j in used]
                    back += [(-1) ** degree * float(table[i, j, k]) for j in used]
                    term_start.append(len(terms))
            seen[target] += 1
        return cls(
            np.array(paths, np.int64).reshape(-1, 6),
            np.array(before, np.int64).reshape(-1, 2),
            np.array(terms, np.int64),
            np.array(weights, dtype),
            np.array(back, dtype),
            np.array(term_start, np.int64),
            sizes,
        )

    def for_atoms(self, n_atoms: int) -> NDArray[np.int64]:
        """``paths`` with first rows as they are for so many atoms."""
        placed = self.paths.copy()
        placed[:, [1, 4]] += n_atoms * self.before
        return placed


@dataclass(frozen=True)
class Polynomials:
    """The monomials of a product, and what they add to.

    Attributes:
        factors: ``(n_monomials, 3)`` components; the number of components stands for one.
        entry_start: ``(n_monomials + 1,)``.
        entries: ``(n_entries, 2)`` hidden block and component.
        tables: For each entry the contraction, the order's position in it, the monomial's row and the
            component, from which its coefficient is made.
        components: ``(n_components, 2)`` block and component of each component of the messages.
    """

    factors: NDArray[np.int64]
    entry_start: NDArray[np.int64]
    entries: NDArray[np.int64]
    tables: NDArray[np.int64]
    components: NDArray[np.int64]

    @classmethod
    def of(cls, product: Product, inputs: list[Block]) -> Polynomials:
        """The polynomials of a product of messages of these blocks."""
        size = sum(block.dim for block in inputs)
        found: dict[tuple[int, ...], list[tuple[tuple[int, int], tuple[int, ...]]]] = {}
        for number, contraction in enumerate(product.contractions):
            assert isinstance(contraction, Contraction)
            for position, order in enumerate(contraction.orders):
                factors = contraction.get_buffer(f"factors_{order}")
                table = contraction.get_buffer(f"coefficients_{order}")
                for row, chosen in enumerate(factors.tolist()):
                    key = (*chosen, *[size] * (3 - order))
                    for component in torch.nonzero(table[row].abs().amax(dim=0) > 1e-12).squeeze(1).tolist():
                        entry = ((number, component), (number, position, row, component))
                        found.setdefault(key, []).append(entry)
        entries = [entry for key in sorted(found) for entry in found[key]]
        return cls(
            np.array(sorted(found), np.int64).reshape(-1, 3),
            np.array(starts([len(found[key]) for key in sorted(found)]), np.int64),
            np.array([place for place, _ in entries], np.int64).reshape(-1, 2),
            np.array([table for _, table in entries], np.int64).reshape(-1, 4),
            np.array([(b, m) for b, block in enumerate(inputs) for m in range(block.dim)], np.int64),
        )

    def coefficients(self, product: Product, row: int) -> NDArray[np.float32]:
        """``(n_entries, channels)`` of one element."""
        made = []
        for number, contraction in enumerate(product.contractions):
            assert isinstance(contraction, Contraction)
            for position, (order, weights) in enumerate(
                zip(contraction.orders, contraction.weights, strict=True)
            ):
                table = contraction.get_buffer(f"coefficients_{order}").double()
                polynomial = torch.einsum("mkd,kc->mdc", table, weights[row].double())
                chosen = (self.tables[:, 0] == number) & (self.tables[:, 1] == position)
                rows, components = torch.as_tensor(self.tables[chosen][:, 2:]).T
                made.append((np.flatnonzero(chosen), polynomial[rows, components]))
        channels = made[0][1].shape[1]
        result = np.empty((len(self.entries), channels), np.float32)
        for where, values in made:
            result[where] = values.detach().to(torch.float32).numpy()
        return result

"""A potential with several heads, each with constant energies of the elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from atomml.model import Potential

__all__ = ["HeadedPotential"]


class HeadedPotential(Potential):
    """Base of the families that can learn several data sets at once.

    Attributes:
        config: Its shape, a :class:`~atomml.shape.HeadedShape` that lists its ``elements``.
        reference: ``(n_heads, n_elements)`` eV, constant energies of the elements by each head.
    """

    config: Any
    reference: Tensor

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(self.config.heads)

    @property
    def head(self) -> str | None:
        """The one that answers."""
        found: str | None = self.config.head
        return found

    def with_head(self, head: str | None) -> Self:
        """This very model, which from now on answers by another head.

        Raises:
            ModelError: No such head; lists those that there are.
        """
        self.config = self.config.with_head(head)
        self._fast_key = None  # what was folded was of the old one
        return self

    def references(self) -> dict[int, float]:
        """Constant energy of each element by the chosen head, eV."""
        row = self.reference[self.config.head_index]
        return {z: float(row[i]) for i, z in enumerate(self.config.elements)}

    def shift_references(self, shifts: Mapping[int, float]) -> None:
        """Add to the constant energies of the chosen head, eV by atomic number."""
        for number, shift in shifts.items():
            self.reference[self.config.head_index, self.config.elements.index(number)] += shift

"""The shape of a model as plain values: into JSON and back, and which of its heads answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Self, cast

from atomml.errors import ModelError

__all__ = ["HeadedShape"]


class HeadedShape:
    """Base of a frozen dataclass of settings with ``heads`` (names) and ``head`` (the one that answers).

    Attributes:
        family: What the family is called in messages.
        head_word: What its heads are called there, in the singular and the plural.
    """

    family: ClassVar[str]
    head_word: ClassVar[tuple[str, str]] = ("head", "heads")

    def check_heads(self) -> None:
        """Refuse names that are not different, and a chosen one that is not among them.

        Raises:
            ModelError: Says which there are.
        """
        heads, head = self._heads(), self._head()
        one, several = self.head_word
        if not heads or len(set(heads)) != len(heads):
            raise ModelError(f"{self.family}'s {several} need different names, not {heads}.")
        if head is not None and head not in heads:
            raise ModelError(f"This {self.family} has no {one} {head!r}: there are {', '.join(heads)}.")

    @property
    def head_index(self) -> int:
        """Position of the chosen head.

        Raises:
            ModelError: None was chosen; the heads are listed.
        """
        heads, head = self._heads(), self._head()
        if head is None:
            several = self.head_word[1]
            raise ModelError(f"This {self.family} has several {several}: choose one of {', '.join(heads)}.")
        return heads.index(head)

    def with_head(self, head: str | None) -> Self:
        """The same shape, answering by another head.

        Raises:
            ModelError: No such head; lists those that there are.
        """
        return replace(cast(Any, self), head=head)

    def to_json(self) -> dict[str, Any]:
        """Plain values, tuples as lists."""
        values = asdict(cast(Any, self))
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; what is left out keeps its default.

        Raises:
            ModelError: A setting that the family does not have.
        """
        known = [entry.name for entry in fields(cast(Any, cls))]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ModelError(f"{cls.family} has no setting {unknown[0]!r}: there are {', '.join(known)}.")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)

    def _heads(self) -> tuple[str, ...]:
        return cast(Any, self).heads

    def _head(self) -> str | None:
        return cast(Any, self).head

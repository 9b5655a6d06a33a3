"""Models that answer in several ways: one head for each data set, or level of theory, that they learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from atomml.errors import ModelError

if TYPE_CHECKING:
    from atomml.model import ModelInfo

__all__ = ["Heads"]


class Heads:
    """What a potential says of its heads. By default it has one, without a name."""

    info: ModelInfo

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of its heads; none where the only one has no name (the default)."""
        return ()

    @property
    def head(self) -> str | None:
        """The head that answers; None where none was chosen, or where there are none."""
        return None

    def with_head(self, head: str | None) -> Self:
        """This very model, which from now on answers by another of its heads; by none for None.

        Raises:
            ModelError: No such head, or no heads at all (the default).
        """
        raise ModelError(f"{self.info.name} has one head: leave @{head} out.")

    def with_new_head(self, head: str) -> Self:
        """Another model, with one head more, which starts as a copy of the present one and answers.

        Raises:
            ModelError: There is such a head, or the family has one head only (the default).
        """
        raise ModelError(f"{self.info.name} can have one head only: name files without {head}=.")

    @contextmanager
    def answering_by(self, head: str) -> Iterator[None]:
        """Answer by another head inside; "" for the one that answers anyway."""
        before = self.head
        if head in ("", before):
            yield
            return
        self.with_head(head)
        try:
            yield
        finally:
            self.with_head(before)

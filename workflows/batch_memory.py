"""How much goes to the model at once: a batch that does not fit into memory is halved, with a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from atomml.errors import AtomMLError, RunFailedError

if TYPE_CHECKING:
    from atomml.workflows.inputs import GivenModel

__all__ = ["MemoryLimit", "is_out_of_memory"]

Member = TypeVar("Member")

_CPU_EDGES = 6000  # more gains little there: arrays leave the cache
_GPU_EDGES = 400_000


@dataclass
class MemoryLimit:
    """The largest batch, in edges; it shrinks when one did not fit.

    Attributes:
        edges: Edges of a batch together.
        warn: Told, in a sentence, of a batch that was halved.
    """

    edges: int
    warn: Callable[[str], None] = lambda _: None

    @classmethod
    def of(
        cls, model: GivenModel, edges: int | None = None, warn: Callable[[str], None] = lambda _: None
    ) -> Self:
        """The limit that was asked for, or what suits the model's device."""
        if edges is None:
            on_gpu = model.potential is not None and model.potential.device.type != "cpu"
            edges = _GPU_EDGES if on_gpu else _CPU_EDGES
        return cls(edges, warn)

    def parts(self, members: Iterable[Member], size: Callable[[Member], int]) -> Iterator[list[Member]]:
        """Consecutive members with at most ``edges`` edges together, one member at least."""
        part: list[Member] = []
        total = 0
        for member in members:
            if part and total + size(member) > self.edges:
                yield part
                part, total = [], 0
            part.append(member)
            total += size(member)
        if part:
            yield part

    def call(
        self,
        ask: Callable[[list[Member]], None],
        batch: list[Member],
        size: Callable[[Member], int],
        fail: Callable[[Member, Exception], None],
    ) -> None:
        """``ask(batch)``; where that fails, its halves, down to a single member, which is told by ``fail``.

        Memory that ran out makes the batches after this one smaller too.
        """
        try:
            ask(batch)
            return
        except Exception as error:
            full = is_out_of_memory(error)
            if not full and not isinstance(error, AtomMLError):
                raise
            if len(batch) == 1:
                fail(batch[0], _too_large(size(batch[0])) if full else error)
                return
        if full:
            self._shrink(batch, size)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            self.call(ask, half, size, fail)

    def _shrink(self, batch: Sequence[Member], size: Callable[[Member], int]) -> None:
        total = sum(size(member) for member in batch)
        self.edges = max(1, min(self.edges, total // 2))
        self.warn(
            f"A batch of {len(batch)} structures ({total:,} edges) did not fit into memory: "
            f"it was halved, and no later one is larger than {self.edges:,} edges."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the device or of the machine."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "not enough memory" in text
        or "can't allocate memory" in text
    )


def _too_large(edges: int) -> RunFailedError:
    return RunFailedError(
        f"The structure ({edges:,} edges) does not fit into memory by itself: "
        "use a smaller cell, float32 or another device."
    )

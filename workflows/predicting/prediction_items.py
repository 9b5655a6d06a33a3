"""Structures on their way through ``predict``: read one by one, grouped into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atomml.errors import InputError
from atomml.workflows.batch_memory import MemoryLimit
from atomml.workflows.inputs import GivenStructure, structures_of

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.graph import AtomGraph

__all__ = ["Item", "batches", "items_of"]


@dataclass
class Item:
    """A structure on its way: what came in (with its labels, where they matter) and, later, what came out."""

    source: str
    frame: int
    given: GivenStructure | None = None
    error: str | None = None
    graph: AtomGraph | None = None
    results: dict[str, Any] | None = None
    entry: Entry | None = None


def items_of(sources: list[Any]) -> Iterator[Item]:
    """Every structure of every source; a file that cannot be read (on) is one item with its error."""
    for number, source in enumerate(sources):
        if isinstance(source, GivenStructure):
            yield Item(source.label, number, source)
            continue
        frame = 0
        try:
            for given in structures_of(source):
                frame = given.frame
                yield Item(str(given.path), frame, given)
                frame += 1
        except InputError as error:
            yield Item(str(source), frame, error=str(error))


def batches(items: Iterable[Item], most_edges: int) -> Iterator[list[Item]]:
    """Consecutive items with about ``most_edges`` edges together; the cut depends on nothing else."""

    def size(item: Item) -> int:
        """Edges, and some for each structure; one that failed counts too, so that batches end."""
        return item.graph.n_edges + 10 if item.graph is not None else most_edges // 16

    return MemoryLimit(most_edges).parts(items, size)

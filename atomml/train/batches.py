"""Which structures make a batch, in an order that follows from seed and epoch alone; and how it is cut.

A step takes a fixed number of structures. So that memory is bounded whatever their sizes, the step's
batch is cut into parts by atoms and edges whose gradients are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atomml.train.objective import TrainingSample

__all__ = ["Limits", "Order", "cut", "cycle"]

AnySample = TypeVar("AnySample", bound=TrainingSample)


@dataclass(frozen=True)
class Order:
    """The batches of each epoch; nothing but seed and epoch decides, so a resumed run sees the same.

    Attributes:
        n_entries: Structures in the set.
        batch_size: Structures in a batch; the last of an epoch takes what is left.
        seed: Seed of the order.
    """

    n_entries: int
    batch_size: int
    seed: int

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""
        return -(-self.n_entries // self.batch_size)

    def batch(self, epoch: int, position: int) -> NDArray[np.int64]:
        """Indices of the structures in a batch, ``(at most batch_size,)``."""
        order = _permutation(self.n_entries, self.seed, 0, epoch)
        return order[position * self.batch_size : (position + 1) * self.batch_size]


def cycle(n_entries: int, per_batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Indices of the replayed structures of a step: the set over and over, in a new order each time."""
    positions = np.arange(step * per_batch, (step + 1) * per_batch)
    rounds = positions // n_entries
    orders = {int(r): _permutation(n_entries, seed, 1, int(r)) for r in np.unique(rounds)}
    return np.array(
        [orders[int(r)][p % n_entries] for r, p in zip(rounds, positions, strict=True)], dtype=np.int64
    )


@dataclass(frozen=True)
class Limits:
    """What one part of a batch may hold; a structure larger than that makes a part of its own.

    Attributes:
        max_atoms: Atoms.
        max_edges: Directed edges.
    """

    max_atoms: int
    max_edges: int

    def halved(self, samples: Sequence[TrainingSample]) -> Limits:
        """Limits that cut these samples, which were too many, in two."""
        atoms = sum(sample.graph.n_atoms for sample in samples)
        edges = sum(sample.graph.n_edges for sample in samples)
        return Limits(min(self.max_atoms, max(atoms // 2, 1)), min(self.max_edges, max(edges // 2, 1)))


def cut(samples: Sequence[AnySample], limits: Limits) -> Iterator[list[AnySample]]:
    """Parts within the limits, each of one kind of sample, in order."""
    for kind in sorted({sample.kind for sample in samples}):
        part: list[AnySample] = []
        atoms = edges = 0
        for sample in samples:
            if sample.kind != kind:
                continue
            n, m = sample.graph.n_atoms, sample.graph.n_edges
            if part and (atoms + n > limits.max_atoms or edges + m > limits.max_edges):
                yield part
                part, atoms, edges = [], 0, 0
            part.append(sample)
            atoms, edges = atoms + n, edges + m
        if part:
            yield part


def _permutation(n: int, *key: int) -> NDArray[np.int64]:
    return np.random.default_rng(key).permutation(n).astype(np.int64)

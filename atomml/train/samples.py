"""Entries as a model trains on them: graphs, built once each and kept, with labels as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from atomml.data.dataset import Dataset
from atomml.data.entry import LABELS, Entry
from atomml.graph import GraphBuilder
from atomml.graph.atom_graph import AtomGraph
from atomml.graph.batching import collate
from atomml.model import Potential
from atomml.train.losses import Targets

__all__ = ["Sample", "Samples", "join", "targets_of"]


@dataclass(frozen=True)
class Sample:
    """One structure of a batch.

    Attributes:
        graph: Its graph, on the CPU, float64 geometry.
        targets: Its labels.
        where: What to call it in an error.
        head: Which of the model's heads it belongs to; "" for the one that answers.
    """

    graph: AtomGraph
    targets: Targets
    where: str
    head: str = ""

    @property
    def kind(self) -> tuple[str, bool]:
        """Head, and whether no component of a stress is labelled.

        A stress does not exist for a molecule, and its derivative of NaN must not reach the others.
        """
        return self.head, not bool(torch.isfinite(self.targets.stress).any())


class Samples:
    """The entries of a data set as samples.

    Neighbours are searched once per entry; graphs are kept as long as they fit, those of
    later entries are built again each time.

    Args:
        dataset: The entries.
        model: For its cutoffs.
        group_weights: Factor on the weight of entries, by group.
        head_weights: The same by head.
        max_bytes: Memory that kept graphs may take.
    """

    def __init__(
        self,
        dataset: Dataset,
        model: Potential,
        group_weights: Mapping[str, float] | None = None,
        max_bytes: float = 2e9,
        head_weights: Mapping[str, float] | None = None,
    ) -> None:
        self.dataset = dataset
        self.n_atoms = np.asarray(dataset.n_atoms)
        self._cutoffs = model.info.cutoff, model.info.bond_cutoff
        self._group_weights, self._head_weights = dict(group_weights or {}), dict(head_weights or {})
        self._room = float(max_bytes)
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Heads that the entries belong to, by name; "" among them if some name none."""
        return tuple(sorted({entry.head for entry in self.dataset}))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Labelled components of each kind in the whole set; no graph is built for it."""
        counts = dict.fromkeys(LABELS, 0)
        for entry in self.dataset:
            for name, n in targets_of(entry, 1.0).counts().items():
                counts[name] += n
        return counts

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            StructureError: A structure that no model can take.
        """
        if index in self._kept:
            return self._kept[index]
        entry = self.dataset[index]
        # a builder of its own: one that goes from structure to structure would compare them first
        graph = GraphBuilder(*self._cutoffs)(entry.atoms, entry.where)
        weight = entry.weight * self._group_weights.get(entry.group, 1.0)
        weight *= self._head_weights.get(entry.head, 1.0)
        sample = Sample(graph, targets_of(entry, weight), entry.where, entry.head)
        size = _size(graph)
        if size <= self._room:
            self._room -= size
            self._kept[index] = sample
        return sample


def targets_of(entry: Entry, weight: float) -> Targets:
    """The labels of one entry; a stress only where there is a volume for it."""
    n, labels = len(entry.atoms), entry.labels
    stress = labels.stress if entry.atoms.pbc.any() and abs(entry.atoms.cell.volume) > 0 else None
    return Targets(
        energy=_filled(labels.energy, (1,)),
        forces=_filled(labels.forces, (n, 3)),
        stress=_filled(stress, (1, 3, 3)),
        magmoms=_filled(labels.magmoms, (n,)),
        weight=torch.tensor([weight], dtype=torch.float64),
    )


def join(samples: Sequence[Sample], device: torch.device) -> tuple[AtomGraph, Targets]:
    """One graph and the labels of several samples, on the device of the model."""
    graph = collate([sample.graph for sample in samples])
    targets = Targets.join([sample.targets for sample in samples])
    return (graph, targets) if device.type == "cpu" else (graph.to(device), targets.to(device))


def _filled(value: object, shape: tuple[int, ...]) -> Tensor:
    if value is None:
        return torch.full(shape, torch.nan, dtype=torch.float64)
    return torch.from_numpy(np.array(value, dtype=np.float64).reshape(shape))


def _size(graph: AtomGraph) -> int:
    """Bytes of a graph's tensors."""
    tensors = [getattr(graph, entry.name) for entry in fields(graph)]
    if graph.bond_graph is not None:
        tensors += [graph.bond_graph.bonds, graph.bond_graph.angle_index]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))

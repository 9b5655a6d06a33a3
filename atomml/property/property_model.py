"""What a model of properties is: inputs from a structure, outputs on the learned scale, features."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from atomml.base_model import Model, ModelInfo
from atomml.graph.atom_graph import AtomGraph
from atomml.property.folding import FoldedGraph, join_folded, no_graph
from atomml.property.targets import Target

__all__ = [
    "PropertyBatch",
    "PropertyInput",
    "PropertyModel",
    "PropertyOutputs",
    "bare_graph",
    "join_inputs",
    "learned_values",
    "property_info",
]


@dataclass(frozen=True)
class PropertyInput:
    """What a model sees of one structure.

    Attributes:
        graph: Its atoms.
        row: ``(1, n_descriptors)`` float64 descriptors, for models that look at these; else None.
        folded: Its graph, folded by symmetry, for models that look at it; else None.
    """

    graph: AtomGraph
    row: Tensor | None = None
    folded: FoldedGraph | None = None


@dataclass(frozen=True)
class PropertyBatch:
    """What a model sees of several structures.

    Attributes:
        row: ``(n_graphs, n_descriptors)`` float64, or None.
        folded: The graphs as one, or None.
    """

    row: Tensor | None
    folded: FoldedGraph | None

    def to(self, device: torch.device) -> PropertyBatch:
        """The same on another device."""
        if device.type == "cpu":
            return self
        row = None if self.row is None else self.row.to(device)
        return PropertyBatch(row, None if self.folded is None else self.folded.to(device))


def join_inputs(inputs: Sequence[PropertyInput]) -> PropertyBatch:
    """A batch, in order; one without structures is a graph without atoms."""
    if not inputs:
        return PropertyBatch(None, no_graph())
    rows = [one.row for one in inputs if one.row is not None]
    graphs = [one.folded for one in inputs if one.folded is not None]
    return PropertyBatch(torch.cat(rows) if rows else None, join_folded(graphs) if graphs else None)


def bare_graph(atoms: Atoms) -> AtomGraph:
    """Atoms without edges, for models that look at descriptors only."""
    none = torch.empty(0, dtype=torch.int64)
    zero = torch.zeros(1, dtype=torch.float64)
    return AtomGraph(
        numbers=torch.as_tensor(atoms.numbers, dtype=torch.int64),
        positions=torch.as_tensor(atoms.positions, dtype=torch.float64),
        cell=torch.as_tensor(atoms.cell.array, dtype=torch.float64)[None],
        pbc=torch.as_tensor(atoms.pbc)[None],
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        edge_index=none.reshape(2, 0),
        edge_shift=torch.empty((0, 3), dtype=torch.int32),
        edge_reverse=none,
        cutoff=0.0,
        charge=zero,
        spin=zero,
    )


@dataclass(frozen=True)
class PropertyOutputs:
    """What a model answers.

    Attributes:
        raw: ``(n_graphs, n_outputs)``: for a number the learned value less its mean over its scale, for
            classes the logarithms of probabilities up to a constant; target after target.
        features: ``(n_graphs, n_features)`` of the last hidden layer, by which structures are compared.
    """

    raw: Tensor
    features: Tensor


class PropertyModel(Model):
    """A model of one or several properties of whole structures.

    Args:
        info: Its description; ``kind`` is ``property``.
        targets: What it predicts.
    """

    def __init__(self, info: ModelInfo, targets: Sequence[Target]) -> None:
        super().__init__(info)
        self.targets = tuple(targets)

    @property
    def n_outputs(self) -> int:
        """Numbers that it gives for a structure."""
        return sum(target.width for target in self.targets)

    @abc.abstractmethod
    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """What it sees of a structure; on the CPU.

        Raises:
            StructureError: A structure that it cannot take.
        """

    @abc.abstractmethod
    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        """Its answers for a batch, differentiable in the weights."""

    def predict(self, given: PropertyBatch) -> PropertyOutputs:
        """Its answers in float64, detached; of elements that training never saw, too."""
        with torch.no_grad():
            found = self.outputs(given.to(self.device))
        return PropertyOutputs(found.raw.double().cpu(), found.features.double().cpu())


def learned_values(raw: Tensor, targets: Sequence[Target]) -> list[Tensor]:
    """Per target the value on its learned scale ``(n,)``, or probabilities ``(n, n_classes)``; float64."""
    found, start = [], 0
    for target in targets:
        part = raw[:, start : start + target.width].double()
        start += target.width
        if target.classes:
            found.append(torch.softmax(part, dim=1))
        else:
            found.append(part[:, 0] * target.scale + target.mean)
    return found


def property_info(name: str, family: str, elements: Sequence[int], **more: Any) -> ModelInfo:
    """The description of a model of properties."""
    return ModelInfo(
        name=name, family=family, elements=tuple(elements), kind="property", **{"cutoff": 0.0, **more}
    )

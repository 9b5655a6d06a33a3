"""Losses on energies per atom, forces, stresses and magnetic moments; labels that are missing are masked.

A loss is a sum over labelled components, divided by how many of them the whole batch has. So a
batch may be cut into parts, on one device or on several, and the sum of the parts' losses and
gradients is that of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from atomml.data.entry import LABELS
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Prediction
from atomml.train.weights import WeightSchedule

__all__ = ["KINDS", "Errors", "Loss", "Targets", "conditional_delta", "point_loss"]

KINDS = ("mse", "l1", "huber", "conditional-huber", "deepmd")
"""Square, absolute value, Huber's function, that with a threshold that falls for large forces, and squares as
DeePMD-kit weights them: of energies and virials of the whole structure, over its number of atoms."""

_LEVELS = ((100.0, 1.0), (200.0, 0.7), (300.0, 0.4), (float("inf"), 0.1))
"""Upper bound of a label's force (eV/Å) and the factor on Huber's threshold below it.

Batatia et al., "A foundation model for atomistic materials chemistry", arXiv:2401.00096 (2023),
supplement: the conditional Huber loss.
"""


@dataclass(frozen=True)
class Targets:
    """Labels of a batch in the graph's order, float64; NaN where there is none.

    Attributes:
        energy: ``(n_graphs,)`` eV, of each whole structure.
        forces: ``(n_atoms, 3)`` eV/Å.
        stress: ``(n_graphs, 3, 3)`` eV/Å³.
        magmoms: ``(n_atoms,)`` μB.
        weight: ``(n_graphs,)`` weight of each structure.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    magmoms: Tensor
    weight: Tensor

    def counts(self) -> dict[str, int]:
        """How many components of each label there are."""
        return {name: int(torch.isfinite(getattr(self, name)).sum()) for name in LABELS}

    def to(self, device: torch.device) -> Targets:
        """The same labels on another device."""
        return Targets(**{entry.name: getattr(self, entry.name).to(device) for entry in fields(self)})

    @classmethod
    def join(cls, parts: list[Targets]) -> Targets:
        """Labels of several structures, one after another."""
        names = [entry.name for entry in fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass
class Errors:
    """Sums of absolute errors with their counts, to be divided when all parts are there.

    Attributes:
        sums: Per quantity the sum of absolute errors; of potentials in eV/atom, eV/Å, eV/Å³, μB.
        counts: Per quantity the number of components.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, other: Errors) -> None:
        """Count the errors of another part in."""
        for name, n in other.counts.items():
            self.sums[name] = self.sums.get(name, 0.0) + other.sums[name]
            self.counts[name] = self.counts.get(name, 0) + n

    def mae(self, name: str) -> float | None:
        """Mean absolute error of a quantity; None where it was not seen."""
        return self.sums[name] / self.counts[name] if self.counts.get(name) else None

    def flat(self, names: Sequence[str]) -> list[float]:
        """Sums, then counts, in this order, for the way to other processes."""
        return [self.sums.get(n, 0.0) for n in names] + [float(self.counts.get(n, 0)) for n in names]

    @classmethod
    def from_flat(cls, names: Sequence[str], values: Sequence[float]) -> Errors:
        """Undo :meth:`flat`."""
        counts = {name: round(value) for name, value in zip(names, values[len(names) :], strict=True)}
        return cls(dict(zip(names, values[: len(names)], strict=True)), counts)


@dataclass(frozen=True)
class Loss:
    """What is minimised: the weighted sum of the labels' mean losses.

    Attributes:
        kind: One of :data:`KINDS`; the conditional one is Huber's for all labels but forces.
        delta: Huber's threshold, in the units of :class:`Targets` (eV/atom for energies).
        weights: Weight of each label.
    """

    kind: str
    delta: float
    weights: Mapping[str, WeightSchedule]

    def wants(self, name: str) -> bool:
        """Whether the label ever counts."""
        return not self.weights[name].is_zero

    def __call__(
        self,
        prediction: Prediction,
        graph: AtomGraph,
        targets: Targets,
        counts: Mapping[str, int],
        progress: float = 0.0,
    ) -> tuple[Tensor, Errors]:
        """The part's share of the batch's loss, and its absolute errors.

        Args:
            prediction: Attached to the autograd graph.
            graph: The part of the batch that it is for.
            targets: Labels of that part.
            counts: Components of each label in the whole batch.
            progress: Share of the run that is done, for weights that change.

        Returns:
            A float64 scalar, and the errors, detached.
        """
        total = torch.zeros((), dtype=torch.float64, device=graph.device)
        errors = Errors()
        for name in LABELS:
            label, mask = getattr(targets, name), torch.isfinite(getattr(targets, name))
            n_here = int(mask.sum())
            if n_here == 0 or not self.wants(name):
                continue
            difference, weight = _difference(name, prediction, graph, targets, label, mask)
            errors.sums[name] = float(difference.detach().abs().sum())
            errors.counts[name] = n_here
            delta: float | Tensor = self.delta
            if name == "forces" and self.kind == "conditional-huber":
                delta = (self.delta * conditional_delta(label)).expand_as(label)[mask]
            points = point_loss(self.kind, difference, delta)
            if self.kind == "deepmd":
                points = points * _extent(name, graph, label)[mask]
            total = total + self.weights[name].at(progress) * (weight * points).sum() / counts[name]
        return total, errors


def _difference(
    name: str, prediction: Prediction, graph: AtomGraph, targets: Targets, label: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Prediction minus label and the structure's weight, ``(n_labelled,)`` each."""
    predicted = getattr(prediction, name)
    assert predicted is not None, f"{name} were labelled but not predicted"
    sizes = graph.atoms_per_graph()
    weight = targets.weight if name in ("energy", "stress") else targets.weight[graph.batch]
    weight = weight.reshape(-1, *[1] * (label.ndim - 1)).expand_as(label)[mask]
    difference = predicted[mask].double() - label[mask]
    return (difference / sizes[mask] if name == "energy" else difference), weight


def _extent(name: str, graph: AtomGraph, label: Tensor) -> Tensor:
    """What makes of a square per atom, or per volume, that of a whole structure over its atoms' number."""
    sizes = graph.atoms_per_graph().double()
    extent = {"energy": sizes, "stress": graph.volumes().double() ** 2 / sizes}.get(name)
    if extent is None:
        return torch.ones_like(label)
    return extent.reshape(-1, *[1] * (label.ndim - 1)).expand_as(label)


def point_loss(kind: str, difference: Tensor, delta: float | Tensor) -> Tensor:
    """The loss of each difference ``d``: ``d²``, ``|d|``, or Huber's function.

    Huber (1964): ``d²/2`` for ``|d| < delta``, ``delta (|d| - delta/2)`` beyond.

    Args:
        kind: One of :data:`KINDS`.
        difference: Any shape.
        delta: Huber's threshold, a number or one for each difference.
    """
    if kind in ("mse", "deepmd"):
        return difference.square()
    size = difference.abs()
    if kind == "l1":
        return size
    return torch.where(size < delta, 0.5 * difference.square(), delta * (size - 0.5 * delta))


def conditional_delta(forces: Tensor) -> Tensor:
    """Factor on Huber's threshold for each atom, ``(n_atoms, 1)``: 1, 0.7, 0.4 and 0.1 by its label's size.

    The steps are at 100, 200 and 300 eV/Å (Batatia et al. 2023, as :data:`_LEVELS` cites).
    """
    size = torch.linalg.vector_norm(forces, dim=-1, keepdim=True)
    factor = torch.full_like(size, _LEVELS[-1][1])
    for bound, value in reversed(_LEVELS[:-1]):
        factor = torch.where(size < bound, value, factor)
    return factor

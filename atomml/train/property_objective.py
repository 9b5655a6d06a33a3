"""Labelled structures as samples of a model of properties, and what is minimised over them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from atomml.graph.atom_graph import AtomGraph
from atomml.property.property_model import PropertyInput, PropertyModel, join_inputs
from atomml.property.targets import Target
from atomml.train.losses import Errors
from atomml.train.validation import Parity

__all__ = ["LOSSES", "PropertyObjective", "PropertySample", "PropertySamples"]

LOSSES = ("huber", "mse", "l1")
"""Of standardised labels; classes have the cross entropy."""


@dataclass(frozen=True)
class PropertySample:
    """One structure with what is to be learned of it.

    Attributes:
        given: What the model sees of it.
        labels: ``(1, n_targets)`` float64 on the learned scale, or the place of a class; NaN for none.
        where: What to call it in an error.
    """

    given: PropertyInput
    labels: Tensor
    where: str
    head: str = ""
    kind: tuple[str, ...] = ()

    @property
    def graph(self) -> AtomGraph:
        """Its atoms."""
        return self.given.graph


class PropertySamples:
    """Structures as samples; what the model sees of each is made once and kept.

    Args:
        model: For its inputs.
        atoms: The structures.
        wheres: What to call each.
        labels: ``(n, n_targets)`` on the learned scale.
        kept: Inputs by place that are there already; shared by the members of an ensemble.
    """

    heads: tuple[str, ...] = ("",)

    def __init__(
        self,
        model: PropertyModel,
        atoms: Sequence[Atoms],
        wheres: Sequence[str],
        labels: NDArray[np.float64],
        kept: MutableMapping[int, PropertyInput] | None = None,
    ) -> None:
        self.n_atoms = np.array([len(one) for one in atoms])
        self._model, self._atoms, self._wheres, self._labels = model, atoms, wheres, labels
        self._kept = {} if kept is None else kept

    def __len__(self) -> int:
        return len(self._atoms)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Labels of each target."""
        return {
            target.key: int(np.isfinite(self._labels[:, k]).sum())
            for k, target in enumerate(self._model.targets)
        }

    def __getitem__(self, index: int) -> PropertySample:
        """One sample.

        Raises:
            StructureError: A structure that no model can take.
        """
        if index not in self._kept:
            self._kept[index] = self._model.input_of(self._atoms[index], self._wheres[index])
        labels = torch.from_numpy(self._labels[index : index + 1])
        return PropertySample(self._kept[index], labels, self._wheres[index])


@dataclass(frozen=True)
class PropertyObjective:
    """The mean over targets of the mean loss over their labels (:class:`~atomml.train.objective.Objective`).

    Attributes:
        targets: What is learned.
        loss: One of :data:`LOSSES`.
        delta: Huber's threshold, standard deviations of the labels.
    """

    targets: tuple[Target, ...]
    loss: str = "huber"
    delta: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the targets."""
        return tuple(target.key for target in self.targets)

    @property
    def units(self) -> Mapping[str, tuple[str, float]]:
        """Errors are those of the learned scale; of classes the share that is wrong."""
        return {target.key: ("share_wrong" if target.classes else "learned", 1.0) for target in self.targets}

    @property
    def shown(self) -> tuple[tuple[str, str, float], ...]:
        """The first two."""
        return tuple((target.key, target.label, 1.0) for target in self.targets[:2])

    def counts(self, samples: Sequence[PropertySample]) -> dict[str, int]:
        """Labels of each target in a batch."""
        labels = torch.cat([sample.labels for sample in samples])
        known = torch.isfinite(labels).sum(dim=0).tolist()
        return dict(zip(self.names, known, strict=True))

    def judge(
        self,
        model: PropertyModel,
        samples: Sequence[PropertySample],
        counts: Mapping[str, int],
        progress: float,
        device: torch.device,
        *,
        learning: bool,
        parity: Parity | None = None,
    ) -> tuple[Tensor, Errors]:
        """Loss and errors of a part; of none where other processes have some whose statistics are shared."""
        given = join_inputs([sample.given for sample in samples]).to(device)
        none = torch.empty((0, len(self.targets)), dtype=torch.float64)
        labels = torch.cat([none, *(sample.labels for sample in samples)]).to(device)
        model.train(learning)
        raw = model.outputs(given).raw.double()
        model.train(False)
        errors = Errors()
        total = torch.zeros((), dtype=torch.float64, device=device)
        start = 0
        for k, target in enumerate(self.targets):
            part = raw[:, start : start + target.width]
            start += target.width
            known = torch.isfinite(labels[:, k])
            n = counts[target.key]
            if n == 0 or not bool(known.any()):
                continue
            loss, off, found = self._of(target, part[known], labels[known, k])
            total = total + loss.sum() / (n * len(self.targets))
            errors.sums[target.key] = float(off.detach().sum())
            errors.counts[target.key] = int(known.sum())
            if parity is not None:
                parity.add(target.key, torch.stack([labels[known, k], found], dim=1))
        if learning and not total.requires_grad:  # nothing is labelled: other processes may wait nonetheless
            total = total + 0.0 * raw.sum()
        return total, errors

    def _of(self, target: Target, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, absolute errors and answers of the labelled structures."""
        if target.classes:
            found = raw.argmax(dim=1).double()
            return F.cross_entropy(raw, labels.long(), reduction="none"), (found != labels).double(), found
        wanted = (labels - target.mean) / target.scale
        off = raw[:, 0] - wanted
        if self.loss == "l1":
            loss = off.abs()
        elif self.loss == "mse":
            loss = off.square()
        else:
            loss = F.huber_loss(raw[:, 0], wanted, reduction="none", delta=self.delta)
        return loss, off.abs() * target.scale, raw[:, 0] * target.scale + target.mean

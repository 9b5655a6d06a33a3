"""Energies, forces, stresses and magnetic moments of a potential, judged by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomml.data.entry import LABELS
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Potential, Prediction
from atomml.train.losses import Errors, Loss, Targets
from atomml.train.samples import Sample, join
from atomml.train.validation import Parity
from atomml.units import GPA

__all__ = ["UNITS", "PotentialObjective"]

UNITS = {
    "energy": ("meV_per_atom", 1000.0),
    "forces": ("meV_per_A", 1000.0),
    "stress": ("GPa", GPA),
    "magmoms": ("muB", 1.0),
}
"""Suffix and factor under which errors of each label are written; losses count eV, Å and μB."""


@dataclass(frozen=True)
class PotentialObjective:
    """See :class:`~atomml.train.objective.Objective`.

    Attributes:
        loss: What is minimised.
    """

    loss: Loss

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return LABELS

    @property
    def units(self) -> Mapping[str, tuple[str, float]]:
        """Those of :data:`UNITS`."""
        return UNITS

    @property
    def shown(self) -> tuple[tuple[str, str, float], ...]:
        """Energies and forces."""
        return ("energy", "E meV/atom", 1000.0), ("forces", "F meV/Å", 1000.0)

    def counts(self, samples: Sequence[Sample]) -> dict[str, int]:
        """Labelled components of each kind."""
        counts = dict.fromkeys(LABELS, 0)
        for sample in samples:
            for name, n in sample.targets.counts().items():
                counts[name] += n
        return counts

    def judge(
        self,
        model: Potential,
        samples: Sequence[Sample],
        counts: Mapping[str, int],
        progress: float,
        device: torch.device,
        *,
        learning: bool,
        parity: Parity | None = None,
    ) -> tuple[Tensor, Errors]:
        """Loss and errors of a part; forces and stresses are computed where they are labelled."""
        graph, targets = join(samples, device)
        has = targets.counts()
        forces, stress = has["forces"] > 0, has["stress"] > 0
        with model.answering_by(samples[0].head):
            if learning:
                forces, stress = forces and self.loss.wants("forces"), stress and self.loss.wants("stress")
                prediction = model.differentiable(
                    graph, forces=forces, stress=stress, create_graph=forces or stress
                )
            else:
                prediction = model.predict(graph, forces=forces, stress=stress)
        loss, errors = self.loss(prediction, graph, targets, counts, progress)
        if parity is not None:
            _collect(parity, prediction, graph, targets)
        return loss, errors


def _collect(parity: Parity, prediction: Prediction, graph: AtomGraph, targets: Targets) -> None:
    """Keep every label with its prediction."""
    sizes = graph.atoms_per_graph()
    for name in LABELS:
        label, found = getattr(targets, name), getattr(prediction, name)
        mask = torch.isfinite(label)
        if found is None or not bool(mask.any()):
            continue
        pair: Any = torch.stack([label[mask], found[mask].double()], dim=1)
        parity.add(name, pair / sizes[mask][:, None] if name == "energy" else pair)

"""How far what a model knew before has moved: answers on structures that were held back from replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomml.data.dataset import ListDataset
from atomml.model import Potential
from atomml.train.replay import label_by_model

__all__ = ["Drift", "DriftLimits", "drift_of", "held_back"]

_FEWEST = 5
"""Structures to replay of which one in five is held back; of fewer all are shown and measured on."""


@dataclass(frozen=True)
class DriftLimits:
    """How far old answers may move in the mean.

    Attributes:
        energy: meV/atom.
        forces: meV/Å.
    """

    energy: float
    forces: float


@dataclass(frozen=True)
class Drift:
    """Mean absolute change of old answers.

    Attributes:
        energy: meV/atom.
        forces: meV/Å, over components.
        structures: How many it was measured on.
        held_back: Whether these were never shown in the training.
        limits: What was allowed.
    """

    energy: float
    forces: float
    structures: int
    held_back: bool
    limits: DriftLimits

    @property
    def exceeded(self) -> bool:
        """Whether either is above its limit."""
        return not (self.energy <= self.limits.energy and self.forces <= self.limits.forces)

    def record(self) -> dict[str, float | bool]:
        """For the summary."""
        return {
            "energy_meV_per_atom": self.energy,
            "forces_meV_per_A": self.forces,
            "energy_limit_meV_per_atom": self.limits.energy,
            "forces_limit_meV_per_A": self.limits.forces,
            "structures": self.structures,
            "held_back": self.held_back,
        }

    def sentence(self, head: str) -> str:
        """What was found, and what to do where that is too much."""
        whose = f"The head {head}" if head else "What the model knew before"
        told = (
            f"{whose} moved by {self.energy:.1f} meV/atom and {self.forces:.0f} meV/Å on {self.structures} "
            f"{'structures held back' if self.held_back else 'replayed structures'} (allowed: "
            f"{self.limits.energy:g} and {self.limits.forces:g})"
        )
        if not self.exceeded:
            return told + "."
        return (
            told + ": raise --replay-weight or --replay-batch, lower --learning-rate, or allow more with "
            "--drift-energy and --drift-forces."
        )


def held_back(n: int, seed: int) -> tuple[list[int], list[int]]:
    """Which of ``n`` structures to replay are shown, and which are measured on."""
    if n < _FEWEST:
        return list(range(n)), list(range(n))
    order = np.random.default_rng([seed, 5]).permutation(n)
    n_held = n // _FEWEST
    return sorted(order[n_held:].tolist()), sorted(order[:n_held].tolist())


def drift_of(model: Potential, head: str, before: ListDataset, *, held: bool, limits: DriftLimits) -> Drift:
    """How far the answers of a head have moved.

    Args:
        model: As it is now.
        head: The old head; "" for the only one.
        before: Structures, labelled by the model as it was before.
        held: Whether they were never shown.
        limits: What is allowed.
    """
    with model.answering_by(head):
        now = label_by_model(model, before)
    energies, forces = [], []
    for old, new in zip(before, now, strict=True):
        assert old.labels.energy is not None
        assert new.labels.energy is not None
        assert old.labels.forces is not None
        assert new.labels.forces is not None
        energies.append(abs(new.labels.energy - old.labels.energy) / len(old.atoms))
        forces.append(np.abs(new.labels.forces - old.labels.forces).ravel())
    return Drift(
        1e3 * float(np.mean(energies)),
        1e3 * float(np.mean(np.concatenate(forces))),
        len(before),
        held,
        limits,
    )

"""Errors of a model on a set of samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from atomml.data.entry import LABELS
from atomml.model import Potential
from atomml.train.batches import Limits, cut
from atomml.train.losses import Errors, Loss
from atomml.train.processes import Processes
from atomml.train.samples import Sample, Samples, join

__all__ = ["Parity", "Validation", "validate"]

_AT_ONCE = 64  # samples in memory, beside those that are kept


@dataclass
class Parity:
    """Labels against predictions, component by component.

    Attributes:
        pairs: Per label a list of ``(n, 2)`` arrays: label, prediction; energies in eV/atom.
    """

    pairs: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in LABELS})

    def table(self, name: str) -> np.ndarray:
        """``(n, 2)`` label and prediction."""
        return np.concatenate(self.pairs[name]) if self.pairs[name] else np.empty((0, 2))


@dataclass(frozen=True)
class Validation:
    """What a set of samples says of a model.

    Attributes:
        loss: With the weights that the loss has at the end of the run.
        errors: Absolute errors.
        heads: Those of each head, where the samples name heads.
        parity: Label against prediction, if asked for.
    """

    loss: float
    errors: Errors
    heads: dict[str, Errors] = field(default_factory=dict)
    parity: Parity | None = None


def validate(
    model: Potential,
    samples: Samples,
    loss: Loss,
    processes: Processes,
    limits: Limits,
    *,
    parity: bool = False,
) -> Validation:
    """Loss and errors over all samples; each process computes its share.

    The loss is divided by the counts of the whole set, so it does not depend on how the set is cut.

    Args:
        model: The model.
        samples: The samples.
        loss: The loss.
        processes: Who computes.
        limits: Largest part that is computed at once.
        parity: Whether to keep every label with its prediction (of this process's share).
    """
    total, pairs = 0.0, Parity()
    heads = {head: Errors() for head in samples.heads}
    mine = processes.share(range(len(samples)))
    for start in range(0, len(mine), _AT_ONCE):
        for part in cut([samples[i] for i in mine[start : start + _AT_ONCE]], limits):
            value, found = _part(model, part, loss, samples.counts, processes, pairs if parity else None)
            total += value
            heads[part[0].head].add(found)
    if processes.n > 1:
        total, heads = _summed(total, heads, processes)
    errors = Errors()
    for found in heads.values():
        errors.add(found)
    heads.pop("", None)
    return Validation(total, errors, heads, pairs if parity else None)


def _summed(total: float, heads: dict[str, Errors], processes: Processes) -> tuple[float, dict[str, Errors]]:
    """Loss and errors over all processes, in one message."""
    scalars = [total]
    for errors in heads.values():
        scalars += [*errors.sums.values(), *map(float, errors.counts.values())]
    whole = processes.sum(torch.tensor(scalars, dtype=torch.float64, device=processes.device)).tolist()
    rest = iter(whole[1:])
    for head in heads:
        sums = {name: next(rest) for name in LABELS}
        heads[head] = Errors(sums, {name: round(next(rest)) for name in LABELS})
    return whole[0], heads


def _part(
    model: Potential,
    samples: list[Sample],
    loss: Loss,
    counts: dict[str, int],
    processes: Processes,
    parity: Parity | None,
) -> tuple[float, Errors]:
    graph, targets = join(samples, processes.device)
    has = targets.counts()
    with model.answering_by(samples[0].head):
        prediction = model.predict(graph, forces=has["forces"] > 0, stress=has["stress"] > 0)
    value, errors = loss(prediction, graph, targets, counts, progress=1.0)
    if parity is not None:
        sizes = graph.atoms_per_graph()
        for name in LABELS:
            label, found = getattr(targets, name), getattr(prediction, name)
            mask = torch.isfinite(label)
            if found is None or not bool(mask.any()):
                continue
            pair = torch.stack([label[mask], found[mask].double()], dim=1)
            pair = pair / sizes[mask][:, None] if name == "energy" else pair
            parity.pairs[name].append(pair.cpu().numpy())
    return float(value), errors

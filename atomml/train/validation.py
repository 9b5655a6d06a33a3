"""Errors of a model on a set of samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from atomml.base_model import Model
from atomml.train.batches import Limits, cut
from atomml.train.losses import Errors
from atomml.train.objective import Objective, SampleSet, TrainingSample
from atomml.train.processes import Processes
from atomml.train.step import is_out_of_memory, make_room

__all__ = ["Parity", "Validation", "validate"]

_log = logging.getLogger(__name__)
_AT_ONCE = 64  # samples in memory, beside those that are kept


@dataclass
class Parity:
    """Labels against predictions, component by component.

    Attributes:
        pairs: Per quantity a list of ``(n, 2)`` arrays: label, prediction; energies in eV/atom.
    """

    pairs: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, pairs: Tensor) -> None:
        """Keep labels and predictions of a quantity, ``(n, 2)``."""
        self.pairs.setdefault(name, []).append(pairs.detach().cpu().numpy())

    def table(self, name: str) -> np.ndarray:
        """``(n, 2)`` label and prediction."""
        return np.concatenate(self.pairs[name]) if self.pairs.get(name) else np.empty((0, 2))


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
    model: Model,
    samples: SampleSet,
    objective: Objective,
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
        objective: Loss and errors.
        processes: Who computes.
        limits: Largest part that is computed at once.
        parity: Whether to keep every label with its prediction; one process's after the other's.
    """
    total, pairs = 0.0, Parity() if parity else None
    heads = {head: Errors() for head in samples.heads}
    mine = processes.share(range(len(samples)))
    for start in range(0, len(mine), _AT_ONCE):
        for part in cut([samples[i] for i in mine[start : start + _AT_ONCE]], limits):
            for value, found in _judged(model, part, samples.counts, objective, processes.device, pairs):
                total += value
                heads[part[0].head].add(found)
    if processes.n > 1:
        total, heads = _summed(total, heads, objective.names, processes)
        pairs = _joined(processes.gather(pairs)) if pairs is not None else None
    errors = Errors()
    for found in heads.values():
        errors.add(found)
    heads.pop("", None)
    return Validation(total, errors, heads, pairs)


def _judged(
    model: Model,
    part: Sequence[TrainingSample],
    counts: Mapping[str, int],
    objective: Objective,
    device: torch.device,
    pairs: Parity | None,
) -> Iterator[tuple[float, Errors]]:
    """Loss and errors of a part; where memory runs out, those of its halves.

    Raises:
        RunFailedError: One structure alone does not fit into memory.
    """
    try:
        with torch.no_grad():
            value, found = objective.judge(model, part, counts, 1.0, device, learning=False, parity=pairs)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        make_room(part, error)
    else:
        yield float(value), found
        return
    _log.warning(
        "Memory did not suffice to validate %d structures at once: they are taken in two.", len(part)
    )
    middle = len(part) // 2
    for half in (part[:middle], part[middle:]):
        yield from _judged(model, half, counts, objective, device, pairs)


def _joined(shares: Sequence[Parity]) -> Parity:
    """Labels and predictions of all processes."""
    whole = Parity()
    for share in shares:
        for name, pairs in share.pairs.items():
            whole.pairs.setdefault(name, []).extend(pairs)
    return whole


def _summed(
    total: float, heads: dict[str, Errors], names: Sequence[str], processes: Processes
) -> tuple[float, dict[str, Errors]]:
    """Loss and errors over all processes, in one message."""
    scalars = [total, *(value for errors in heads.values() for value in errors.flat(names))]
    whole = processes.sum(torch.tensor(scalars, dtype=torch.float64, device=processes.device)).tolist()
    width = 2 * len(names)
    parts = [whole[1 + i * width : 1 + (i + 1) * width] for i in range(len(heads))]
    return whole[0], {h: Errors.from_flat(names, part) for h, part in zip(heads, parts, strict=True)}

"""The optimiser with its groups of weights, and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from atomml.base_model import Model
from atomml.errors import OptionError
from atomml.train.low_rank import Weights
from atomml.train.soap import SOAP
from atomml.train.weights import fallen

__all__ = ["OPTIMISERS", "LearningRate", "Plateau", "freeze", "make_optimiser", "set_rate"]

OPTIMISERS = ("soap", "adamw")
"""Kinds of optimiser by name."""


@dataclass(frozen=True)
class LearningRate:
    """A factor on the learning rate for each step.

    Attributes:
        schedule: ``cosine``, ``exponential``, ``plateau`` or ``constant``.
        warmup: Steps in which the factor rises linearly from zero.
        final: Factor at the end of the cosine or exponential, and the smallest on a plateau.
        stair: Steps of equal rate in an exponential fall.
    """

    schedule: str
    warmup: int
    final: float
    stair: int = 1

    def factor(self, step: int, n_steps: int, plateau: float = 1.0) -> float:
        """The factor for step ``step`` (from 0) of ``n_steps``.

        Cosine: ``final + (1 - final) (1 + cos(pi x)) / 2`` (Loshchilov and Hutter, ICLR 2017, eq. 5,
        without restarts), ``x`` from 0 after the warm-up to 1 at the last step.
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.schedule == "cosine":
            length = max(n_steps - 1 - self.warmup, 1)
            x = min((step - self.warmup) / length, 1.0)
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * x))
        if self.schedule == "exponential":  # from the start, as weights that follow it do
            return fallen(step / max(n_steps, 1), self.final, n_steps / self.stair)
        return plateau if self.schedule == "plateau" else 1.0


@dataclass
class Plateau:
    """Lowers the learning rate when the validation loss has stopped to fall.

    Attributes:
        factor: Present factor on the learning rate.
        best: Lowest loss so far.
        bad: Validations since then, or since the last change.
    """

    factor: float = 1.0
    best: float = math.inf
    bad: int = 0

    def report(self, loss: float, patience: int, decay: float, smallest: float) -> None:
        """Take a validation loss; after more than ``patience`` without a new best one the factor decays."""
        if loss < self.best:
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > patience:
            self.factor, self.bad = max(self.factor * decay, smallest), 0


def freeze(model: Model, blocks: tuple[str, ...]) -> list[str]:
    """Let every parameter learn but those of the named blocks; returns the names of those that learn.

    Raises:
        OptionError: No such block, or nothing is left to learn.
    """
    known = model.blocks()
    for block in blocks:
        if block not in known:
            raise OptionError(
                f"{model.info.name} has no block {block!r} to freeze: there are {', '.join(known)}."
            )
    fixed = {name for block in blocks for name in known[block]}
    free = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
        if name not in fixed:
            free.append(name)
    if not free:
        raise OptionError(f"Every block of {model.info.name} is frozen: leave one to learn.")
    return free


def make_optimiser(
    weights: Weights, kind: str, rate: float, decay: float, layer_decay: float
) -> torch.optim.Optimizer:
    """An optimiser over the parameters that learn.

    ``adamw`` is that of Loshchilov and Hutter (ICLR 2019), ``soap`` that of Vyas et al.
    (:class:`~atomml.train.soap.SOAP`), which needs fewer steps for the same errors.

    Biases, norms, frequencies (vectors) and embeddings do not decay: an embedding of an element that the
    data lack would otherwise shrink step by step without ever being used.

    Args:
        weights: What learns.
        kind: One of ``OPTIMISERS``.
        rate: Learning rate of the last block.
        decay: Weight decay.
        layer_decay: Factor on the learning rate from each block to the one before it.
    """
    embeddings, parameters = set(weights.plain()), weights.learning()
    groups: list[dict[str, Any]] = []
    blocks = weights.blocks()
    for depth, names in enumerate(blocks.values()):
        scale = layer_decay ** (len(blocks) - 1 - depth)
        learning = [name for name in names if name in parameters]
        for decays in (True, False):
            chosen = [
                parameters[name]
                for name in learning
                if (parameters[name].ndim >= 2 and name not in embeddings) == decays
            ]
            if chosen:
                groups.append(
                    {"params": chosen, "weight_decay": decay if decays else 0.0, "rate": rate * scale}
                )
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=rate, foreach=True)
    return SOAP(groups, rate, plain=[parameters[name] for name in embeddings if name in parameters])


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """The learning rate of each group: its own rate times the schedule's factor."""
    for group in optimiser.param_groups:
        group["lr"] = group["rate"] * factor


def optimiser_arrays(optimiser: torch.optim.Optimizer) -> Mapping[str, torch.Tensor]:
    """What the optimiser remembers, by ``NUMBER.KEY`` of parameter and quantity."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{key}": value for number, row in state.items() for key, value in row.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, arrays: Mapping[str, torch.Tensor]) -> None:
    """Undo :func:`optimiser_arrays` on an optimiser over the same parameters."""
    whole = optimiser.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})

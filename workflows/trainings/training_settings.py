"""From the options of a training to what the training room takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from atomml.errors import OptionError

if TYPE_CHECKING:
    from atomml.train.losses import Loss
    from atomml.train.objective import Objective
    from atomml.train.settings import TrainSettings
    from atomml.workflows.trainings.loop_options import LoopOptions
    from atomml.workflows.trainings.training import TrainingOptions

__all__ = ["loss_of", "parse_weights", "train_settings"]


def loss_of(options: TrainingOptions) -> Loss:
    """The loss that the options describe.

    Raises:
        OptionError: A weight that is none, all of them zero, or a delta of a loss that has none.
    """
    from atomml.data.entry import LABELS
    from atomml.train.losses import Loss
    from atomml.train.weights import WeightSchedule

    if options.loss not in ("huber", "conditional-huber"):
        _refuse_unread(options, ("huber_delta",), f"--loss {options.loss}")
    weights = {
        name: WeightSchedule.parse(getattr(options, f"{name}_weight"), f"{name}_weight") for name in LABELS
    }
    if all(weight.is_zero for weight in weights.values()):
        raise OptionError("Every weight of the loss is zero: give energies or forces one.")
    return Loss(options.loss, options.huber_delta, weights)


def train_settings(options: LoopOptions, objective: Objective, layer_decay: float) -> TrainSettings:
    """What the trainer is told.

    Raises:
        OptionError: Options that contradict each other.
    """
    from atomml.md.driver import parse_duration
    from atomml.train.batches import Limits
    from atomml.train.optimiser import LearningRate
    from atomml.train.settings import TrainSettings

    seconds: float | None = None
    if options.max_time is not None:
        try:
            seconds = parse_duration(options.max_time)
        except ValueError:
            raise OptionError(
                f"max_time is {options.max_time!r}: give a length of time such as 90s, 15m or 2h."
            ) from None
    _refuse_unread(
        options,
        [name for name, schedules in _READ_BY.items() if options.schedule not in schedules],
        f"--schedule {options.schedule}",
    )
    if not options.ema < 1:
        raise OptionError("ema is 1: such an average never moves; give 0.99, say, or 0 for none.")
    return TrainSettings(
        objective=objective,
        epochs=options.epochs,
        batch_size=options.batch_size,
        limits=Limits(options.max_atoms, options.max_edges),
        rate=options.learning_rate,
        schedule=LearningRate(options.schedule, options.warmup, options.final_rate, options.decay_steps),
        plateau_patience=options.plateau_patience,
        plateau_decay=options.plateau_decay,
        optimiser=options.optimiser,
        weight_decay=options.weight_decay,
        layer_decay=layer_decay,
        clip=options.clip,
        average=options.ema,
        seed=options.seed,
        valid_every=options.valid_every,
        patience=options.patience,
        save_every=options.save_every,
        max_time_s=seconds,
        max_steps=options.max_steps,
    )


_READ_BY = {
    "final_rate": ("cosine", "exponential", "plateau"),
    "decay_steps": ("exponential",),
    "plateau_patience": ("plateau",),
    "plateau_decay": ("plateau",),
}
"""Schedules of the learning rate that read an option."""


def _refuse_unread(options: LoopOptions, names: Sequence[str], of: str) -> None:
    """Nothing, unless an option was given that nothing would read.

    Raises:
        OptionError: Names the option.
    """
    defaults = {entry.name: entry.default for entry in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise OptionError(f"--{name.replace('_', '-')} says nothing to {of}: leave it out.")


def parse_weights(texts: Sequence[str], option: str, form: str) -> dict[str, float]:
    """``Surface=2`` and so on, by name.

    Args:
        texts: What was given.
        option: Its name.
        form: What it must look like.

    Raises:
        OptionError: Not NAME=NUMBER, or a negative number.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not equals or not 0 <= weight < float("inf"):
            raise OptionError(f"{option} holds {text!r}: write {form}.")
        found[name.strip()] = weight
    return found

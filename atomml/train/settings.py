"""What a training is told, resolved from the options of a command."""

from __future__ import annotations

from dataclasses import dataclass

from atomml.train.batches import Limits
from atomml.train.objective import Objective
from atomml.train.optimiser import LearningRate

__all__ = ["TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """What a training is told.

    Attributes:
        objective: What is minimised.
        epochs: Passes over the data at which it ends.
        max_steps: Steps at which it ends, if that is sooner; 0 for no such limit.
        batch_size: Structures in a step's batch, over all processes.
        limits: Largest part of a batch that is computed at once.
        rate: Learning rate of the last block.
        schedule: How it goes.
        plateau_patience: Validations without a new best one before it falls, with ``plateau``.
        plateau_decay: Factor by which it then falls.
        optimiser: ``soap`` or ``adamw``.
        weight_decay: Decoupled weight decay.
        layer_decay: Factor on the learning rate from each block to the one before it.
        clip: Largest norm of a gradient; 0 for none.
        average: Decay of the moving average of the weights; 0 for none.
        seed: Seed of the order.
        valid_every: Epochs between two validations.
        patience: Validations without a new best one before the run ends; 0 for never.
        save_every: Steps between two restart files.
        max_time_s: Seconds that the run may take, turned into a number of steps at the start.
    """

    objective: Objective
    epochs: int
    batch_size: int
    limits: Limits
    rate: float
    schedule: LearningRate
    plateau_patience: int = 5
    plateau_decay: float = 0.5
    optimiser: str = "soap"
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    clip: float = 10.0
    average: float = 0.99
    seed: int = 0
    valid_every: int = 1
    patience: int = 0
    save_every: int = 50
    max_time_s: float | None = None
    max_steps: int = 0

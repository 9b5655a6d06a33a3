"""Options of a training's loop, whatever is trained. Only the standard library is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from atomml.options import option

__all__ = ["LoopOptions"]


@dataclass(frozen=True)
class LoopOptions:
    """Options of every training; each field's help, unit and range are its metadata."""

    epochs: int = option(100, "passes over the training set", minimum=1)
    max_steps: int = option(0, "steps at which it ends, if that is sooner; 0 for no such limit", minimum=0)
    max_time: str | None = option(
        None, "limit of computing time (90s, 15m, 2h), turned into a number of steps at the start"
    )
    batch_size: int = option(4, "structures in a step, over all processes", minimum=1)
    optimiser: str = option(
        "soap", "optimiser; adamw wants a lower learning rate, such as 0.002", choices=("soap", "adamw")
    )
    learning_rate: float = option(5e-3, "learning rate after the warm-up", above=0.0)
    schedule: str = option(
        "cosine", "learning rate", choices=("cosine", "exponential", "plateau", "constant")
    )
    warmup: int = option(20, "steps in which the learning rate rises", minimum=0)
    final_rate: float = option(0.01, "last learning rate over the first", minimum=0.0, maximum=1.0)
    decay_steps: int = option(1, "steps of equal rate in an exponential fall", minimum=1)
    plateau_patience: int = option(5, "validations without a better one before plateau acts", minimum=1)
    plateau_decay: float = option(0.5, "factor on the learning rate then", above=0.0, maximum=1.0)
    weight_decay: float = option(0.0, "decoupled weight decay", minimum=0.0)
    clip: float = option(10.0, "largest norm of a gradient; 0 for none", minimum=0.0)
    ema: float = option(
        0.99, "decay of the moving average of the weights; 0 for none", minimum=0.0, maximum=1.0
    )
    valid_fraction: float = option(
        0.1,
        "share that is held out where no validation files are given; 0 for none",
        minimum=0.0,
        maximum=0.9,
    )
    valid_every: int = option(1, "epochs between two validations", minimum=1)
    patience: int = option(0, "validations without a better one before the run ends; 0 for never", minimum=0)
    seed: int = option(0, "seed of order, held-out part, fresh weights and replayed structures", minimum=0)
    save_every: int = option(50, "steps between two restart files", minimum=1)
    max_atoms: int = option(2048, "atoms that are computed at once; larger batches are cut", minimum=1)
    max_edges: int = option(200_000, "edges that are computed at once; larger batches are cut", minimum=1)
    precision: str = option(
        "float32", "precision; tf32 and bf16 on GPUs", choices=("float32", "float64", "tf32", "bf16")
    )
    device: str = option("auto", "device: auto, cpu, cuda, cuda:1")
    tensorboard: bool = option(False, "write TensorBoard's files too (extra tensorboard)")
    name: str = option("", "name of the model that is written", metavar="NAME")

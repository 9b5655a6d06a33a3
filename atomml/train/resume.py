"""The whole state of a training, so that a run that was killed goes on to the same bits.

Weights, their average, the optimiser's memory, where in which epoch the run is, and what it has seen of
the epoch so far. The order of the data follows from seed and epoch, so there is no generator to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from atomml.base_model import Model
from atomml.checkpoint import load_state, save_state
from atomml.errors import CheckpointError
from atomml.train.averaging import MovingAverage
from atomml.train.losses import Errors
from atomml.train.low_rank import Weights
from atomml.train.optimiser import Plateau, load_optimiser, optimiser_arrays

__all__ = ["RESTART", "Progress", "load_training", "save_training"]

RESTART = "restart.safetensors"
_FORMAT = "atomml training 1"


@dataclass
class Progress:
    """Where a training is.

    Attributes:
        n_steps: Step at which it ends.
        step: Steps done.
        epoch: Epoch, from 0.
        position: Batches done in this epoch.
        loss_sum: Sum of the losses of these batches.
        errors: Their absolute errors.
        best_loss: Lowest validation loss; None before the first validation.
        best_epoch: Epochs done when it was reached.
        best_step: Steps done then.
        bad: Validations since then.
        plateau: State of the plateau schedule.
        max_time: The limit of time that gave ``n_steps``, as it was given.
        max_atoms, max_edges: Limits of a part, as the memory has left them.
        stopped: Why the run ended before ``n_steps``; "" if it did not.
        log_size: Bytes of the log.
    """

    n_steps: int
    max_atoms: int
    max_edges: int
    step: int = 0
    epoch: int = 0
    position: int = 0
    loss_sum: float = 0.0
    errors: Errors = field(default_factory=Errors)
    best_loss: float | None = None
    best_epoch: int = 0
    best_step: int = 0
    bad: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    max_time: str = ""
    stopped: str = ""
    log_size: int = 0

    @property
    def share(self) -> float:
        """Share of the run that is done."""
        return self.step / max(self.n_steps, 1)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.stopped) or self.step >= self.n_steps

    @classmethod
    def from_header(cls, values: Mapping[str, Any]) -> Progress:
        """Undo ``dataclasses.asdict`` after JSON."""
        known = dict(values)
        known["errors"] = Errors(**known["errors"])
        best = known["plateau"]["best"]
        known["plateau"] = Plateau(**known["plateau"] | {"best": float("inf") if best is None else best})
        return cls(**known)

    def header(self) -> dict[str, Any]:
        """The state as JSON, exactly; infinity, which JSON lacks, as None."""
        values = asdict(self)
        if values["plateau"]["best"] == float("inf"):
            values["plateau"]["best"] = None
        return values


def save_training(
    path: Path,
    model: Model,
    weights: Weights,
    average: MovingAverage,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, str],
) -> None:
    """Write the restart file, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"learned.{name}": tensor for name, tensor in weights.state().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.weights.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser_arrays(optimiser).items()}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    header = {"format": _FORMAT, "identity": dict(identity), "progress": progress.header()}
    save_state(path, arrays, header)


def load_training(
    path: Path, model: Model, weights: Weights, average: MovingAverage, optimiser: torch.optim.Optimizer
) -> tuple[Progress, dict[str, str]]:
    """Put model, what was learned, average and optimiser back; returns the progress and the identity.

    Raises:
        CheckpointError: A damaged file, or one of another kind of run or model.
    """
    state = load_state(path)
    if state.header.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a restart file of a training: start again with --overwrite.")
    kinds = ("model", "learned", "average", "optimiser")
    parts: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in kinds}
    for name, array in state.arrays.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = torch.from_numpy(array)
    try:
        with torch.no_grad():
            for name, tensor in model.state_dict(keep_vars=True).items():
                tensor.copy_(parts["model"].pop(name))
            for name, tensor in weights.state().items():
                tensor.copy_(parts["learned"].pop(name))
            for name, tensor in average.weights.items():
                tensor.copy_(parts["average"].pop(name))
        load_optimiser(optimiser, parts["optimiser"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not fit this model and these options: start again with --overwrite."
        ) from error
    if parts["model"] or parts["learned"] or parts["average"]:
        raise CheckpointError(f"{path} holds weights that this run has not: start again with --overwrite.")
    return Progress.from_header(state.header["progress"]), dict(state.header["identity"])

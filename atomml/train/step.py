"""The gradient of one batch, in parts that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atomml.base_model import Model
from atomml.errors import RunFailedError
from atomml.train.batches import Limits, cut
from atomml.train.joint import join
from atomml.train.losses import Errors
from atomml.train.objective import Objective, TrainingSample
from atomml.train.processes import Processes

__all__ = ["BatchGroup", "Gradient", "Gradients", "is_out_of_memory", "make_room"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchGroup:
    """Structures of a batch that are averaged together: the user's, or those replayed.

    Attributes:
        samples: All of them, over all processes.
        weight: Weight of their loss in the batch's.
        reported: Whether their errors count among those of the training.
    """

    samples: Sequence[TrainingSample]
    weight: float = 1.0
    reported: bool = True


@dataclass
class Gradient:
    """What one batch gives.

    Attributes:
        tensors: One for each parameter that learns, in order.
        loss: The batch's loss.
        errors: Absolute errors of the reported groups.
        stop: Whether any process was asked to stop.
    """

    tensors: list[Tensor]
    loss: float
    errors: Errors = field(default_factory=Errors)
    stop: bool = False


class Gradients:
    """Computes the gradient of batches; a batch too large for the memory is cut smaller from then on.

    Args:
        model: The model; its parameters that require a gradient learn.
        objective: What is minimised.
        processes: Who computes.
        limits: Largest part that is computed at once.
        warn: Called with a sentence when the memory did not suffice.

    Attributes:
        limits: As they are now.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        processes: Processes,
        limits: Limits,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self.model, self.objective, self.processes = model, objective, processes
        self.limits = limits
        self._warn = warn
        self._together = join(model, processes)
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(self, groups: Sequence[BatchGroup], progress: float, *, stop: bool = False) -> Gradient:
        """The gradient of a whole batch, the same in every process.

        Args:
            groups: The batch.
            progress: Share of the run that is done.
            stop: Whether this process was asked to stop.

        Raises:
            RunFailedError: One structure alone does not fit into memory, or the loss is not finite.
        """
        total = Gradient([torch.zeros_like(p) for p in self._parameters], 0.0)
        for group in groups:
            counts = self.objective.counts(group.samples)
            for part in self._parts(group.samples):
                self._add(part, group, counts, progress, total)
        total = self._reduced(total, stop)
        if not torch.isfinite(torch.tensor(total.loss)):
            raise RunFailedError(
                f"The loss is {total.loss} at {progress:.1%} of the training: lower the "
                f"learning rate, or check the labels of {groups[0].samples[0].where} and what comes with it."
            )
        return total

    def _parts(self, samples: Sequence[TrainingSample]) -> list[list[TrainingSample]]:
        """This process's parts; where all compute each part together, as many as any other has."""
        parts = list(cut(self.processes.share(samples), self.limits))
        if not self._together:
            return parts
        counts = torch.zeros(self.processes.n, device=self.processes.device)
        counts[self.processes.rank] = len(parts)
        most = int(self.processes.sum(counts).max())
        return parts + [[]] * (most - len(parts))

    def _add(
        self,
        samples: list[TrainingSample],
        group: BatchGroup,
        counts: dict[str, int],
        progress: float,
        total: Gradient,
    ) -> None:
        """Add one part; where memory runs out, its halves."""
        try:
            loss, errors, gradients = self._part(samples, counts, progress)
        except RuntimeError as error:  # torch.OutOfMemoryError among them
            if not is_out_of_memory(error):
                raise
            if self._together:
                raise RunFailedError(
                    f"The memory does not suffice for {len(samples)} structures at once, and other processes "
                    "wait for their statistics: lower --max-atoms."
                ) from error
            make_room(samples, error)
            self.limits = self.limits.halved(samples)
            self._warn(
                f"Memory did not suffice for {len(samples)} structures at once: from here on "
                f"at most {self.limits.max_atoms} atoms and {self.limits.max_edges} edges are computed at a "
                "time; the gradient is the same."
            )
        else:
            total.loss += group.weight * loss
            for mine, part in zip(total.tensors, gradients, strict=True):
                if part is not None:
                    mine.add_(part, alpha=group.weight)
            if group.reported:
                total.errors.add(errors)
            return
        middle = len(samples) // 2
        for half in (samples[:middle], samples[middle:]):
            self._add(half, group, counts, progress, total)

    def _part(
        self, samples: list[TrainingSample], counts: dict[str, int], progress: float
    ) -> tuple[float, Errors, tuple[Tensor | None, ...]]:
        """Loss, errors and gradients of a part; nothing is added anywhere until all of it is there."""
        with self.processes.casting():
            loss, errors = self.objective.judge(
                self.model, samples, counts, progress, self.processes.device, learning=True
            )
            if not loss.requires_grad:  # nothing of this part is labelled
                return float(loss), errors, tuple(None for _ in self._parameters)
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        return float(loss.detach()), errors, gradients

    def _reduced(self, total: Gradient, stop: bool) -> Gradient:
        """Summed over the processes, in one message."""
        if self.processes.n == 1:
            total.stop = stop
            return total
        flat = nn.utils.parameters_to_vector(total.tensors).double()
        names = self.objective.names
        scalars = [total.loss, float(stop), *total.errors.flat(names)]
        tail = torch.tensor(scalars, dtype=torch.float64, device=flat.device)
        whole = self.processes.sum(torch.cat([flat, tail]))
        nn.utils.vector_to_parameters(whole[: -len(scalars)].to(total.tensors[0].dtype), total.tensors)
        loss, stopped, *rest = whole[-len(scalars) :].tolist()
        return Gradient(total.tensors, loss, Errors.from_flat(names, rest), stopped > 0)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU."""
    words = str(error).lower()
    said = "not enough memory" in words or "out of memory" in words
    return said or isinstance(error, torch.OutOfMemoryError)


def make_room(samples: Sequence[TrainingSample], error: RuntimeError) -> None:
    """Make room on the GPU for a part of these samples; give up on a single structure.

    Raises:
        RunFailedError: Names the structure that alone is too large.
    """
    if len(samples) == 1:
        raise RunFailedError(
            f"{samples[0].where} ({samples[0].graph.n_atoms} atoms) alone does not fit into memory: "
            "leave it out, or train on a device with more."
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

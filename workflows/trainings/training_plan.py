"""``--dry-run`` of a training: everything is read and checked, a step is timed, nothing is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from atomml.workflows.trainings.training_session import Session

if TYPE_CHECKING:
    from atomml.train.trainer import Trainer

__all__ = ["Rehearsal"]


class Rehearsal(Session):
    """A session without a folder, whose end is a plan."""

    def __init__(self, *given: Any, started: float) -> None:
        super().__init__(*given, resume=False, overwrite=False, started=started)

    def begin(self) -> None:
        """Nothing: no folder is opened."""

    def set_references(self, how: str) -> None:
        """Nothing: fits would take the energies of the whole set, and cost no step."""

    def plan(self, method: str) -> dict[str, Any]:
        """Sizes, steps, seconds and warnings, fit for JSON."""
        self.method = method
        trainer = self.trainer()
        cost, validation = trainer.cost_per_step(), _validation_seconds(trainer)
        n_batches, every = trainer.order.n_batches, self.settings.valid_every
        steps, per_step = trainer.progress.n_steps, cost + validation / (n_batches * every)
        if self.settings.max_time_s is not None:
            steps = min(steps, max(int(self.settings.max_time_s / per_step), 1))
        parameters = list(self.model.parameters())
        return {
            "command": self.command,
            "method": method,
            "sets": {what: seen.record() for what, seen in self.surveys.items()},
            "held_out": self.held_out or None,
            "model": self.model.info.name,
            "device": str(self.processes.device),
            "weights": sum(p.numel() for p in parameters),
            "weights_that_learn": sum(p.numel() for p in trainer.weights.learning().values()),
            "steps": steps,
            "steps_per_epoch": n_batches,
            "step_s": cost,
            "validation_s": validation,
            "estimated_s": steps * per_step,
            "out": str(self.paths.out),
            "out_exists": self.paths.out.exists(),
            "warnings": self.folder.warnings,
        }


def _validation_seconds(trainer: Trainer) -> float:
    from atomml.train.validation import validate

    if trainer.data.valid is None:
        return 0.0
    started = time.perf_counter()
    limits, objective = trainer.gradients.limits, trainer.settings.objective
    validate(trainer.model, trainer.data.valid, objective, trainer.processes, limits)
    return time.perf_counter() - started

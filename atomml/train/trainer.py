"""The loop of a training: steps, epochs, validations, restart files, the best and the last weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atomml.base_model import Model
from atomml.checkpoint import save_model
from atomml.errors import CheckpointError, FileFormatError
from atomml.interruption import deferred_signals
from atomml.md.recorder import GrowingFile
from atomml.train.averaging import MovingAverage
from atomml.train.batches import Limits, Order, cycle
from atomml.train.log import columns, log_row, row_text
from atomml.train.losses import Errors
from atomml.train.low_rank import OwnWeights, Weights
from atomml.train.objective import SampleSet
from atomml.train.optimiser import make_optimiser, set_rate
from atomml.train.processes import Processes
from atomml.train.resume import RESTART, Progress, load_training, save_training
from atomml.train.settings import TrainSettings
from atomml.train.step import BatchGroup, Gradients
from atomml.train.validation import Validation, validate

__all__ = ["BEST", "LAST", "LOG", "Data", "Hooks", "Replay", "Trainer"]

_log = logging.getLogger(__name__)

BEST, LAST, LOG = "model.safetensors", "last.safetensors", "log.csv"
INPUTS = {
    "data_train": "The training data have",
    "data_valid": "The validation data have",
    "files_replay": "The replayed files have",
    "model_sha256": "The model that it starts from has",
}
"""What a resumed training must find as it was, by its name in the identity; a sentence begins with it."""
_TIMED_STEPS = 4
_LINES_BEFORE_FIRST_STEP = 2  # of the log: names, and the errors at the start
_MARGIN = 0.04  # of the time limit, for steps that are slower than those that were timed


def _nothing(*_: Any, **__: Any) -> None:
    """A hook that nobody set."""


@dataclass(frozen=True)
class Hooks:
    """Where a training reports to.

    Attributes:
        event: ``event(kind, **data)``, for the journal.
        warn: ``warn(sentence)``.
        elapsed: Seconds that the whole run has taken so far.
    """

    event: Callable[..., None] = _nothing
    warn: Callable[[str], None] = _log.warning
    elapsed: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True)
class Replay:
    """Structures that are shown beside the user's, so that the model does not forget.

    Attributes:
        samples: The structures with the foundation model's labels.
        per_batch: How many stand in every batch.
        weight: Weight of their loss.
    """

    samples: SampleSet
    per_batch: int
    weight: float


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes:
        train: The user's structures.
        valid: Structures that are held out; None for none.
        replay: Structures against forgetting; None for none.
    """

    train: SampleSet
    valid: SampleSet | None = None
    replay: Replay | None = None


class Trainer:
    """Trains a model in a folder.

    ``model.safetensors`` holds the best weights so far (of the moving average, if there is one; the last
    ones without a validation set), ``last.safetensors`` the last, ``log.csv`` a line per epoch, and
    ``restart.safetensors`` the whole state.

    Args:
        model: The model; its parameters that require a gradient learn.
        data: What it is trained on.
        settings: How.
        folder: An existing folder.
        processes: Who computes; only the first of them writes.
        weights: What learns, if not the model's own parameters that require a gradient.
        header: What the checkpoints say of the training; nothing that differs from run to run.
        identity: What must be the same for a resumed run to give the same bits; what :data:`INPUTS` names
            must be the same for it to go on at all.
        hooks: Where the run reports to.

    Attributes:
        progress: Where the training is.
    """

    def __init__(
        self,
        model: Model,
        data: Data,
        settings: TrainSettings,
        folder: Path,
        processes: Processes,
        *,
        weights: Weights | None = None,
        header: Mapping[str, Any] | None = None,
        identity: Mapping[str, str] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.model, self.data, self.settings = model.eval(), data, settings
        self.folder, self.processes = Path(folder), processes
        self.header, self.identity = dict(header or {}), dict(identity or {})
        self.hooks = hooks or Hooks()
        self.order = Order(len(data.train), settings.batch_size, settings.seed)
        self.weights = weights or OwnWeights(model)
        self.average = MovingAverage(self.weights, settings.average)
        self.optimiser = make_optimiser(
            self.weights, settings.optimiser, settings.rate, settings.weight_decay, settings.layer_decay
        )
        self.gradients = Gradients(model, settings.objective, processes, settings.limits, self.hooks.warn)
        self._learning = list(self.weights.learning().values())
        limits = settings.limits
        n_steps = settings.epochs * self.order.n_batches
        n_steps = min(n_steps, settings.max_steps) if settings.max_steps else n_steps
        self.progress = Progress(n_steps, limits.max_atoms, limits.max_edges)

    def run(self, *, resume: bool = False) -> Progress:
        """Train to the end, or to the step after a signal.

        Args:
            resume: Go on from the restart file; from the start, with a warning, if there is none.

        Raises:
            RunFailedError: The loss is not finite, or one structure does not fit into memory.
            CheckpointError: The restart file is damaged or belongs to another run.
            FileFormatError: Data or model have changed since the run began.
            KeyboardInterrupt: After Ctrl-C, with a restart file of the present step; SIGTERM likewise does
                what it did before.
        """
        resumed = resume and self._resume()
        with ExitStack() as stack:
            if self.processes.is_first:
                log = GrowingFile(self.folder / LOG, self.progress.log_size)
                self._rows = stack.enter_context(log)
            if not resumed:
                self._begin()
            with deferred_signals() as received:
                self._loop(received)
        return self.progress

    def _begin(self) -> None:
        """The errors before the first step, the number of steps, and the first restart file."""
        if self.processes.is_first:
            for name in (RESTART, BEST, LAST):
                (self.folder / name).unlink(missing_ok=True)
        self._append(",".join(columns(self.settings.objective.units)) + "\n")
        seconds = self._end_epoch(first=True)
        if self.settings.max_time_s is not None:
            self._limit_steps(self.settings.max_time_s, seconds)
        warmup, n_steps = self.settings.schedule.warmup, self.progress.n_steps
        if n_steps <= warmup:
            self.hooks.warn(
                f"The {n_steps} steps of the training end within its warm-up of {warmup}: the learning rate "
                f"stays below {self.settings.rate:g}; lower --warmup, or train longer."
            )
        self._save()

    def _resume(self) -> bool:
        """Take up the restart file; False where the run was killed before it wrote one."""
        path = self.folder / RESTART
        if not path.exists():
            self._check_nothing_lost(path)
            self.hooks.warn("There is no restart file yet: the training starts from its first step again.")
            return False
        self.progress, before = load_training(path, self.model, self.weights, self.average, self.optimiser)
        self.gradients.limits = Limits(self.progress.max_atoms, self.progress.max_edges)
        changes = [
            f"{key} was {before.get(key)} and is {value}"
            for key, value in self.identity.items()
            if before.get(key) != value
        ]
        self._check_inputs(before)
        if changes:
            self.hooks.warn(
                f"The training goes on, but not with the bits it would have had: {', '.join(changes)}."
            )
        self.hooks.event("restart read", step=self.progress.step, epoch=self.progress.epoch)
        return True

    def _check_inputs(self, before: Mapping[str, str]) -> None:
        """Refuse to go on with other data, or from another model, than the run began with."""
        for key, what in INPUTS.items():
            if key in before and key in self.identity and before[key] != self.identity[key]:
                raise FileFormatError(
                    f"{what} changed since the training in {self.folder} began: put back what it was, or "
                    f"start anew with --overwrite ({BEST} there can be fine-tuned on other data)."
                )

    def _check_nothing_lost(self, path: Path) -> None:
        """A run that has made epochs has had a restart file; without it, going on would be starting anew."""
        log = self.folder / LOG
        if log.exists() and log.read_bytes().count(b"\n") > _LINES_BEFORE_FIRST_STEP:
            raise CheckpointError(
                f"{path} is gone, though the training had made steps: put it back, or start again with "
                "--overwrite."
            )

    def _loop(self, received: list[int]) -> None:
        """Step after step; at the end of an epoch the validation, now and then a restart file."""
        progress = self.progress
        while not progress.over:
            stop = self._step(bool(received))
            ended = progress.position == self.order.n_batches or progress.step == progress.n_steps
            if ended:
                self._end_epoch()
            if progress.over or stop or progress.step % self.settings.save_every == 0:
                self._save()
            if stop:
                self.hooks.event("interrupted", step=progress.step)
                return
        self._finish()

    def _step(self, stop: bool) -> bool:
        """One step of the optimiser; returns whether any process was asked to stop."""
        progress, settings = self.progress, self.settings
        self.model.begin_step(progress.step, progress.n_steps, settings.seed)
        gradient = self.gradients(self._groups(progress), progress.share, stop=stop)
        for parameter, tensor in zip(self._learning, self.weights.gradients(gradient.tensors), strict=True):
            parameter.grad = tensor
        if settings.clip > 0:
            torch.nn.utils.clip_grad_norm_(self._learning, settings.clip)
        set_rate(self.optimiser, self._rate_factor())
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.weights.put()
        progress.step += 1
        progress.position += 1
        self.average.update(progress.step)
        progress.loss_sum += gradient.loss
        progress.errors.add(gradient.errors)
        limits = self.gradients.limits
        progress.max_atoms, progress.max_edges = limits.max_atoms, limits.max_edges
        self._report_step(gradient.loss)
        return gradient.stop

    def _groups(self, at: Progress) -> list[BatchGroup]:
        """The batch of a step: the user's structures, and those that are replayed."""
        train, replay = self.data.train, self.data.replay
        groups = [BatchGroup([train[int(i)] for i in self.order.batch(at.epoch, at.position)])]
        if replay is not None:
            chosen = cycle(len(replay.samples), replay.per_batch, self.settings.seed, at.step)
            groups.append(BatchGroup([replay.samples[int(i)] for i in chosen], replay.weight, reported=False))
        return groups

    def _rate_factor(self) -> float:
        progress = self.progress
        return self.settings.schedule.factor(progress.step, progress.n_steps, progress.plateau.factor)

    def _report_step(self, loss: float) -> None:
        errors = self.progress.errors
        shown = {
            label: factor * mae
            for name, label, factor in self.settings.objective.shown
            if (mae := errors.mae(name)) is not None
        }
        self.hooks.event(
            "progress", step=self.progress.step, of=self.progress.n_steps, **shown, loss=float(loss)
        )

    def _end_epoch(self, *, first: bool = False) -> float:
        """Validate, write a line, keep the best, and decide whether to go on; returns the seconds it took."""
        started = time.perf_counter()
        progress, settings = self.progress, self.settings
        done = 0 if first else progress.epoch + 1
        last = progress.step >= progress.n_steps
        validation: Validation | None = None
        if self.data.valid is not None and (first or last or done % settings.valid_every == 0):
            with self.average.in_place():
                validation = validate(
                    self.model, self.data.valid, settings.objective, self.processes, self.gradients.limits
                )
        rate = 0.0 if first else settings.rate * self._rate_factor()
        row = log_row(progress, done, rate, validation, settings.objective.units)
        self._append(row_text(row))
        self.hooks.event("epoch", **{key: value for key, value in row.items() if value is not None})
        if validation is not None:
            self._judge(validation.loss, done)
        if not first:
            progress.epoch, progress.position = progress.epoch + 1, 0
            progress.loss_sum, progress.errors = 0.0, Errors()
        return time.perf_counter() - started

    def _judge(self, loss: float, done: int) -> None:
        """Keep the weights if they are the best so far; lower the rate or stop if they are not."""
        progress, settings = self.progress, self.settings
        if settings.schedule.schedule == "plateau" and done > 0:
            smallest = settings.schedule.final
            progress.plateau.report(loss, settings.plateau_patience, settings.plateau_decay, smallest)
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_epoch, progress.best_step = loss, done, progress.step
            progress.bad = 0
            self._write_model(BEST)
            return
        progress.bad += 1
        if settings.patience and progress.bad >= settings.patience:
            progress.stopped = f"no lower validation loss in {progress.bad} validations"

    def _append(self, text: str) -> None:
        if self.processes.is_first:
            self._rows.append(text)

    def _write_model(self, name: str) -> None:
        """A checkpoint of the averaged weights, or of the present ones without an average."""
        if not self.processes.is_first:
            return
        step = {"step": self.progress.step, "epoch": self.progress.best_epoch if name == BEST else None}
        with self.average.in_place():
            extra = {"training": {**self.header, **{k: v for k, v in step.items() if v is not None}}}
            save_model(self.model, self.folder / name, extra)

    def _save(self) -> None:
        """The restart file: how long the log is, and everything else."""
        if not self.processes.is_first:
            return
        self._rows.sync()
        self.progress.log_size = self._rows.size
        save_training(
            self.folder / RESTART,
            self.model,
            self.weights,
            self.average,
            self.optimiser,
            self.progress,
            self.identity,
        )

    def _finish(self) -> None:
        """The last weights; they are the best ones where nothing was validated."""
        self._write_model(LAST)
        if self.data.valid is None:
            progress = self.progress
            progress.best_epoch, progress.best_step = progress.epoch, progress.step
            self._write_model(BEST)
        self.processes.wait()

    def _limit_steps(self, max_time: float, validation_s: float) -> None:
        """Time a few batches, whose gradients are thrown away, and turn the limit into a number of steps."""
        cost = self.cost_per_step() + validation_s / (self.order.n_batches * self.settings.valid_every)
        left = max_time * (1 - _MARGIN) - self.hooks.elapsed() - 2 * validation_s
        steps = self.processes.agree(max(int(left / cost), 1))
        if left < self.order.n_batches * cost:
            self.hooks.warn(
                f"The limit of {max_time:g} s leaves time for {steps} steps, less than one epoch."
            )
        progress = self.progress
        progress.n_steps = min(progress.n_steps, steps)
        progress.max_time = repr(max_time)
        self.hooks.event("steps limited", n_steps=progress.n_steps, seconds_per_step=cost)

    def cost_per_step(self) -> float:
        """Seconds of a step of mean size."""
        atoms = 0
        self.gradients(self._groups(self.progress), 0.0)  # the first one also compiles and fills caches
        started = time.perf_counter()
        for position in range(_TIMED_STEPS):
            at = Progress(1, 1, 1, step=position + 1, position=(position + 1) % self.order.n_batches)
            groups = self._groups(at)
            self.gradients(groups, 0.0)
            atoms += sum(sample.graph.n_atoms for group in groups for sample in group.samples)
        seconds = time.perf_counter() - started
        replay = self.data.replay
        mean = float(self.data.train.n_atoms.sum()) / self.order.n_batches
        mean += replay.per_batch * float(replay.samples.n_atoms.mean()) if replay else 0.0
        return seconds / atoms * mean

"""Who does the items of a run: this process, worker processes, or Parsl; and how far they are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

from atomml.errors import OptionError
from atomml.jobs import Outcome
from atomml.run import RunFolder, plain
from atomml.worker_pool import WorkerPool, available_cpus
from atomml.workflows.inputs import GivenModel, given_model

__all__ = ["Clock", "Here", "context_of", "executor_of", "has_name", "loaded_once", "workers_for"]


def context_of(model: GivenModel, *facts: Any) -> str:
    """What a result depends on beside its item: facts of the run, and the model with its weights."""
    record = model.record()
    kept = {key: record.get(key) for key in ("name", "sha256", "calculator", "dtype")}
    return json.dumps(plain([*facts, kept]), sort_keys=True)


def has_name(model: Any, used: GivenModel, workers: int | None) -> bool:
    """Whether a worker can load the model.

    Args:
        model: As it was given.
        used: The same, loaded.
        workers: How many are asked for.

    Raises:
        OptionError: It cannot, and workers are asked for.
    """
    named = isinstance(model, str | Path | GivenModel)
    if workers and not named:
        raise OptionError(f"{used.source} was made in Python, and no worker can load it: use workers=0.")
    return named


def workers_for(model: GivenModel, named: bool, asked: int | None) -> int:
    """How many processes: as asked for, else one per CPU, or one on a GPU.

    None are started for a model that has no name (``named``) by which a worker could load it.
    """
    if asked is not None:
        return asked
    if not named:
        return 0
    on_gpu = model.potential is not None and model.potential.device.type != "cpu"
    return 1 if on_gpu else available_cpus()


def loaded_once(
    model: str | GivenModel, calculator: Mapping[str, Any], dtype: str, device: str
) -> GivenModel:
    """The model of a task: itself, or by its name, loaded at the first call in a process.

    Args:
        model: Name or file, or the model where the work stays in one process.
        calculator: Keyword arguments for ``ase:MODULE:CLASS``.
        dtype: Precision of a model that is loaded.
        device: Device of a model that is loaded.
    """
    if isinstance(model, GivenModel):
        return model
    return _loaded(model, json.dumps(plain(calculator)), dtype, device)


@lru_cache(maxsize=2)
def _loaded(name: str, calculator: str, dtype: str, device: str) -> GivenModel:
    settings = json.loads(calculator)
    return given_model(name, dtype=dtype, device=device, calculator=settings, allow_code=True)


def executor_of(workers: int, threads: int, kind: str) -> AbstractContextManager[Executor]:
    """An executor of so many processes, each with so many threads; this process for none.

    Args:
        workers: Processes.
        threads: CPU threads of each.
        kind: ``pool`` for our own, ``parsl`` for Parsl's.

    Raises:
        MissingExtraError: Parsl is asked for and not installed.
    """
    if workers == 0:
        return Here()
    if kind == "parsl":
        from atomml.workflows.screens.parsl_executor import parsl_executor

        return parsl_executor(workers, threads)
    return WorkerPool(workers, threads=threads)


class Here(Executor):
    """Does each task at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done when it is returned."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Clock:
    """Says how far a run is, and how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.fresh, self.failed = total, 0, 0, 0
        self.started = time.monotonic()

    def tell(self, run: RunFolder, outcome: Outcome) -> None:
        """Count an outcome; what an earlier run did says nothing of the pace."""
        self.done += 1
        self.fresh += not outcome.kept
        self.failed += outcome.error is not None
        if outcome.kept and self.done < self.total:
            return
        pace = (time.monotonic() - self.started) / max(1, self.fresh)
        left = float(round(pace * (self.total - self.done), 1))
        run.event("structure", step=self.done, of=self.total, left_s=left, failed=self.failed, id=outcome.id)

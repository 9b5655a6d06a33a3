"""How a screen runs: structures into a manifest's items, items to workers, outcomes into files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from atomml.config import as_config
from atomml.jobs import Item, Outcome, run_jobs
from atomml.manifest import Manifest, Shard, digest_of
from atomml.run import RunFolder
from atomml.workflows.inputs import GivenModel, input_record
from atomml.workflows.run_record import finish_run
from atomml.workflows.screens.screening import ScreenOptions, ScreenResult
from atomml.workflows.screens.screening_entries import Entry, entries_of
from atomml.workflows.screens.screening_files import fill_result, write_files
from atomml.workflows.screens.screening_work import Order, ScreenTask, work
from atomml.workflows.shards import MANIFEST, adopt_shards, recorded_outcomes, shard_folder, shard_named
from atomml.workflows.work_sharing import Clock, context_of, executor_of, workers_for

__all__ = ["Screen"]

_CALLS_EACH = 4


@dataclass
class Screen:
    """One screen, from its structures to its files.

    Attributes:
        workflow: What is done to each structure.
        sources: Files as text, other structures as they are.
        model: The model.
        named: Whether a worker can load the model by its name.
        options: Of the screen.
        settings: Options of the workflow, all of them.
        dtype: Precision of the model.
        device: Device of the model.
        threads: CPU threads of a worker.
        pool: An executor from outside.
    """

    workflow: str
    sources: list[Any]
    model: GivenModel
    named: bool
    options: ScreenOptions
    settings: dict[str, Any]
    dtype: str
    device: str
    threads: int | None = None
    pool: Executor | None = None
    command: ClassVar[str] = "screen"

    @property
    def shard(self) -> Shard | None:
        """The part of the structures that is done here; None for all."""
        return shard_named(self.options.shard, self.options.merge)

    def facts(self) -> dict[str, Any]:
        """What ``config.yaml`` says beside the options of the screen."""
        names = [source if isinstance(source, str) else "structure" for source in self.sources]
        model = {**self.model.config(), "dtype": self.dtype, "device": self.device}
        return {"workflow": self.workflow, "structures": names, **self.settings, **model}

    def prepare(self, out: str | Path | None, facts: dict[str, Any]) -> str | Path | None:
        """The folder of this run: ``out``, or that of the shard in it.

        Raises:
            OptionError: Shards of another configuration lie there.
        """
        config = facts | as_config(self.options)
        free = {*as_config(self.options), "structures", "out", "device"}
        return shard_folder(out, self.command, self.shard, config, free)

    def go(self, run: RunFolder, started: float) -> ScreenResult:
        """Do what is left, then write every file."""
        entries = self._entries(run)
        with Manifest(run.file(MANIFEST), self.command) as manifest:
            outcomes = self._outcomes(run, manifest, entries)
        result = self._result(run, entries, outcomes)
        paths = dict.fromkeys(entry.given.path for entry in entries if entry.given is not None)
        inputs = [input_record(path) for path in paths]
        finish_run(
            run, result, model=self.model.record(), inputs=inputs, seconds=time.perf_counter() - started
        )
        return result

    def _result(self, run: RunFolder, entries: Sequence[Entry], outcomes: dict[str, Outcome]) -> ScreenResult:
        """What is returned and written, but for the summary."""
        result = fill_result(entries, outcomes, self.options, ScreenResult())
        write_files(run, entries, outcomes, result)
        return result

    def _entries(self, run: RunFolder) -> list[Entry]:
        found = entries_of(self.sources)
        entries = [one for one in found if self.shard is None or self.shard.holds(one.digest)]
        if not entries:
            run.warn(f"None of {len(found)} structures belongs to shard {self.options.shard}.")
        return entries

    def _context(self) -> str:
        """What a result depends on beside the structure."""
        return context_of(self.model, self.workflow, self.settings)

    def _outcomes(self, run: RunFolder, manifest: Manifest, entries: Sequence[Entry]) -> dict[str, Outcome]:
        context = self._context()
        wanted = {entry.item: digest_of(entry.digest, context) for entry in entries}
        if self.shard is None and run.kept:
            adopt_shards(run.path, manifest, wanted, _moved)
        if self.options.merge:
            return recorded_outcomes(manifest, wanted)
        task = self._task()
        items = (
            Item(entry.item, self._order(run, task, entry, n), entry.digest)
            for n, entry in enumerate(entries)
        )
        found: dict[str, Outcome] = {}
        clock = Clock(len(entries))
        with self._executor() as executor:
            for outcome in run_jobs(
                items,
                work,
                manifest,
                context=context,
                executor=executor,
                redo_failed=self.options.retry_failed,
                group=self._group(len(entries)),
            ):
                found[outcome.id] = outcome
                clock.tell(run, outcome)
        return found

    def _task(self) -> ScreenTask:
        by_name = self.pool is not None or self._workers() > 0
        model: str | GivenModel = self.model.source if by_name else self.model
        return ScreenTask(
            self.workflow, self.settings, model, dict(self.model.settings), self.dtype, self.device
        )

    def _order(self, run: RunFolder, task: ScreenTask, entry: Entry, number: int) -> Order:
        folder = ""
        if self.options.folders and run.kept:
            stem = Path(entry.head["input"]).name.split(".")[0]
            folder = str(run.file(f"structures/{number:05d}-{stem}"))
        return Order(task, entry.given, entry.error, folder)

    def _workers(self) -> int:
        return workers_for(self.model, self.named, self.options.workers)

    def _group(self, count: int) -> int:
        """Structures of one call: few enough that every worker gets some calls, and loses little."""
        calls = _CALLS_EACH * max(1, self._workers())
        return min(self.options.batch, -(-count // calls)) if self._workers() else self.options.batch

    def _executor(self) -> AbstractContextManager[Executor]:
        if self.pool is not None:
            return nullcontext(self.pool)
        return executor_of(self._workers(), self.threads or 1, self.options.executor)


def _moved(result: Any, shard: str) -> Any:
    """A result of a shard, whose own folder lies in that of the shard."""
    if "folder" in result.get("row", {}):
        result["row"]["folder"] = f"{shard}/{result['row']['folder']}"
    return result

"""How a screen runs: structures into a manifest's items, items to workers, outcomes into files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from atomml import __version__
from atomml.config import as_config
from atomml.files import write_atomic
from atomml.jobs import Item, Outcome, run_jobs
from atomml.manifest import DONE, FAILED, Manifest, Shard, digest_of, read_manifest
from atomml.run import RunFolder, plain
from atomml.run_checks import CONFIG, check_same
from atomml.worker_pool import WorkerPool, available_cpus
from atomml.workflows.inputs import GivenModel, input_record
from atomml.workflows.run_record import finish_run
from atomml.workflows.screens.screening import ScreenOptions, ScreenResult
from atomml.workflows.screens.screening_entries import Entry, entries_of
from atomml.workflows.screens.screening_files import fill_result, write_files
from atomml.workflows.screens.screening_work import Order, ScreenTask, work

__all__ = ["Clock", "Here", "Screen"]

MANIFEST = "manifest.sqlite"
_CALLS_EACH = 4
_WAITING = "No shard has done it yet."


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
        return None if self.options.shard is None else Shard.parse(self.options.shard)

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
        if out is None or self.shard is None:
            return out
        parent = Path(out)
        config = plain(facts | as_config(self.options)) | {"shard": None}
        if (parent / CONFIG).exists():
            free = {*as_config(self.options), "structures", "out", "device"}
            check_same(parent, self.command, config, free)
        else:
            import yaml

            parent.mkdir(parents=True, exist_ok=True)
            header = {"command": self.command, "version": __version__}
            write_atomic(parent / CONFIG, yaml.safe_dump({**header, **config}, sort_keys=False))
        return parent / f"shard-{self.shard.index}-of-{self.shard.count}"

    def go(self, run: RunFolder, started: float) -> ScreenResult:
        """Do what is left, then write every file."""
        entries = self._entries(run)
        with Manifest(run.file(MANIFEST), self.command) as manifest:
            if self.shard is None and run.kept:
                self._adopt(run, manifest, entries)
            outcomes = self._outcomes(run, manifest, entries)
        result = self._result(run, entries, outcomes)
        result.folder = run.path if run.kept else None
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
        record = self.model.record()
        kept = {key: record.get(key) for key in ("name", "sha256", "calculator", "dtype")}
        return json.dumps(plain([self.workflow, self.settings, kept]), sort_keys=True)

    def _adopt(self, run: RunFolder, manifest: Manifest, entries: Sequence[Entry]) -> None:
        """Take over what shards have done."""
        context = self._context()
        wanted = {entry.item: digest_of(entry.digest, context) for entry in entries}
        for path in sorted(run.path.glob(f"shard-*-of-*/{MANIFEST}")):
            for row in read_manifest(path):
                ours = manifest.find(row.id)
                known = ours is not None and ours.digest == row.digest and ours.status == DONE
                if known or wanted.get(row.id) != row.digest or row.status not in (DONE, FAILED):
                    continue
                manifest.start(row.id, row.digest)
                if row.status == DONE:
                    if "folder" in row.result.get("row", {}):
                        row.result["row"]["folder"] = f"{path.parent.name}/{row.result['row']['folder']}"
                    manifest.finish(row.id, row.result)
                else:
                    manifest.fail(row.id, row.error or "")

    def _outcomes(self, run: RunFolder, manifest: Manifest, entries: Sequence[Entry]) -> dict[str, Outcome]:
        if self.options.merge:
            return _recorded(manifest, entries)
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
                context=self._context(),
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
        """Processes; none for a model that has no name by which a worker could load it."""
        potential = self.model.potential
        if not self.named and self.options.workers is None:
            return 0
        if self.options.workers is not None:
            return self.options.workers
        on_gpu = potential is not None and potential.device.type != "cpu"
        return 1 if on_gpu else available_cpus()

    def _group(self, count: int) -> int:
        """Structures of one call: few enough that every worker gets some calls, and loses little."""
        calls = _CALLS_EACH * max(1, self._workers())
        return min(self.options.batch, -(-count // calls)) if self._workers() else self.options.batch

    def _executor(self) -> AbstractContextManager[Executor]:
        if self.pool is not None:
            return nullcontext(self.pool)
        workers = self._workers()
        if workers == 0:
            return Here()
        if self.options.executor == "parsl":
            from atomml.workflows.screens.parsl_executor import parsl_executor

            return parsl_executor(workers, self.threads or 1)
        return WorkerPool(workers, threads=self.threads or 1)


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
    """Says how far a screen is, and how long the rest will take."""

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


def _recorded(manifest: Manifest, entries: Sequence[Entry]) -> dict[str, Outcome]:
    """What the manifest holds, and a sentence for what it does not."""
    found = {}
    for entry in entries:
        row = manifest.find(entry.item)
        if row is None or row.status not in (DONE, FAILED):
            found[entry.item] = Outcome(entry.item, None, _WAITING, 0, kept=False)
        else:
            found[entry.item] = Outcome(entry.item, row.result, row.error, row.attempt, kept=True)
    return found

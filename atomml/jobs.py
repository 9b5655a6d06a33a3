"""Many items through one function, in any executor, with a manifest: nothing lost, nothing done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from atomml.errors import AtomMLError, InputError, RunFailedError
from atomml.manifest import DONE, FAILED, Manifest, Shard, digest_of
from atomml.worker_pool import WorkerDiedError, WorkerPool, WorkerStartError

__all__ = ["Item", "Outcome", "run_jobs"]

_FOREIGN_WINDOW = 64


@dataclass(frozen=True)
class Item:
    """One item of a job.

    Attributes:
        id: Its name; no other item of the job has it.
        payload: What the function is called with; it must be picklable, as it goes to a worker.
        digest: SHA-256 (hexadecimal) of the input; see :func:`atomml.manifest.digest_of`.
    """

    id: str
    payload: Any
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        id: The item.
        result: What the function returned; None if it failed.
        error: Why it failed; None if it is done.
        attempt: Which attempt ended it.
        kept: Whether the manifest had it already, from an earlier run.
    """

    id: str
    result: Any
    error: str | None
    attempt: int
    kept: bool


def run_jobs(
    items: Iterable[Item],
    function: Callable[[Any], Any],
    manifest: Manifest,
    *,
    context: str = "",
    executor: Executor | None = None,
    workers: int | None = None,
    threads: int = 1,
    retries: int = 2,
    redo_failed: bool = False,
    shard: Shard | None = None,
) -> Iterator[Outcome]:
    """Call ``function(payload)`` for each item, and yield each outcome as soon as it is recorded.

    What the manifest says is done, with the same digest and context, is not done again. An error
    of one item is recorded and the others go on. A worker that dies is replaced and its item
    tried again, ``retries`` times; then it is recorded as failed, with what killed the worker.
    Items are taken from ``items`` as they are needed, so there may be more than fit into memory.

    To stop early (Ctrl-C, an exception, closing the iterator) kills the workers of our own pool
    and leaves the manifest whole; items in hand will be done by the next run.

    Args:
        items: The items.
        function: What is done, a function of a module; returns what JSON holds. Large results go
            into a file, whose path it returns.
        manifest: Where outcomes are kept.
        context: What else the result depends on (method, versions); another one makes every item new.
        executor: Any executor; it is not shut down. One of our own if None.
        workers: Processes of our own pool; as many as there are CPUs if None.
        threads: CPU threads of each of them.
        retries: How often an item is tried again after its worker died.
        redo_failed: Whether items that failed in an earlier run are tried again.
        shard: Take only the items of this shard.

    Raises:
        InputError: Two items have one id.
        RunFailedError: The executor broke, as a ProcessPoolExecutor does when a worker is killed, or
            workers of our own do not start.
    """
    pool: AbstractContextManager[Executor]
    pool = WorkerPool(workers, threads=threads) if executor is None else nullcontext(executor)
    with pool as chosen:
        window = 2 * chosen.size if isinstance(chosen, WorkerPool) else _FOREIGN_WINDOW
        job = _Job(function, manifest, context, chosen, retries, redo_failed)
        try:
            yield from job.go(_unique(items, shard), window)
        finally:
            job.cancel()


class _Job:
    """The items in hand and how each ends."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        manifest: Manifest,
        context: str,
        executor: Executor,
        retries: int,
        redo_failed: bool,
    ) -> None:
        self.function, self.manifest, self.context = function, manifest, context
        self.executor, self.retries, self.redo_failed = executor, retries, redo_failed
        self.running: dict[Future[Any], tuple[Item, int]] = {}
        self.ended: SimpleQueue[Future[Any]] = SimpleQueue()

    def go(self, items: Iterator[Item], window: int) -> Iterator[Outcome]:
        """Outcomes of all items, as they come; at most ``window`` are under way at once."""
        left = True
        while left or self.running:
            while left and len(self.running) < window:
                item = next(items, None)
                if item is None:
                    left = False
                    break
                kept = self._kept(item)
                if kept is not None:
                    yield kept
                else:
                    self._submit(item)
            if self.running:
                outcome = self._end(self.ended.get())
                if outcome is not None:
                    yield outcome

    def cancel(self) -> None:
        """Drop what waits and has not begun."""
        for future in self.running:
            future.cancel()

    def _kept(self, item: Item) -> Outcome | None:
        row = self.manifest.find(item.id)
        if row is None or row.digest != self._digest(item):
            return None
        if row.status == DONE or (row.status == FAILED and not self.redo_failed):
            return Outcome(item.id, row.result, row.error, row.attempt, kept=True)
        return None

    def _digest(self, item: Item) -> str:
        return digest_of(item.digest, self.context)

    def _submit(self, item: Item) -> None:
        attempt = self.manifest.start(item.id, self._digest(item))
        try:
            future = self.executor.submit(self.function, item.payload)
        except BrokenExecutor as error:
            raise _broken(item) from error
        self.running[future] = (item, attempt)
        future.add_done_callback(self.ended.put)

    def _end(self, future: Future[Any]) -> Outcome | None:
        """Record how an item ended; None if it is tried again."""
        item, attempt = self.running.pop(future)
        try:
            result = future.result()
        except BrokenExecutor as error:
            raise _broken(item) from error
        except WorkerStartError:
            raise
        except WorkerDiedError as error:
            if attempt <= self.retries:
                self._submit(item)
                return None
            return self._failed(item, f"{error}, in each of {attempt} attempts.", attempt)
        except Exception as error:
            return self._failed(item, _sentence(error), attempt)
        try:
            self.manifest.finish(item.id, result)
        except (TypeError, ValueError) as error:
            return self._failed(item, f"The result cannot be recorded as JSON: {error}.", attempt)
        return Outcome(item.id, result, None, attempt, kept=False)

    def _failed(self, item: Item, error: str, attempt: int) -> Outcome:
        self.manifest.fail(item.id, error)
        return Outcome(item.id, None, error, attempt, kept=False)


def _unique(items: Iterable[Item], shard: Shard | None) -> Iterator[Item]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"Item {item.id} is given twice: give each item once.")
        seen.add(item.id)
        if shard is None or shard.holds(item.digest):
            yield item


def _broken(item: Item) -> RunFailedError:
    return RunFailedError(
        f"The executor broke while {item.id} was in hand: what is done is recorded; run the job again, "
        "in our own pool (no executor), which outlives a killed worker."
    )


def _sentence(error: Exception) -> str:
    """An error of ours as it is; any other with its type, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AtomMLError) else f"{type(error).__name__}: {text}"

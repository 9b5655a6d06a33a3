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
    group: int = 0,
) -> Iterator[Outcome]:
    """Call ``function(payload)`` for each item, and yield each outcome as soon as it is recorded.

    What the manifest says is done, with the same digest and context, is not done again. An error
    of one item is recorded and the others go on. A worker that dies is replaced and its item
    tried again, ``retries`` times; then it is recorded as failed, with what killed the worker.
    Items are taken from ``items`` as they are needed, so there may be more than fit into memory.

    With ``group``, ``function`` is called with a list of so many payloads and returns for each, in their
    order, a pair of result and error, one of them None. Where a group fails as a whole or its worker dies,
    each of its items is tried again by itself, so that one cannot pull down the others.

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
        group: How many items ``function`` takes at once, in a list; 0 for a function of one payload.

    Raises:
        InputError: Two items have one id.
        RunFailedError: The executor broke, as a ProcessPoolExecutor does when a worker is killed, or
            workers of our own do not start.
    """
    pool: AbstractContextManager[Executor]
    pool = WorkerPool(workers, threads=threads) if executor is None else nullcontext(executor)
    with pool as chosen:
        window = 2 * chosen.size if isinstance(chosen, WorkerPool) else _FOREIGN_WINDOW
        job = _Job(function, manifest, context, chosen, retries, redo_failed, group)
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
        group: int,
    ) -> None:
        self.function, self.manifest, self.context = function, manifest, context
        self.executor, self.retries, self.redo_failed = executor, retries, redo_failed
        self.group = group
        self.running: dict[Future[Any], list[tuple[Item, int]]] = {}
        self.ended: SimpleQueue[Future[Any]] = SimpleQueue()

    def go(self, items: Iterator[Item], window: int) -> Iterator[Outcome]:
        """Outcomes of all items, as they come; at most ``window`` calls are under way at once."""
        left = True
        together: list[Item] = []
        while left or self.running:
            while left and len(self.running) < window:
                item = next(items, None)
                if item is None:
                    left = False
                elif (kept := self._kept(item)) is not None:
                    yield kept
                    continue
                else:
                    together.append(item)
                if together and (not left or len(together) >= max(1, self.group)):
                    self._submit(together)
                    together = []
            if self.running:
                yield from self._end(self.ended.get())

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

    def _submit(self, items: list[Item]) -> None:
        begun = [(item, self.manifest.start(item.id, self._digest(item))) for item in items]
        payload = [item.payload for item in items] if self.group else items[0].payload
        try:
            future = self.executor.submit(self.function, payload)
        except BrokenExecutor as error:
            raise _broken(items[0]) from error
        self.running[future] = begun
        future.add_done_callback(self.ended.put)

    def _end(self, future: Future[Any]) -> Iterator[Outcome]:
        """Record how the items of a call ended; nothing for those that are tried again."""
        begun = self.running.pop(future)
        try:
            found = future.result()
            answers = found if self.group else [(found, None)]
        except BrokenExecutor as error:
            raise _broken(begun[0][0]) from error
        except WorkerStartError:
            raise
        except Exception as error:
            yield from self._again_or_failed(begun, error)
            return
        for (item, attempt), (result, problem) in zip(begun, answers, strict=True):
            yield self._record(item, attempt, result, problem)

    def _again_or_failed(self, begun: list[tuple[Item, int]], error: Exception) -> Iterator[Outcome]:
        """After a call that gave no answer: the items one by one, or the one item once more or never."""
        if len(begun) > 1:
            for item, _ in begun:
                self._submit([item])
            return
        ((item, attempt),) = begun
        if not isinstance(error, WorkerDiedError):
            yield self._failed(item, _sentence(error), attempt)
        elif attempt <= self.retries:
            self._submit([item])
        else:
            yield self._failed(item, f"{error}, in each of {attempt} attempts.", attempt)

    def _record(self, item: Item, attempt: int, result: Any, error: str | None) -> Outcome:
        if error is not None:
            return self._failed(item, error, attempt)
        try:
            self.manifest.finish(item.id, result)
        except (TypeError, ValueError) as wrong:
            return self._failed(item, f"The result cannot be recorded as JSON: {wrong}.", attempt)
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

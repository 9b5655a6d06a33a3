"""Worker processes that are replaced when they die: a crash costs one task, never the job.

``concurrent.futures.ProcessPoolExecutor`` breaks for good when one of its workers is killed, and
every task that waits in it is lost. :class:`WorkerPool` is an executor too, but only the task
that a dying worker had in hand fails, with :class:`WorkerDiedError`; the others do not notice.

Workers are fresh interpreters, not forks: they inherit no threads, no GPU context, no open file.
Nothing of the caller's ``__main__`` is run again in them, so a script needs no guard around its
own code, but the functions that it sends must live in a module.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, TypeVar

from atomml.errors import AtomMLError, RunFailedError

__all__ = [
    "THREAD_VARIABLES",
    "WorkerDiedError",
    "WorkerPool",
    "WorkerStartError",
    "available_cpus",
    "serve",
]

T = TypeVar("T")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What libraries read, when they are loaded, to learn how many threads they may start."""

_MOST_FAILED_STARTS = 3
_SERVE = "import sys; from atomml.worker_pool import serve; serve(int(sys.argv[1]))"


class WorkerDiedError(AtomMLError):
    """The worker ended while it had this task: killed, out of memory, or crashed in compiled code."""


class WorkerStartError(RunFailedError):
    """Workers end before they can take a task: the environment is broken, not the task."""


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class _Task:
    future: Future[Any]
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Worker:
    """One process, the connection to it, and the task that it has in hand."""

    def __init__(self, threads: int) -> None:
        self.connection, remote = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 (text is wanted)
        limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(remote.fileno())],
            env={**os.environ, **limits, "PYTHONPATH": path},
            pass_fds=[remote.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the parent, which decides what becomes of its workers
        )
        remote.close()
        self.task: _Task | None = None
        self.ready = False
        self.begun = False

    def end(self) -> int:
        """Close the connection, at which an idle worker leaves; kill a busy one; returns its exit status."""
        if self.task is not None or not self.ready:
            self.process.kill()
        self.connection.close()
        return self.process.wait()


class WorkerPool(Executor):
    """An executor whose workers are replaced when they die.

    A worker starts when there is a task for it. Used as a context manager, the pool waits for its
    tasks, or kills its workers at once when an exception leaves the block.

    Args:
        workers: How many at most; as many as there are CPUs if None.
        threads: CPU threads of each worker.

    Raises:
        ValueError: Fewer than one worker or thread.
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        self.size = available_cpus() if workers is None else workers
        if self.size < 1 or threads < 1:
            raise ValueError("a pool needs one worker and one thread at least")
        self._threads = threads
        self._queue: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._wake_reader, self._wake_writer = Pipe(duplex=False)
        self._closing = self._killing = self._awake = False
        self._failed_starts = 0
        self._manager: threading.Thread | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in a worker.

        Raises:
            RuntimeError: The pool is shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closing:
                raise RuntimeError("the pool is shut down: make another")
            self._queue.append(_Task(future, (fn, args, kwargs)))
            if self._manager is None:
                self._manager = threading.Thread(target=self._manage, name="atomml-pool", daemon=True)
                self._manager.start()
        self._wake()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; finish those there are, or cancel those that have not begun."""
        with self._lock:
            self._closing = True
            waiting = list(self._queue) if cancel_futures else []
        for task in waiting:
            task.future.cancel()
        self._wake()
        if wait and self._manager is not None:
            self._manager.join()

    def kill(self) -> None:
        """Kill every worker at once; tasks in hand fail, tasks that wait are cancelled."""
        self._killing = True
        self.shutdown(wait=True, cancel_futures=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            self.kill()
        else:
            self.shutdown()
        return None

    def process_ids(self) -> list[int]:
        """Process ids of the workers that live now."""
        return [worker.process.pid for worker in list(self._workers)]

    def _wake(self) -> None:
        with self._lock:
            if not (self._awake or self._wake_writer.closed):
                self._awake = True
                self._wake_writer.send_bytes(b"\0")

    def _manage(self) -> None:
        """The loop of the manager's thread: hand out tasks, collect answers, replace the dead."""
        try:
            while True:
                self._hand_out()
                if self._killing or (self._closing and not self._queue and not self._busy()):
                    return
                by_connection = {worker.connection: worker for worker in self._workers}
                for ready in wait([*by_connection, self._wake_reader]):
                    if ready is self._wake_reader:
                        with self._lock:
                            self._wake_reader.recv_bytes()
                            self._awake = False
                    else:
                        self._collect(by_connection[ready])  # type: ignore[index]
        finally:
            self._finish()

    def _busy(self) -> bool:
        return any(worker.task is not None for worker in self._workers)

    def _hand_out(self) -> None:
        idle = deque(worker for worker in self._workers if worker.task is None)
        while self._queue and (idle or len(self._workers) < self.size) and not self._killing:
            task = self._queue.popleft()
            if not task.future.set_running_or_notify_cancel():
                continue
            if idle:
                self._send(idle.popleft(), task)
            else:
                self._send_to_new(task)

    def _send_to_new(self, task: _Task) -> None:
        try:
            worker = _Worker(self._threads)
        except OSError as error:
            task.future.set_exception(WorkerStartError(f"No worker can be started ({error})."))
            return
        self._workers.append(worker)
        self._send(worker, task)

    def _send(self, worker: _Worker, task: _Task) -> None:
        worker.task, worker.begun = task, False
        try:
            worker.connection.send_bytes(ForkingPickler.dumps(task.call))
        except OSError:
            pass  # it died idle; _bury will hand the task to another
        except Exception as error:  # what cannot be sent: a lambda, a function of __main__
            worker.task = None
            task.future.set_exception(error)

    def _collect(self, worker: _Worker) -> None:
        """Take the answer of a worker, or see that it died."""
        try:
            good, value = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        except Exception as error:  # an answer that cannot be rebuilt here
            good, value = False, error
        if not worker.ready:
            worker.ready, self._failed_starts = True, 0
            return
        if good is None:
            worker.begun = True
            return
        task, worker.task = worker.task, None
        if task is None:
            return
        if good:
            task.future.set_result(value)
        else:
            task.future.set_exception(value)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        status, task = _cause_of_death(worker.end()), worker.task
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                self._give_up(task, f"Workers do not start ({status}): see what they say on stderr.")
                return
        if task is not None and not worker.begun:
            self._send_to_new(task)  # it never saw the task: another will
        elif task is not None:
            task.future.set_exception(WorkerDiedError(f"its worker {status}"))

    def _give_up(self, task: _Task | None, sentence: str) -> None:
        self._failed_starts = 0
        tasks = [task] if task is not None else []
        while self._queue:
            waiting = self._queue.popleft()
            if waiting.future.set_running_or_notify_cancel():
                tasks.append(waiting)
        for failed in tasks:
            failed.future.set_exception(WorkerStartError(sentence))

    def _finish(self) -> None:
        with self._lock:
            self._closing = True
            waiting, self._queue = list(self._queue), deque()
        for worker in self._workers:
            worker.end()
            if worker.task is not None:
                worker.task.future.set_exception(WorkerDiedError("the pool was stopped"))
        self._workers.clear()
        for task in waiting:
            task.future.cancel()
            task.future.set_running_or_notify_cancel()
        with self._lock:
            self._wake_reader.close()
            self._wake_writer.close()


def _cause_of_death(status: int) -> str:
    if status >= 0:
        return f"left with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "a signal"
    hint = "; out of memory, perhaps" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status} ({name}{hint})"


def serve(descriptor: int) -> None:
    """What a worker does: call what it is sent, and answer, until the connection closes.

    Args:
        descriptor: File descriptor of its end of the connection.
    """
    connection = Connection(descriptor)
    threading.Thread(target=_leave_with_the_parent, args=(descriptor,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the other end is gone, and nobody waits for an answer
        connection.send((True, None))
        while True:
            call = connection.recv_bytes()
            connection.send((None, None))  # from here on, a death is the task's
            connection.send_bytes(_answer(call))


def _answer(call: bytes) -> Any:
    """What the call gives or raises, ready to be sent."""
    try:
        function, args, kwargs = ForkingPickler.loads(call)
        return ForkingPickler.dumps((True, function(*args, **kwargs)))
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Any:
    """The error with its traceback as a note; its text alone where it cannot travel."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        data = ForkingPickler.dumps((False, error))
        ForkingPickler.loads(data)
    except Exception:
        return ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return data


def _leave_with_the_parent(descriptor: int) -> None:
    """End the process when the other end closes, in the middle of a calculation too.

    Without this, workers of a parent that was killed would go on computing for nobody.
    """
    poller = select.poll()
    poller.register(descriptor, 0)  # closing is reported whatever is asked for
    poller.poll()
    os._exit(1)

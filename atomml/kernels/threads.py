"""A phase of work split over threads: compiled kernels release the GIL, so plain threads do.

One crew of threads a process, made at first use and again after a fork. Between two phases its
threads look for the next one for a moment in compiled code, since waking a sleeping thread costs
more than a small phase, and then sleep. The split never changes a result: a kernel sums
inside one row of work only, always in the same order.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from atomml.kernels.compile import Kernel, kernel

__all__ = ["Crew", "run_ranges", "run_together", "split_tapered", "split_weighted"]

_LOOKS = 1_000_000
"""Times that a thread looks for work before it sleeps: 1 ms or so, longer than any gap in an evaluation."""

_HEAD_START = 48_000
"""Turns of an empty loop, some 7 µs, before the caller begins its own range: helpers find the GIL free.
A thread that finds it taken is put to sleep, and wakes 50 µs to 3 ms late."""

_PAUSE = 24_000
"""Turns that the caller waits when the last range is done, for the same reason."""

_sched_getcpu: Callable[[], int] | None = (
    getattr(ctypes.CDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None
)
_crew: Crew | None = None


def run_ranges(function: Callable[..., Any], bounds: NDArray[np.int64], *arguments: Any) -> None:
    """Call ``function(start, stop, *arguments)`` for each pair of neighbouring bounds, side by side.

    As many threads take part as torch may use; the calling one is among them. An exception of
    any range is raised here after all have ended.
    """
    run_together((function, bounds, *arguments))


def run_together(*calls: tuple[Any, ...]) -> None:
    """Several calls of :func:`run_ranges` that need nothing of each other, without waiting between them.

    Args:
        calls: Of each its function, bounds and arguments.
    """
    helpers = min(sum(len(call[1]) - 1 for call in calls), torch.get_num_threads()) - 1
    if helpers < 1:
        _Phase(calls).work_alone()
    else:
        _crew_of(helpers).run(*calls, helpers=helpers)


def split_tapered(n: int, n_threads: int, smallest: int, multiple: int = 1) -> NDArray[np.int64]:
    """Bounds of ranges over ``n`` items, each round of ``n_threads`` ranges half as long as the one before.

    Threads that take the long ones first, and then what is left, end at about the same time, however
    fast each is. One thread gets one range.

    Args:
        n: Number of items.
        n_threads: Threads that share them.
        smallest: Items of the shortest range, about.
        multiple: Inner bounds are multiples of it.
    """
    return _split(n, [n * part for part in _tapered(n / smallest, n_threads)], multiple)


def split_weighted(cumulative: NDArray[Any], n_threads: int, smallest: float) -> NDArray[np.int64]:
    """Bounds as of :func:`split_tapered`, by weight.

    Args:
        cumulative: ``(n_items + 1,)`` weight before each item; the last entry is the total.
        n_threads: Threads that share the items.
        smallest: Weight of the lightest range, about.
    """
    total = float(cumulative[-1])
    targets = [total * part for part in _tapered(total / smallest, n_threads)]
    return _split(len(cumulative) - 1, np.searchsorted(cumulative, targets).tolist())


def _tapered(most: float, n_threads: int) -> list[float]:
    """Where the inner bounds are, as parts of the whole; no range is shorter than its ``most``-th part."""
    inner: list[float] = []
    left = 1.0
    while n_threads > 1 and left * most >= 2 * n_threads:
        length = left / (2 * n_threads)
        inner += [1.0 - left + length * (i + 1) for i in range(n_threads)]
        left /= 2
    return [*inner, *(1.0 - left + left * i / n_threads for i in range(1, n_threads))]


def _split(n: int, targets: Sequence[float], multiple: int = 1) -> NDArray[np.int64]:
    inner = {min(n, round(target / multiple) * multiple) for target in targets}
    return np.array([0, *sorted(inner - {0, n}), n], np.int64)


def _over_ranges(function: Callable[..., Any]) -> Callable[..., None]:
    """What :meth:`Kernel.over_ranges` is for a kernel, for a function in Python."""
    lock = threading.Lock()

    def take(bounds: NDArray[np.int64], counter: Any, board: Any, row: int, *arguments: Any) -> None:
        """Do ranges until none is left."""
        while True:
            with lock:
                position = int(counter[0])
                counter[0] += 1
            if position >= len(bounds) - 1:
                break
            board[row, 2] += 1
            function(int(bounds[position]), int(bounds[position + 1]), *arguments)
            board[row, 1] += 1

    return take


@intrinsic
def _fresh(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index]`` of int64, read from memory each time: another thread may have written it."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        """One atomic load, which no later read may overtake."""
        view = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.load_atomic(builder.gep(view.data, [values[1]]), "acquire", 8)

    return types.int64(array, types.intp), emit


@kernel
def _wait(board: NDArray[np.int64], looks: int) -> int:
    """Pass some time without the GIL; the answer says nothing."""
    total = 0
    for _ in range(looks):
        total += _fresh(board[0], 0)
    return total


_wait_code = _wait.dispatcher


@kernel
def _look(board: NDArray[np.int64], column: int, known: int, looks: int, pause: int) -> bool:
    """Wait until the sum of a column is no longer ``known``, then for ``pause``; False if it still is."""
    for _ in range(looks):
        total = 0
        for row in range(len(board)):
            total += _fresh(board[row], column)
        if total != known:
            _wait_code(board, pause)
            return True
    return False


@kernel
def _announce(board: NDArray[np.int64], looks: int) -> None:
    """Begin a phase, without the GIL, and give the helpers a head start."""
    board[0, 0] += 1
    _wait_code(board, looks)


class _Ranges(NamedTuple):
    """One function and its ranges.

    Attributes:
        take: Does ranges until none is left.
        bounds: Of the ranges.
        counter: How many were taken.
        arguments: Of the function, after start and stop.
    """

    take: Callable[..., None]
    bounds: NDArray[np.int64]
    counter: NDArray[np.int64]
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, function: Callable[..., Any], bounds: NDArray[np.int64], *arguments: Any) -> _Ranges:
        """All ranges, none taken yet."""
        take = function.over_ranges(arguments) if isinstance(function, Kernel) else _over_ranges(function)
        return cls(take, bounds, np.zeros(1, np.int64), arguments)


class _Phase:
    """One call of :func:`run_together`: what to do, and what went wrong."""

    def __init__(self, calls: Sequence[tuple[Any, ...]], helpers: int = 0) -> None:
        self.helpers = helpers
        self.calls = [_Ranges.of(*call) for call in calls]
        self.wanted = sum(len(call.bounds) - 1 for call in self.calls)
        self.errors: list[BaseException] = []

    def work(self, board: NDArray[np.int64], row: int) -> None:
        """Take ranges until none is left; each adds one to ``board[row, 1]``, also one that raises."""
        for take, bounds, counter, arguments in self.calls:
            while counter[0] < len(bounds) - 1:
                try:
                    take(bounds, counter, board, row, *arguments)
                except BaseException as error:  # of a range, or Ctrl-C between two
                    self.errors.append(error)
                    board[row, 1] = board[row, 2]

    def work_alone(self) -> None:
        """Do all ranges in this thread."""
        self.work(np.zeros((1, 8), np.int64), 0)
        self.raise_first()

    def raise_first(self) -> None:
        """Raise the first exception of any range."""
        if self.errors:
            raise self.errors[0]


class Crew:
    """Threads that help the calling one with its phases.

    Args:
        helpers: How many threads beside the caller.
    """

    def __init__(self, helpers: int) -> None:
        self.helpers = helpers
        # A row a thread: phases begun (the caller's row alone), ranges done, ranges taken. Only its thread
        # writes a row.
        self._board = np.zeros((helpers + 1, 8), np.int64)
        self._phase: _Phase | None = None
        self._busy = threading.Lock()
        self._sleep = threading.Condition()
        self._sleepers = 0
        self._threads = [
            threading.Thread(target=self._help, args=(row,), daemon=True, name="atomml-kernel")
            for row in range(1, helpers + 1)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, *calls: tuple[Any, ...], helpers: int | None = None) -> None:
        """As :func:`run_together`; a caller that finds the crew at work for another does all alone.

        ``helpers`` limits how many of the crew take part.
        """
        phase = _Phase(calls, self.helpers if helpers is None else helpers)
        if not self._busy.acquire(blocking=False):
            phase.work_alone()
            return
        try:
            self._share(phase)
        finally:
            self._busy.release()
        phase.raise_first()

    def _share(self, phase: _Phase) -> None:
        board = self._board
        before = int(board[:, 1].sum())
        self._phase = phase
        _announce(board, _HEAD_START)
        if self._sleepers:
            self._wake()
        try:
            phase.work(board, 0)
        finally:  # helpers write into the caller's arrays: wait for them, whatever happened here
            while (done := int(board[:, 1].sum()) - before) < phase.wanted:
                if not _look(board, 1, before + done, _LOOKS, _PAUSE):
                    time.sleep(0)
            self._phase = None

    def _wake(self) -> None:
        """Wake the helpers, away from the caller's processor.

        Linux likes to wake a thread where its waker runs. The two would share one core for some
        milliseconds, longer than a small structure takes.
        """
        if _sched_getcpu is not None:
            elsewhere = os.sched_getaffinity(0) - {_sched_getcpu()}
            for thread in self._threads:
                if elsewhere and thread.native_id is not None:
                    os.sched_setaffinity(thread.native_id, elsewhere)
        with self._sleep:
            self._sleep.notify_all()

    def _help(self, row: int) -> None:
        board, begun = self._board, 0
        while True:
            if not _look(board, 0, begun, _LOOKS, 0):
                with self._sleep:
                    self._sleepers += 1
                    while int(board[0, 0]) == begun:
                        self._sleep.wait()
                    self._sleepers -= 1
            begun = int(board[0, 0])
            phase = self._phase
            if phase is not None and row <= phase.helpers:
                phase.work(board, row)


def _crew_of(helpers: int) -> Crew:
    global _crew
    if _crew is None or _crew.helpers < helpers:
        _crew = Crew(helpers)
    return _crew


def _forget_crew() -> None:
    """A forked child has the crew's object but not its threads."""
    global _crew
    _crew = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_crew)

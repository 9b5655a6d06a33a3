"""A phase of work split over threads: compiled kernels release the GIL, so plain threads do.

One crew of threads a process, made at first use and again after a fork. Between two phases its
threads look for the next one for a moment in compiled code, since waking a sleeping thread costs
more than a small phase, and then sleep. The split never changes a result: a kernel sums
inside one row of work only, always in the same order.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from atomml.kernels.compile import Kernel, kernel

__all__ = ["Crew", "run_ranges", "split_evenly", "split_weighted"]

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


def run_ranges(function: Callable[..., Any], bounds: list[int], *arguments: Any) -> None:
    """Call ``function(start, stop, *arguments)`` for each pair of neighbouring bounds, side by side.

    As many threads take part as torch may use; the calling one is among them. An exception of
    any range is raised here after all have ended.
    """
    pairs = list(itertools.pairwise(bounds))
    helpers = min(len(pairs), torch.get_num_threads()) - 1
    if helpers < 1:
        for start, stop in pairs:
            function(start, stop, *arguments)
        return
    if isinstance(function, Kernel):
        function = function.ready((*pairs[0], *arguments))
    _crew_of(helpers).run(function, pairs, arguments)


def split_evenly(n: int, n_parts: int, multiple: int = 1) -> list[int]:
    """Bounds of at most ``n_parts`` ranges over ``n`` items; inner bounds are multiples of ``multiple``."""
    inner = {min(n, round(n * i / n_parts / multiple) * multiple) for i in range(1, n_parts)}
    return [0, *sorted(inner - {0, n}), n]


def split_weighted(cumulative: NDArray[Any], n_parts: int) -> list[int]:
    """Bounds that give each range about the same weight.

    Args:
        cumulative: ``(n_items + 1,)`` weight before each item; the last entry is the total.
        n_parts: Number of ranges at most.
    """
    n = len(cumulative) - 1
    targets = cumulative[-1] * np.arange(1, n_parts) / n_parts
    inner = {int(i) for i in np.searchsorted(cumulative, targets)}
    return [0, *sorted(inner - {0, n}), n]


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


class _Phase:
    """One call of :func:`run_ranges`: what to do, and who has taken what."""

    def __init__(
        self, function: Callable[..., Any], pairs: list[tuple[int, int]], arguments: tuple[Any, ...]
    ) -> None:
        self.function = function
        self.pairs = pairs
        self.arguments = arguments
        self.errors: list[BaseException] = []
        self._next = itertools.count()

    def work(self) -> int:
        """Take ranges until none is left; returns how many it were."""
        taken = 0
        while (position := next(self._next)) < len(self.pairs):
            taken += 1
            try:
                self.function(*self.pairs[position], *self.arguments)
            except BaseException as error:
                self.errors.append(error)
        return taken


class Crew:
    """Threads that help the calling one with its phases.

    Args:
        helpers: How many threads beside the caller.
    """

    def __init__(self, helpers: int) -> None:
        self.helpers = helpers
        # A row a thread: phases begun (the caller's row alone), ranges done. Only its thread writes a row.
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

    def run(
        self, function: Callable[..., Any], pairs: list[tuple[int, int]], arguments: tuple[Any, ...]
    ) -> None:
        """Call the function on all ranges; a caller that finds the crew at work for another does it alone."""
        phase = _Phase(function, pairs, arguments)
        if not self._busy.acquire(blocking=False):
            phase.work()
        else:
            try:
                self._share(phase)
            finally:
                self._busy.release()
        if phase.errors:
            raise phase.errors[0]

    def _share(self, phase: _Phase) -> None:
        board = self._board
        before = int(board[:, 1].sum())
        self._phase = phase
        _announce(board, _HEAD_START)
        if self._sleepers:
            self._wake()
        try:
            board[0, 1] += phase.work()
        finally:  # helpers write into the caller's arrays: wait for them, whatever happened here
            while (done := int(board[:, 1].sum()) - before) < len(phase.pairs):
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
            if phase is not None:
                board[row, 1] += phase.work()


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

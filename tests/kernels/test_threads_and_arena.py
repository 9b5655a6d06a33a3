"""Work is split without loss, errors come back, memory is cut without overlap, code is cached."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atomml.kernels.arena import Arena
from atomml.kernels.compile import _X86, kernel
from atomml.kernels.threads import Crew, _Phase, run_ranges, run_together, split_tapered, split_weighted


@given(st.integers(0, 5000), st.integers(1, 17), st.integers(1, 100), st.integers(1, 96))
def test_tapered_ranges_cover_everything_once(n: int, threads: int, smallest: int, multiple: int) -> None:
    bounds = split_tapered(n, threads, smallest, multiple)
    assert bounds[0] == 0
    assert bounds[-1] == n
    assert all(a < b for a, b in itertools.pairwise(bounds)) or n == 0
    assert all(b % multiple == 0 for b in bounds[1:-1])


@given(st.integers(1000, 10**6), st.integers(2, 16))
def test_tapered_ranges_end_small(n: int, threads: int) -> None:
    """The last ranges are what a thread may be late by: about the smallest that was asked for."""
    lengths = np.diff(split_tapered(n, threads, n / (64 * threads)))
    assert lengths.max() <= n / (2 * threads) + 1
    assert n / (64 * threads) - 1 <= lengths[-1] <= n / (32 * threads) + 1


def test_one_thread_gets_one_range() -> None:
    assert split_tapered(5000, 1, 1).tolist() == [0, 5000]
    assert split_weighted(np.arange(101), 1, 1.0).tolist() == [0, 100]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.integers(1, 9))
def test_weighted_ranges_cover_everything_and_balance(weights: list[int], threads: int) -> None:
    cumulative = np.concatenate([[0], np.cumsum(weights)])
    bounds = split_weighted(cumulative, threads, 20.0)
    assert bounds[0] == 0
    assert bounds[-1] == len(weights)
    assert bounds.tolist() == sorted(set(bounds.tolist()))
    shares = np.diff(cumulative[bounds])
    # A range ends at the first item past its target: no share exceeds the ideal by more than one item.
    assert max(shares) <= cumulative[-1] / threads + max(weights) + 1


@pytest.fixture(scope="module")
def crew() -> Crew:
    """Two helpers beside the calling thread."""
    return Crew(2)


def test_every_range_runs_side_by_side(crew: Crew) -> None:
    seen: list[tuple[int, int]] = []
    meeting = threading.Barrier(3, timeout=10)

    def work(start: int, stop: int) -> None:
        meeting.wait()  # passes only if all three run at the same time
        seen.append((start, stop))

    crew.run((work, np.arange(4)))
    assert sorted(seen) == [(0, 1), (1, 2), (2, 3)]


def test_thousands_of_phases_lose_no_range_awake_or_asleep(crew: Crew) -> None:
    """Each range is done once, and before the phase returns; now and then the helpers fall asleep between."""
    counts = np.zeros(40, np.int64)

    def work(start: int, stop: int, step: int) -> None:
        counts[start:stop] += step

    bounds = np.arange(0, 41, 5)
    total = 0
    for phase in range(3000):
        if phase % 500 == 0:
            time.sleep(0.05)  # fifty times longer than helpers look for work
        crew.run((work, bounds, phase))
        total += phase
        assert (counts == total).all()


def test_an_error_in_any_range_is_raised_after_all_have_ended(crew: Crew) -> None:
    ended = []

    def work(start: int, stop: int) -> None:
        if start == 1:
            raise ValueError("second range")
        time.sleep(0.01)
        ended.append(start)

    with pytest.raises(ValueError, match="second range"):
        crew.run((work, np.arange(5)))
    assert sorted(ended) == [0, 2, 3]
    crew.run((work, np.arange(2, 4)))  # it goes on working


def test_ctrl_c_between_two_ranges_counts_none_of_them_twice() -> None:
    """Who waits for the ranges of a phase would else go on while another thread still writes."""
    phase = _Phase([(lambda start, stop: None, np.arange(6))])
    calm = phase.calls[0]

    def interrupted(*arguments: Any) -> None:
        calm.take(*arguments)
        raise KeyboardInterrupt

    phase.calls = [calm._replace(take=interrupted)]
    board = np.zeros((1, 8), np.int64)
    phase.work(board, 0)
    assert board[0, 1] == phase.wanted == 5
    with pytest.raises(KeyboardInterrupt):
        phase.raise_first()


@kernel
def _count(start: int, stop: int, step: int, counts: NDArray[np.int64]) -> None:
    for i in range(start, stop):
        counts[i] += step


def test_compiled_ranges_are_taken_once_each(crew: Crew) -> None:
    """Without the GIL, by a shared counter: two functions in one phase, thousands of ranges of one item."""
    one, two = np.zeros(3000, np.int64), np.zeros(500, np.int64)
    for _ in range(200):
        crew.run((_count, np.arange(3001), 1, one), (_count, np.arange(501), 2, two))
    assert (one == 200).all()
    assert (two == 400).all()


def test_a_function_that_returns_cannot_be_done_range_by_range() -> None:
    @kernel
    def early(start: int, stop: int, counts: NDArray[np.int64]) -> None:
        if start > 0:
            return
        counts[start:stop] = 1

    with pytest.raises(TypeError, match="returns"):
        run_together((early, np.arange(3), np.zeros(2, np.int64)))


def test_callers_from_several_threads_do_not_wait_for_each_other(crew: Crew) -> None:
    """Whoever finds the crew busy works alone: both callers are inside a range at once."""
    meeting = threading.Barrier(2, timeout=10)
    done = []

    def work(start: int, stop: int) -> None:
        if start == 0:
            meeting.wait()
        done.append((threading.get_ident(), start))

    callers = [threading.Thread(target=crew.run, args=((work, np.arange(3)),)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert sorted(start for _, start in done) == [0, 0, 1, 1]


def test_no_more_threads_take_part_than_torch_may_use() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 4, 2):  # with fewer than the crew has by then, too
            torch.set_num_threads(threads)
            seen: set[int] = set()

            def work(start: int, stop: int, seen: set[int] = seen, threads: int = threads) -> None:
                seen.add(threading.get_ident())
                until = time.monotonic() + 10.0  # on a busy machine the others are late
                while len(seen) < threads and time.monotonic() < until:
                    time.sleep(0.002)
                time.sleep(0.002)

            run_ranges(work, np.arange(13))
            assert len(seen) == threads
    finally:
        torch.set_num_threads(before)


def _work_in_child() -> None:
    torch.set_num_threads(2)
    run_ranges(lambda start, stop: None, np.arange(3))


def test_a_forked_child_gets_threads_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    run_ranges(lambda start, stop: None, np.arange(3))
    torch.set_num_threads(before)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
        child = multiprocessing.get_context("fork").Process(target=_work_in_child)
        child.start()
    child.join(20)
    assert child.exitcode == 0


def test_arrays_of_an_arena_do_not_overlap_and_come_again() -> None:
    arena = Arena()
    for _ in range(3):
        arena.restart()
        arrays = [
            arena.zeros((n, 3), np.dtype(kind)) for n, kind in ((5, "f4"), (1, "f8"), (0, "f4"), (7, "f4"))
        ]
        for value, array in enumerate(arrays):
            array.fill(value + 1)
        assert [set(array.ravel()) for array in arrays] == [{1.0}, {2.0}, set(), {4.0}]
        assert all(array.ctypes.data % 64 == 0 for array in arrays if array.size and array.base is not None)
    first = arrays[0].ctypes.data
    arena.restart()
    assert arena.empty((5, 3), np.dtype("f4")).ctypes.data == first


PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import numba
before = numba.config.CACHE_DIR
sys.path.insert(0, sys.argv[1])
import twice
assert numba.config.CACHE_DIR == before
print(twice.twice(21))
"""


def test_code_is_compiled_once_announced_and_kept(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(
        "from atomml.kernels.compile import kernel\n@kernel\ndef twice(x):\n    return 2 * x\n"
    )
    environment = {"ATOMML_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert "compiled twice" in outputs[0]
    assert "compiled twice" not in outputs[1]
    assert all(output.endswith("42\n") for output in outputs)
    assert any((tmp_path / "cache").rglob("*.nbi"))


def test_numba_is_left_as_it_was() -> None:
    import atomml.kernels.gemm  # noqa: F401

    assert numba.config.CACHE_DIR == ""
    assert logging.getLogger("atomml.kernels.compile").handlers == []


@kernel
def multiply_range(start: int, stop: int, left: NDArray[Any], right: NDArray[Any], out: NDArray[Any]) -> None:
    """An elementwise product."""
    for i in range(start, stop):
        out[i] = left[i] * right[i]


@pytest.mark.skipif(not _X86, reason="other processors take denormal numbers at full speed")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormal_numbers_are_zero_in_ranges_and_nowhere_else(dtype: type[np.floating[Any]]) -> None:
    """Gradients fade to them, and some processors then multiply a hundred times slower."""
    tiny = np.finfo(dtype).tiny
    left = np.array([tiny, tiny / 8, tiny, 3.0] * 8, dtype)
    right = np.array([0.25, 2.0**20, 1.0, 2.0] * 8, dtype)
    out = np.empty_like(left)
    run_ranges(multiply_range, np.array([0, 8, 16, 32]), left, right, out)
    np.testing.assert_array_equal(out, np.array([0.0, 0.0, tiny, 6.0] * 8, dtype))
    assert 0 < left[0] * right[0] < tiny, "the caller's own arithmetic has changed"

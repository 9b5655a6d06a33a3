"""Jobs of many items: nothing lost, nothing done twice, through errors, kills of workers and of the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import tasks

from atomml.errors import InputError, RunFailedError
from atomml.jobs import Item, run_jobs
from atomml.manifest import DONE, FAILED, Manifest, Shard, read_manifest

Items = Callable[..., list[Item]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.sqlite"


def test_each_item_is_done_once_and_never_again(items: Items, path: Path, marks: Path) -> None:
    for kept in (False, True):
        with Manifest(path, "job") as manifest:
            outcomes = list(run_jobs(items(20), tasks.square, manifest, workers=2))
        assert sorted(o.id for o in outcomes) == [item.id for item in items(20)]
        assert {o.id: o.result["square"] for o in outcomes} == {f"item-{n:03d}": n * n for n in range(20)}
        assert {o.kept for o in outcomes} == {kept}
    assert tasks.calls(marks) == list(range(20))


def test_a_changed_digest_or_context_is_done_again_and_nothing_else(
    items: Items, path: Path, marks: Path
) -> None:
    before = items(6)
    changed = [*before[:5], *items(6, salt="new")[5:]]
    with Manifest(path, "job") as manifest, ThreadPoolExecutor(2) as pool:
        list(run_jobs(before, tasks.square, manifest, executor=pool))
        list(run_jobs(changed, tasks.square, manifest, executor=pool))
        assert tasks.calls(marks) == [0, 1, 2, 3, 4, 5, 5]
        list(run_jobs(changed, tasks.square, manifest, executor=pool, context="another method"))
    assert tasks.calls(marks) == sorted([0, 1, 2, 3, 4, 5] * 2 + [5])


def test_errors_stay_with_their_items_and_are_tried_again_only_on_demand(
    items: Items, path: Path, marks: Path
) -> None:
    with Manifest(path, "job") as manifest:
        found = {o.id: o for o in run_jobs(items(8), tasks.fail_on_odd, manifest, workers=2)}
        assert [found[f"item-{n:03d}"].result for n in range(0, 8, 2)] == [0, 2, 4, 6]
        assert found["item-001"].error == "item 1 is odd"
        assert found["item-003"].error == "ZeroDivisionError: 3 mod 4"
        again = list(run_jobs(items(8), tasks.fail_on_odd, manifest, workers=1))
        assert {o.id: o.error for o in again} == {o.id: o.error for o in found.values()}
        assert tasks.calls(marks) == list(range(8))
        list(run_jobs(items(8), tasks.fail_on_odd, manifest, workers=1, redo_failed=True))
        assert tasks.calls(marks) == sorted([*range(8), 1, 3, 5, 7])
        assert [row.id for row in manifest.rows(FAILED)] == ["item-001", "item-003", "item-005", "item-007"]


def test_in_a_group_one_cannot_pull_down_the_others(items: Items, path: Path, marks: Path) -> None:
    """A killer, an error and a call that fails as a whole, among fourteen in groups of four."""
    with Manifest(path, "job") as manifest:
        outcomes = list(run_jobs(items(14), tasks.square_each, manifest, workers=2, group=4, retries=1))
        again = list(run_jobs(items(14), tasks.square_each, manifest, workers=1, group=4))
    found = {int(one.id[-3:]): one for one in outcomes}
    assert sorted(found) == list(range(14))
    assert {n: one.error for n, one in found.items() if one.error is not None} == {
        5: "five is odd.",
        7: found[7].error,
        11: "ZeroDivisionError: eleven",
    }
    assert "killed by signal 9" in str(found[7].error)
    assert all(one.result == n * n for n, one in found.items() if one.error is None)
    assert all(one.kept for one in again)
    assert [n for n in tasks.calls(marks) if n in (0, 1, 2, 3, 12, 13)] == [0, 1, 2, 3, 12, 13]


def test_an_item_that_kills_its_workers_is_named_and_the_others_are_done(
    items: Items, path: Path, marks: Path
) -> None:
    with Manifest(path, "job") as manifest:
        outcomes = list(run_jobs(items(12), tasks.die_on_seven, manifest, workers=2, retries=2))
    failed = [o for o in outcomes if o.error is not None]
    assert [(o.id, o.attempt) for o in failed] == [("item-007", 3)]
    assert "killed by signal 9" in str(failed[0].error)
    assert "3 attempts" in str(failed[0].error)
    assert tasks.calls(marks) == sorted([*range(12), 7, 7])


def test_items_whose_worker_is_killed_once_are_done_at_the_second_attempt(
    items: Items, path: Path, marks: Path
) -> None:
    with Manifest(path, "job") as manifest:
        outcomes = list(run_jobs(items(9), tasks.die_once, manifest, workers=2))
    assert sorted(o.result for o in outcomes) == list(range(9))
    assert {o.id: o.attempt for o in outcomes} == {f"item-{n:03d}": 2 if n % 3 == 0 else 1 for n in range(9)}


def test_a_result_that_json_does_not_hold_is_an_error_of_its_item(items: Items, path: Path) -> None:
    for task in (tasks.no_json, tasks.nan):
        with Manifest(path, "job") as manifest:
            (outcome,) = run_jobs(items(1), task, manifest, workers=1, redo_failed=True)
        assert "cannot be recorded as JSON" in str(outcome.error)


def test_an_id_given_twice_is_refused(items: Items, path: Path) -> None:
    with Manifest(path, "job") as manifest, pytest.raises(InputError, match="item-000 is given twice"):
        list(run_jobs([*items(1), *items(1)], tasks.square, manifest, workers=1))


def test_shards_do_together_what_the_whole_does(items: Items, tmp_path: Path, marks: Path) -> None:
    found: list[str] = []
    for index in (1, 2, 3):
        with Manifest(tmp_path / f"{index}.sqlite", "job") as manifest, ThreadPoolExecutor(1) as pool:
            shard = Shard(index, 3)
            found += [o.id for o in run_jobs(items(30), tasks.square, manifest, executor=pool, shard=shard)]
    assert sorted(found) == [item.id for item in items(30)]
    assert tasks.calls(marks) == list(range(30))


def test_items_are_taken_as_they_are_needed(items: Items, path: Path) -> None:
    """A stream of items longer than memory is read no farther ahead than the workers need."""
    taken = 0

    def stream() -> object:
        nonlocal taken
        for item in items(500):
            taken += 1
            yield item

    with Manifest(path, "job") as manifest:
        outcomes = run_jobs(stream(), tasks.square, manifest, workers=1)  # type: ignore[arg-type]
        next(outcomes)
        assert taken <= 4
        outcomes.close()


def test_a_foreign_pool_that_breaks_says_so_and_loses_nothing(items: Items, path: Path, marks: Path) -> None:
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with Manifest(path, "job") as manifest, pool, pytest.raises(RunFailedError, match="executor broke"):
        list(run_jobs(items(12), tasks.die_on_seven, manifest, executor=pool))
    before = tasks.calls(marks)
    done = [row.id for row in read_manifest(path) if row.status == DONE]
    with Manifest(path, "job") as manifest:
        list(run_jobs(items(12), tasks.square, manifest, workers=1))
    again = tasks.calls(marks)
    assert done
    assert all(again.count(n) == before.count(n) for n in range(12) if f"item-{n:03d}" in done)


JOB = """
import sys, tasks
from pathlib import Path
from atomml.jobs import Item, run_jobs
from atomml.manifest import Manifest, digest_of
marks = sys.argv[2]
items = [Item(f"item-{n:03d}", {"n": n, "folder": marks, "seconds": 0.02}, digest_of(str(n), ""))
         for n in range(60)]
with Manifest(sys.argv[1], "job") as manifest:
    for outcome in run_jobs(items, tasks.square, manifest, workers=2):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill-9", "ctrl-c"])
def test_a_job_killed_again_and_again_does_each_item_and_records_it_once(
    number: int, path: Path, marks: Path
) -> None:
    """Only what was in hand at a kill may be begun twice: two items a worker, one perhaps just done."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    kills = 0
    for target in (10, 30, 60):
        with subprocess.Popen(
            [sys.executable, "-c", JOB, str(path), str(marks)],
            env=environment,
            stderr=subprocess.DEVNULL,
        ) as job:
            while job.poll() is None and (target == 60 or len(tasks.calls(marks)) < target):
                time.sleep(0.005)
            if job.poll() is None:
                job.send_signal(number)
                kills += 1
    rows = read_manifest(path)
    assert kills == 2
    assert [row.result for row in rows] == [{"square": n * n} for n in range(60)]
    assert {row.status for row in rows} == {DONE}
    calls = tasks.calls(marks)
    assert set(calls) == set(range(60))
    assert len(calls) - 60 <= 4 * kills  # two workers, two items each


def test_workers_of_a_job_killed_from_outside_are_replaced(items: Items, path: Path, marks: Path) -> None:
    """A worker is killed with -9 again and again while the job runs; every item is done in the end."""
    killed = 0
    with Manifest(path, "job") as manifest:
        for outcome in run_jobs(items(40, seconds=0.05), tasks.square, manifest, workers=2, retries=5):
            assert outcome.error is None
            latest = max(marks.iterdir(), key=lambda mark: int(mark.name.split("-")[2]))
            if killed < 4 and outcome.id.endswith(("5", "0")):
                try:
                    os.kill(int(latest.name.split("-")[1]), signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue
        assert manifest.counts()[DONE] == 40
    assert killed >= 2

"""Workers that die cost their own task; the pool goes on, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future
from multiprocessing.connection import Pipe
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import tasks

from atomml.worker_pool import WorkerDiedError, WorkerPool, WorkerStartError


def _lives(process: int) -> bool:
    """Whether the process runs; a zombie, which nobody has asked after yet, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: object, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_answers_and_errors_come_back_each_to_its_own_future() -> None:
    with WorkerPool(2) as pool:
        good = [pool.submit(divmod, n, 7) for n in range(20)]
        bad = pool.submit(divmod, 1, 0)
        assert [future.result() for future in good] == [divmod(n, 7) for n in range(20)]
        with pytest.raises(ZeroDivisionError) as caught:
            bad.result()
    assert "Traceback" in caught.value.__notes__[0]  # of the worker, for whoever looks for the fault


def test_what_cannot_be_sent_fails_alone() -> None:
    with WorkerPool(1) as pool:
        bad: Future[int] = pool.submit(lambda: 1)
        assert pool.submit(abs, -3).result() == 3
        assert bad.exception() is not None


@pytest.mark.parametrize(("task", "name"), [(tasks.crash, "SIGSEGV"), (tasks.die_on_seven, "SIGKILL")])
def test_only_the_task_of_a_dead_worker_fails_and_its_cause_is_named(
    task: object, name: str, marks: Path
) -> None:
    with WorkerPool(2) as pool:
        before = [pool.submit(abs, -n) for n in range(20)]
        dead = pool.submit(task, {"n": 7, "folder": str(marks)})  # type: ignore[arg-type]
        after = [pool.submit(abs, -n) for n in range(20)]
        assert [future.result() for future in (*before, *after)] == [*range(20), *range(20)]
        with pytest.raises(WorkerDiedError, match=name):
            dead.result()


def test_workers_killed_from_outside_while_idle_are_replaced_without_a_word() -> None:
    with WorkerPool(2) as pool:
        assert {pool.submit(tasks.pid, 0).result() for _ in range(4)} <= set(pool.process_ids())
        for process in pool.process_ids():
            os.kill(process, signal.SIGKILL)
        assert [pool.submit(abs, -n).result() for n in range(10)] == list(range(10))


def test_threads_are_set_for_the_workers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with WorkerPool(1, threads=3) as pool:
        found = pool.submit(tasks.threads, 0).result()
    assert set(found.values()) == {"3"}
    assert dict(os.environ) == before


def test_stopping_kills_tasks_in_hand_and_cancels_the_rest(tmp_path: Path) -> None:
    pool = WorkerPool(1)
    first = pool.submit(tasks.wait_for, str(tmp_path / "pid"))
    second = pool.submit(abs, -1)
    assert _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), pool:
        raise KeyboardInterrupt
    assert time.monotonic() - started < 10  # the task would take a minute
    assert not _lives(int((tmp_path / "pid").read_text()))
    with pytest.raises(WorkerDiedError):
        first.result()
    with pytest.raises(CancelledError):
        second.result()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_leave_when_their_parent_is_killed_even_in_the_middle_of_a_task(
    number: int, tmp_path: Path
) -> None:
    code = (
        "import sys, tasks\nfrom atomml.worker_pool import WorkerPool\n"
        "with WorkerPool(1) as pool:\n    pool.submit(tasks.wait_for, sys.argv[1]).result()\n"
    )
    path = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert _until(lambda: path.exists() and path.read_text())
        worker = int(path.read_text())
        assert _lives(worker)
        os.killpg(parent.pid, number)  # as a terminal does at Ctrl-C
        assert parent.stderr is not None
        said = parent.stderr.read()
    assert _until(lambda: not _lives(worker))
    assert said.count("Traceback") == (number == signal.SIGINT)  # the parent's; workers do not hear of it


def test_a_worker_whose_parent_is_gone_when_it_answers_says_nothing() -> None:
    """The answer may be ready before the thread that ends the process has run: here it never runs."""
    ours, theirs = Pipe()
    program = "import sys, atomml.worker_pool as w; w._leave_with_the_parent = int; w.serve(int(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        theirs.close()
        assert ours.recv() == (True, None)
        ours.send_bytes(ForkingPickler.dumps((time.sleep, (0.3,), {})))
        assert ours.recv() == (None, None)
        ours.close()
        said = worker.communicate(timeout=60)[1]
    assert said == ""


def test_workers_that_never_start_are_an_error_and_not_an_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with WorkerPool(1) as pool:
        futures = [pool.submit(abs, -1) for _ in range(3)]
        for future in futures:
            with pytest.raises(WorkerStartError, match="do not start"):
                future.result(timeout=30)


def test_a_pool_needs_a_worker_and_a_thread() -> None:
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="at least"):
            WorkerPool(**wrong)

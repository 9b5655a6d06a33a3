"""What the workers of these tests are given to do; each leaves a mark in a folder when it is called."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from atomml.errors import StructureError


def mark(payload: dict[str, Any]) -> None:
    """Leave a file that names the item and this call."""
    folder = Path(payload["folder"])
    (folder / f"{payload['n']}-{os.getpid()}-{time.monotonic_ns()}").touch()


def calls(folder: Path) -> list[int]:
    """The items in the order of their numbers, once for each time that one was begun."""
    return sorted(int(path.name.split("-")[0]) for path in Path(folder).iterdir())


def square(payload: dict[str, Any]) -> dict[str, Any]:
    """An honest task that takes as long as it is told to."""
    mark(payload)
    time.sleep(payload.get("seconds", 0))
    return {"square": payload["n"] ** 2}


def fail_on_odd(payload: dict[str, Any]) -> int:
    """An error of our own for 1, 5, 9 ..., another one for 3, 7 ..."""
    mark(payload)
    n = int(payload["n"])
    if n % 4 == 1:
        raise StructureError(f"item {n} is odd")
    if n % 4 == 3:
        raise ZeroDivisionError("3 mod 4")
    return n


def die_on_seven(payload: dict[str, Any]) -> int:
    """Kill its own worker, as the kernel does when memory runs out."""
    mark(payload)
    if payload["n"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(payload["n"])


def die_once(payload: dict[str, Any]) -> int:
    """Kill its own worker at the first call of each third item."""
    first = calls(Path(payload["folder"])).count(payload["n"]) == 0
    mark(payload)
    if first and payload["n"] % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(payload["n"])


def crash(_: object) -> None:
    """End as compiled code does that reads where it must not."""
    os.kill(os.getpid(), signal.SIGSEGV)


def threads(_: object) -> dict[str, str | None]:
    """What this process tells its libraries of threads."""
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def no_json(_: object) -> object:
    """A result that JSON does not hold."""
    return {1, 2}


def nan(_: object) -> float:
    """Another one."""
    return float("nan")


def pid(_: object) -> int:
    """Process id of the worker."""
    return os.getpid()


def wait_for(path: str) -> int:
    """Leave the process id in a file, and go on for a minute."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)
    return 0


def square_each(payloads: list[dict[str, Any]]) -> list[tuple[Any, str | None]]:
    """Squares of several at once; the number 5 is an error, the number 7 kills the worker, 11 the call."""
    answers: list[tuple[Any, str | None]] = []
    for payload in payloads:
        mark(payload)
        if payload["n"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        if payload["n"] == 11:
            raise ZeroDivisionError("eleven")
        answers.append((None, "five is odd.") if payload["n"] == 5 else (payload["n"] ** 2, None))
    return answers

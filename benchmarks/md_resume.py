"""MD killed with SIGKILL at random moments and at the worst ones, resumed, and compared bit by bit.

Each kill has a run of its own: a child process runs ``md`` in a fresh folder until it is killed, a second
one resumes it (every third is killed once more on the way), and trajectory, log, restart file and final
structure must have the bytes of a run that never stopped. The signal falls at a random instant, before
or after a rename, in the middle of a temporary file, or with half a record appended to a growing file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

ENSEMBLES = ("nve", "nvt-langevin", "nvt-bussi", "nvt-nhc", "npt-mtk", "npt-iso")
FILES = ("trajectory.extxyz", "log.csv", "restart.safetensors", "final.extxyz")
MOMENTS = ("at random", "before a rename", "after a rename", "inside a save", "inside an append")


def main() -> int:
    """Parse, run, print a line per ensemble; 1 if any run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ensembles", nargs="+", default=ENSEMBLES, choices=ENSEMBLES)
    parser.add_argument("--folder", help="where the runs go; a temporary folder if not given")
    told = parser.parse_args()
    limit_threads(1)
    describe("chgnet")
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        harness = Harness(Path(folder), told.steps, random.Random(told.seed))
        good = [harness.ensemble(name, told.kills) for name in told.ensembles]
    return 0 if all(good) else 1


class Harness:
    """Runs the children, kills them, compares.

    Args:
        folder: Where the runs go.
        steps: Length of each run.
        chance: Where the signals fall.
    """

    def __init__(self, folder: Path, steps: int, chance: random.Random) -> None:
        from atomml import load_model

        self.folder, self.steps, self.chance = folder, steps, chance
        self.model = load_model("chgnet-0.3.0", device="cpu")
        run(folder / "warm-up", "nve", 1, self.model)  # children inherit what this imports

    def ensemble(self, ensemble: str, kills: int) -> bool:
        """All kills of one ensemble; prints how many runs ended with the right bits, and where they fell."""
        whole = self.folder / f"{ensemble}-whole"
        started = time.perf_counter()
        self._child(whole, ensemble, None)
        duration = time.perf_counter() - started
        expected, same, fell = digests(whole), 0, Counter[str]()
        for kill in range(kills):
            run = self.folder / f"{ensemble}-{kill}"
            for _ in range(2 if kill % 3 == 0 else 1):
                moment = MOMENTS[self.chance.randrange(len(MOMENTS))]
                killed = self._child(run, ensemble, self._sabotage(moment, duration))
                fell[f"{moment}{'' if killed else ' (too late: the run had ended)'}"] += 1
            self._child(run, ensemble, None)
            found = digests(run)
            same += found == expected
            if found != expected:
                print(f"  {run.name} differs in {[name for name in FILES if found[name] != expected[name]]}")
        print(
            f"{ensemble}: {same} of {kills} with the bits of the unbroken run; signals fell {dict(fell)}",
            flush=True,
        )
        return same == kills

    def _sabotage(self, moment: str, duration: float) -> Callable[[], float | None]:
        """What the child does to itself before it runs; returns when the parent is to kill it, if at all."""
        count = self.chance.randrange(1, 12)
        share = self.chance.random()
        return lambda: plant(moment, count, share, duration)

    def _child(self, folder: Path, ensemble: str, sabotage: Callable[[], float | None] | None) -> bool:
        """Run MD in a child; True if it was killed.

        Raises:
            RuntimeError: It ended in another way than by itself or by SIGKILL.
        """
        child = os.fork()
        if child == 0:
            code = 1
            try:
                delay = sabotage() if sabotage else None
                if delay is not None:
                    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                    signal.setitimer(signal.ITIMER_REAL, delay)
                run(folder, ensemble, self.steps, self.model)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return True
        if status != 0:
            raise RuntimeError(f"the run in {folder} failed with status {status}")
        return False


def run(folder: Path, ensemble: str, steps: int, model: Any) -> None:
    """One run of eight silicon atoms, from wherever the folder stands."""
    from ase.build import bulk

    from atomml.workflows import md

    md(
        bulk("Si", cubic=True),
        model,
        out=folder,
        resume=True,
        ensemble=ensemble,
        steps=steps,
        temperature="300" if ensemble == "nve" else "300:600",
        every=3,
        restart_every=7,
    )


def plant(moment: str, count: int, share: float, duration: float) -> float | None:
    """Make this process kill itself at the ``count``-th such moment; a delay where the time decides."""
    from atomml.md import recorder

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    counter = iter(range(1, sys.maxsize))
    if moment == "at random":
        return max(1e-3, share * duration)
    if moment == "inside an append":
        append = recorder.GrowingFile.append

        def torn(file: recorder.GrowingFile, text: str) -> None:
            if next(counter) == count:
                data = text.encode()
                os.write(file._stream.fileno(), data[: int(share * len(data))])
                die()
            append(file, text)

        recorder.GrowingFile.append = torn  # type: ignore[method-assign]
        return None
    replace, fsync = Path.replace, os.fsync

    def renamed(path: Path, target: Any) -> Any:
        now = next(counter) == count
        if now and moment == "before a rename":
            die()
        answer = replace(path, target)
        if now:
            die()
        return answer

    def synced(descriptor: int) -> None:
        temporary = Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".tmp"
        if temporary and next(counter) == count:
            os.ftruncate(descriptor, int(share * os.fstat(descriptor).st_size))  # as if killed while writing
            die()
        fsync(descriptor)

    if moment == "inside a save":
        os.fsync = synced
    else:
        Path.replace = renamed  # type: ignore[method-assign]
    return None


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that must come out the same."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if (folder / name).exists()
        else "absent"
        for name in FILES
    }


if __name__ == "__main__":
    sys.exit(main())

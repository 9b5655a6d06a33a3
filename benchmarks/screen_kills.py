"""A screen killed by SIGKILL at random moments, its workers too, until it is done: what is lost, done twice.

    python benchmarks/screen_kills.py [--kills 50] [--structures 120] [--workers 2] [--workflow relax]

Each kill hits the whole run or one of its workers, in turn, after a random time. A run that was killed is
started again with ``--resume``; when it has finished, the next screen begins, in a new folder. Lost: rows
without a result at the end. Twice: structures whose result the manifest held before a kill and that have a
later attempt or another result after it. Each table is compared with that of an unbroken run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads


def _children(process: int) -> list[int]:
    """Process ids of the workers of a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process:
            found.append(int(folder.name))
    return found


def _done(folder: Path) -> dict[str, Any]:
    """What the manifest has, by structure: attempt and result."""
    from atomml.manifest import DONE, read_manifest

    path = folder / "manifest.sqlite"
    if not path.exists() or path.stat().st_size == 0:
        return {}
    return {row.id: (row.attempt, row.result) for row in read_manifest(path) if row.status == DONE}


def _write(path: Path, count: int) -> None:
    from ase.build import bulk
    from ase.io import write

    kinds = [bulk("Cu", cubic=True), bulk("Si"), bulk("NaCl", "rocksalt", 5.7), bulk("Al")]
    frames = []
    for number in range(count):
        atoms = kinds[number % len(kinds)].copy()
        atoms.rattle(0.05, seed=number)
        frames.append(atoms)
    write(path, frames)


class _Score:
    """What was counted so far."""

    def __init__(self, kills: int, seconds: float) -> None:
        self.wanted, self.seconds = kills, seconds
        self.kills = self.of_workers = self.twice = self.lost = self.unlike = self.runs = 0


def _disturbed(process: subprocess.Popen[bytes], score: _Score) -> bool:
    """Kill workers, and in the end the run; True if it was killed, False if it has finished before."""
    while process.poll() is None and score.kills < score.wanted:
        time.sleep(random.uniform(0.2, score.seconds))
        if process.poll() is not None:
            break
        workers = _children(process.pid)
        score.kills += 1
        if score.kills % 2 and workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            score.of_workers += 1
            continue
        process.kill()
        process.wait()
        time.sleep(0.5)  # its workers see that it has gone
        return True
    process.wait()
    return False


def _one_screen(call: list[str], folder: Path, score: _Score, whole: Path, count: int) -> None:
    """Kill and resume until it is done; count what went wrong."""
    kept: dict[str, Any] = {}
    call = [*call, "--out", str(folder), "--resume"]
    again = True
    while again:
        process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
        again = _disturbed(process, score)
        now = _done(folder)
        score.twice += sum(now.get(name) != value for name, value in kept.items())
        kept = now
    score.lost += count - len(kept)
    table, other = ((place / "results.csv").read_bytes() for place in (folder, whole))
    score.unlike += table != other or process.returncode != 0
    score.runs += 1


def main() -> None:
    """Parse, kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--structures", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--workflow", default="relax")
    parser.add_argument("--model", default="chgnet-0.3.0")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    random.seed(told.seed)
    limit_threads(1)
    describe("ase")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _write(place / "many.extxyz", told.structures)
        call = [sys.executable, "-m", "atomml.cli.main", "screen", told.workflow, str(place / "many.extxyz")]
        call += ["--model", told.model, "--workers", str(told.workers), "--batch", "8", "--quiet"]
        started = time.perf_counter()
        subprocess.run([*call, "--out", str(place / "whole")], check=True)
        seconds = time.perf_counter() - started
        score = _Score(told.kills, 0.7 * seconds)
        print(f"an unbroken run takes {seconds:.0f} s", flush=True)
        while score.kills < told.kills:
            _one_screen(call, place / f"run-{score.runs}", score, place / "whole", told.structures)
            print(f"{score.kills} kills, {score.runs} screens", flush=True)
    print(
        f"\n{score.kills} kills ({score.of_workers} of workers) of {score.runs} screens of {told.structures}:"
    )
    print(
        f"{score.lost} lost, {score.twice} done twice, {score.unlike} tables unlike that of an unbroken run"
    )
    sys.exit(bool(score.lost or score.twice or score.unlike))


if __name__ == "__main__":
    main()

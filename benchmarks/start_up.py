"""How long a user waits: help, a prediction, the first step of MD, with kernels compiled before and not."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMAND = [sys.executable, "-m", "atomml.cli.main"]


def main() -> None:
    """Measure each and print its median, or the only time for what happens once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    describe("numba")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print("\n| what | s | asked |\n|---|---|---|")
        row("atomml --help", [whole(["--help"]) for _ in range(told.rounds)], 0.15)
        row("atomml md --help", [whole(["md", "--help"]) for _ in range(told.rounds)], 0.15)
        fresh = {**os.environ, "ATOMML_CACHE": str(Path(folder) / "cache")}
        row("md to its first step, first time ever", [first_step(fresh)], 20)
        row("md to its first step", [first_step(fresh) for _ in range(told.rounds)], 5)
        pair = str(EXAMPLES / "Si.cif")
        predict = ["predict", pair, "--out", "predicted", "--overwrite", "--quiet"]
        row("predict of two atoms", [whole(predict, fresh) for _ in range(told.rounds)], 3)


def row(name: str, times: list[float], asked: float) -> None:
    """Print one line."""
    print(f"| {name} | {statistics.median(times):.2f} | {asked} |", flush=True)


def whole(arguments: list[str], environment: dict[str, str] | None = None) -> float:
    """Seconds from start to end of a command."""
    start = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def first_step(environment: dict[str, str]) -> float:
    """Seconds until ``log.csv`` of the main job has its first line of numbers."""
    shutil.rmtree("md", ignore_errors=True)
    structure = str(EXAMPLES / "LiCoO2.cif")
    arguments = ["md", structure, "--supercell", "3,3,1", "--steps", "1", "--every", "1", "--out", "md"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*COMMAND, *arguments, "--quiet"], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        log = Path("md/log.csv")
        while not (log.exists() and log.read_text().count("\n") >= 3):  # heads, step 0, step 1
            if process.poll() not in (None, 0):
                raise RuntimeError("the run failed")
            time.sleep(0.005)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()

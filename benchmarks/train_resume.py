"""Kill a training with SIGKILL at random moments, resume it, and compare the final files.

Each round kills a run of the real CHGNet 0.3.0 on a few crystals, in the middle of epochs too, until it
ends; model, last model and log must have the SHA-256 of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FINAL = ("model.safetensors", "last.safetensors", "log.csv")


def main() -> None:
    """Parse, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many kills in all")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    generator = random.Random(told.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_crystals(folder / "crystals.extxyz")
        subprocess.run(command(data, folder / "first", told.epochs), check=True)  # compiles, where need be
        started = time.monotonic()
        subprocess.run(command(data, folder / "whole", told.epochs), check=True)
        length = time.monotonic() - started
        expected = digests(folder / "whole")
        kills = rounds = equal = 0
        while kills < told.kills:
            rounds += 1
            kills += break_and_resume(data, folder / f"broken-{rounds}", told.epochs, length, generator)
            equal += digests(folder / f"broken-{rounds}") == expected
            print(f"{kills} kills, {equal} of {rounds} runs with the same files", flush=True)
    print(f"{equal} of {rounds} resumed runs have the SHA-256 of the unbroken one, after {kills} kills.")
    sys.exit(0 if equal == rounds else 1)


def command(data: Path, out: Path, epochs: int) -> list[str]:
    """A short fine-tuning of CHGNet with a restart file every third step."""
    words = f"finetune --train {data} --out {out} --epochs {epochs} --batch-size 2 --save-every 3 --quiet"
    words += " --resume"
    return [sys.executable, "-m", "atomml.cli.main", *words.split()]


def break_and_resume(data: Path, out: Path, epochs: int, length: float, generator: random.Random) -> int:
    """Run to the end, killed now and then on the way; returns how often."""
    kills = 0
    while True:
        process = subprocess.Popen(command(data, out, epochs))
        try:
            process.wait(timeout=generator.uniform(0.4, 1.1) * length)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        if process.returncode != 0:
            raise SystemExit(f"a resumed run ended with {process.returncode}")
        return kills


def digests(folder: Path) -> list[str]:
    """SHA-256 of the final files."""
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FINAL]


def write_crystals(path: Path) -> Path:
    """Eight rattled crystals of copper with the labels of ASE's EMT."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    frames = []
    for number in range(8):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, rng=np.random.default_rng(number))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(path, frames)
    return path


if __name__ == "__main__":
    main()

"""Checkpoints under attack: 1,000 flipped bits, all refused, and 200 kills during a save, none fatal."""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

WRITER = """
import sys
from pathlib import Path
import numpy as np
from atomml.checkpoint import save_state
path, size = Path(sys.argv[1]), int(sys.argv[2])
for step in range(10**9):
    save_state(path, {"x": np.full(size, float(step))}, {"step": step})
    if step == 0:
        print("ready", flush=True)
"""


def main() -> int:
    """Parse, run both, print; 1 if anything got through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    describe("safetensors")
    chance = random.Random(told.seed)
    with tempfile.TemporaryDirectory() as folder:
        refused = flip(Path(folder), told.flips, chance)
        print(f"flipped bits refused: {refused} of {told.flips}")
        whole, inside = kill(Path(folder), told.kills, chance)
        print(f"files whole after a kill: {whole} of {told.kills}; {inside} signals fell inside a save")
    return 0 if refused == told.flips and whole == told.kills else 1


def flip(folder: Path, count: int, chance: random.Random) -> int:
    """How many of ``count`` single flipped bits in a CHGNet checkpoint are refused when it is loaded."""
    from atomml import load_model
    from atomml.checkpoint import load_model_file, save_model
    from atomml.errors import CheckpointError

    path = folder / "model.safetensors"
    save_model(load_model("chgnet-0.3.0", device="cpu"), path)
    sound = path.read_bytes()
    refused = 0
    for _ in range(count):
        spoilt = bytearray(sound)
        # Every second one in the header and the table, which are a thousandth of the file.
        end = len(sound) if chance.random() < 0.5 else min(len(sound), 20_000)
        spoilt[chance.randrange(end)] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        try:
            load_model_file(path, "float32", "cpu")
        except CheckpointError:
            refused += 1
    return refused


def kill(folder: Path, count: int, chance: random.Random) -> tuple[int, int]:
    """How many files are whole after SIGKILL to a process that saves on and on; how many were mid-save."""
    from atomml.checkpoint import load_state

    path, whole, inside = folder / "state.safetensors", 0, 0
    for _ in range(count):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), "200000"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
        leftovers = list(folder.glob(".*.tmp"))
        inside += bool(leftovers)
        for leftover in leftovers:
            leftover.unlink()
        state = load_state(path)
        whole += bool((state.arrays["x"] == state.header["step"]).all())
    return whole, inside


if __name__ == "__main__":
    sys.exit(main())

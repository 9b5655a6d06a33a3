"""Real processes: killed with SIGKILL and resumed, stopped by SIGTERM, and two that train as one."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from atomml.checkpoint import load_checkpoint
from atomml.run import read_events

TABLE = "parity_valid_forces.csv"
FINAL = ("model.safetensors", "last.safetensors", "log.csv")


def command(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    words = ["finetune", "--model", str(model), "--train", str(data), "--out", str(out), "--epochs", "40"]
    words += [
        "--precision",
        "float64",
        "--batch-size",
        "4",
        "--save-every",
        "5",
        "--device",
        "cpu",
        "--quiet",
    ]
    return [sys.executable, "-m", "atomml.cli.main", *words, *more]


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FINAL}


def steps_written(folder: Path) -> int:
    """The step of the last event about progress; 0 before."""
    return max(
        (event.get("step", 0) for event in read_events(folder) if event["event"] == "epoch"), default=0
    )


def wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while steps_written(folder) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(
    tiny_file: Path, crystals_file: Path, tmp_path: Path
) -> None:
    """SIGKILL at three places, in the middle of epochs too; no warning but that of a first step again."""
    subprocess.run(command(tiny_file, crystals_file, tmp_path / "whole"), check=True)
    broken = tmp_path / "broken"
    for step in (1, 50):
        process = subprocess.Popen(command(tiny_file, crystals_file, broken, "--resume"))
        wait_for_step(process, broken, step)
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(tiny_file, crystals_file, broken, "--resume"), check=True)
    assert digests(tmp_path / "whole") == digests(broken)
    assert (broken / "summary.json").exists()


@pytest.mark.slow
def test_sigterm_finishes_the_step_and_leaves_143(
    tiny_file: Path, crystals_file: Path, tmp_path: Path
) -> None:
    subprocess.run(command(tiny_file, crystals_file, tmp_path / "whole"), check=True)
    broken = tmp_path / "broken"
    process = subprocess.Popen(command(tiny_file, crystals_file, broken), stderr=subprocess.PIPE)
    wait_for_step(process, broken, 3)
    process.terminate()
    process.communicate()
    if process.returncode != 0:  # it may have been quicker than the signal
        assert process.returncode == 143
        assert any(event["event"] == "interrupted" for event in read_events(broken))
    subprocess.run(command(tiny_file, crystals_file, broken, "--resume"), check=True)
    assert digests(tmp_path / "whole") == digests(broken)


@pytest.mark.slow
def test_two_processes_train_as_one(tiny_file: Path, crystals_file: Path, tmp_path: Path) -> None:
    """Torchrun with gloo: the same losses and weights as one process, to the rounding of float64 sums.

    Nine structures in batches of four and one: a process may have an uneven share, or nothing at all. Sums in
    another order differ by 1e-15 a step; Adam's division makes of it what gradients near zero allow. (SOAP's
    eigenvectors would make anything of it: few structures leave directions without any gradient.)
    """
    few = ("--epochs", "4", "--optimiser", "adamw")
    subprocess.run(command(tiny_file, crystals_file, tmp_path / "one", *few), check=True)
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29731",
    ]
    two = [*launcher, *command(tiny_file, crystals_file, tmp_path / "two", *few)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(two, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    logs = []
    for name in ("one", "two"):
        with (tmp_path / name / "log.csv").open(newline="") as stream:
            logs.append([[float(c or "nan") for c in row.values()] for row in csv.DictReader(stream)])
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-8)
    tables = [np.loadtxt(tmp_path / name / TABLE, delimiter=",", skiprows=1) for name in ("one", "two")]
    np.testing.assert_allclose(*(np.sort(table, axis=0) for table in tables), rtol=1e-6, atol=1e-9)
    one, other = (load_checkpoint(tmp_path / name / "last.safetensors").tensors for name in ("one", "two"))
    for key, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[key].numpy(), rtol=1e-6, atol=1e-9)

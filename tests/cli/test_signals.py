"""Real processes that are interrupted: the exit codes, whole files, and a resume to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atomml.cli.main import main
from atomml.run import read_events

# A criterion that is never met: the run goes on until it is told to stop.
ENDLESS = ["relax", "ar.extxyz", "--model", "lj-argon", "--dtype", "float64", "--fmax", "1e-300", "--quiet"]
ENDLESS += ["--optimizer", "fire", "--save-every", "7"]
STEPS = 60


def _interrupt(number: int, out: str) -> int:
    """Start a relaxation, send the signal once it has taken some steps, return its exit code."""
    argv = [sys.executable, "-m", "atomml.cli.main", *ENDLESS, "--steps", "1000000", "--out", out]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if any(event.get("step", 0) >= 20 for event in read_events(out)):
                break
            time.sleep(0.02)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
    assert "Traceback" not in err
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["ctrl-c", "sigterm", "kill-9"],
)
def test_an_interrupted_run_leaves_whole_files_and_goes_on_to_the_same_bits(
    number: int, code: int, here: Path
) -> None:
    from atomml.data.structures import read_structures

    assert _interrupt(number, "run") == code
    events = list(read_events("run"))
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(len(steps)))
    if number != signal.SIGKILL:
        assert events[-1]["event"] == "stopped"
        assert len(list(read_structures("run/trajectory.extxyz"))) >= len(steps)
    target = str(max(STEPS, len(steps) + 10))
    assert main([*ENDLESS, "--steps", target, "--out", "run", "--resume"]) == 3
    assert main([*ENDLESS, "--steps", target, "--out", "unbroken"]) == 3
    for name in ("log.csv", "trajectory.extxyz", "relaxed.extxyz", "restart.safetensors"):
        assert Path("run", name).read_bytes() == Path("unbroken", name).read_bytes()
    assert json.loads(Path("run/summary.json").read_text())["results"]["n_steps"] == int(target)

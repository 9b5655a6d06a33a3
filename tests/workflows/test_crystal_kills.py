"""Runs of strain, qha and surface that are killed for real, and go on to the same tables."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

RUNS = {
    "strain": (["--step", "0.03", "--max-strain", "0.09"], 30, "log.csv"),
    "qha": (["--supercell", "2,2,2", "--points", "5", "--mesh", "20"], 7, "thermal.csv"),
    "surface": (["--miller", "1,1,0", "--thickness", "5,8"], 9, "thickness.csv"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", list(RUNS))
def test_a_killed_run_goes_on_to_the_same_numbers(
    command: str, killable: Callable[..., Callable[..., int]]
) -> None:
    """``kill -9`` within a step, a volume, a slab; ASE's EMT sums in the order of its neighbour list."""
    if command == "qha":
        pytest.importorskip("phonopy")
    options, left, table = RUNS[command]
    bulk("Cu", "fcc", a=3.6).write("cu1.extxyz")
    run = killable(command, "cu1.extxyz", "--start", "given", *options)
    assert run("whole", 1 << 30) == 0
    assert run("killed", left) == -signal.SIGKILL
    assert not Path("killed/summary.json").exists()
    assert run("killed", 1 << 30, "--resume") == 0
    assert json.loads(Path("killed/summary.json").read_text())["converged"]
    numbers = [np.genfromtxt(Path(name, table), delimiter=",", skip_header=1) for name in ("whole", "killed")]
    assert np.allclose(*numbers, rtol=1e-9, atol=1e-9, equal_nan=True)

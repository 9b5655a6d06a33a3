"""Runs of strain, qha and surface that are killed for real, and go on to the same tables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

KILLER = """
import os, signal
from ase.calculators.emt import EMT

class Killer(EMT):
    left = int(os.environ.get("LEFT", 1 << 30))

    def calculate(self, *args, **kwargs):
        Killer.left -= 1
        if Killer.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*args, **kwargs)
"""

RUNS = {
    "strain": (["--step", "0.03", "--max-strain", "0.09"], 30, "log.csv"),
    "qha": (["--supercell", "2,2,2", "--points", "5", "--mesh", "20"], 7, "thermal.csv"),
    "surface": (["--miller", "1,1,0", "--thickness", "5,8"], 9, "thickness.csv"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", list(RUNS))
def test_a_killed_run_goes_on_to_the_same_numbers(command: str, here: Path, root: Path) -> None:
    """``kill -9`` within a step, a volume, a slab; ASE's EMT sums in the order of its neighbour list."""
    if command == "qha":
        pytest.importorskip("phonopy")
    options, left, table = RUNS[command]
    (here / "killer.py").write_text(KILLER)
    bulk("Cu", "fcc", a=3.6).write("cu1.extxyz")
    words = [command, "cu1.extxyz", "--model", "ase:killer:Killer", "--quiet", "--start", "given", *options]
    call = [sys.executable, "-m", "atomml.cli.main", *words]

    def run(out: str, left: int, *more: str) -> int:
        paths = os.pathsep.join((str(here), str(root)))
        environment = {**os.environ, "LEFT": str(left), "PYTHONPATH": paths}
        return subprocess.run([*call, "--out", out, *more], env=environment, check=False).returncode

    assert run("whole", 1 << 30) == 0
    assert run("killed", left) == -signal.SIGKILL
    assert not Path("killed/summary.json").exists()
    assert run("killed", 1 << 30, "--resume") == 0
    assert json.loads(Path("killed/summary.json").read_text())["converged"]
    numbers = [np.genfromtxt(Path(name, table), delimiter=",", skip_header=1) for name in ("whole", "killed")]
    assert np.allclose(*numbers, rtol=1e-9, atol=1e-9, equal_nan=True)

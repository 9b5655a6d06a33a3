"""Reading a structure does not wait for scipy's integrators, and takes them from nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk

SCRIPT = """
import sys
from atomml.data.structures import read_structures
(frame,) = read_structures({path!r})
assert len(frame.atoms) == 2
assert "scipy.integrate" not in sys.modules, "loaded all the same"
from ase.dft import get_distribution_moment
import numpy as np
x = np.linspace(0.0, 1.0, 201)
assert abs(get_distribution_moment(x, 6 * x * (1 - x), 1) - 0.5) < 1e-4
from scipy.integrate import quad, trapezoid
assert abs(quad(np.cos, 0.0, 1.0)[0] - np.sin(1.0)) < 1e-12
"""


@pytest.mark.parametrize("name", ["Si.cif", "POSCAR", "Si.xyz"])
def test_readers_leave_the_integrators_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    bulk("Si").write(path)
    script = SCRIPT.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The first use ever: what the helper compiles is what the engine needs, and nobody compiles it again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HELPER = """
import torch
from atomml.potentials.chgnet.fast.ahead import compile_way_back
print(*compile_way_back(torch.float32))
"""
USER = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from ase.build import bulk
from atomml import AtomMLCalculator, load_model
atoms = bulk("Si", cubic=True)
atoms.calc = AtomMLCalculator(load_model("chgnet-0.3.0", device="cpu"))
atoms.get_forces(), atoms.get_stress()
"""


@pytest.mark.slow
def test_the_way_back_is_compiled_once_and_by_the_helper(tmp_path: Path) -> None:
    """The helper never ran a kernel; that its guess of the types was right shows in the cache."""
    environment = {**os.environ, "ATOMML_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
        )
        return done.stdout

    ahead = set(run(HELPER).split())
    assert {"atom_convolution_backward", "bond_convolution_backward", "geometry_backward"} <= ahead
    compiled = set(re.findall(r"^compiled (\w+)", run(USER), flags=re.MULTILINE))
    assert "atom_convolution" in compiled  # it did start with an empty cache
    assert compiled & (ahead - {"project_rows"}) == set()  # which the way forwards uses too
    assert list((tmp_path / "kernels").glob("chgnet-*-float32.compiled"))

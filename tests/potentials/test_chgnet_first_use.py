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


BITS = """
import hashlib
import torch
from ase.build import bulk
from atomml import load_model
from atomml.graph import GraphBuilder
digest = hashlib.sha256()
atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
atoms.rattle(0.1, seed=1)
for dtype in ("float32", "float64"):
    model = load_model("chgnet-0.3.0", dtype=dtype, device="cpu")
    predicted = model.predict(GraphBuilder.for_model(model, angles=False)(atoms))
    digest.update(predicted.forces.numpy().tobytes() + predicted.stress.numpy().tobytes())
model = load_model("chgnet-0.3.0", device="cpu")
found = model.differentiable(GraphBuilder.for_model(model)(atoms), create_graph=True)
learning = list(model.requires_grad_(True).parameters())
loss = found.energy.sum() + found.forces.square().sum() + found.stress.square().sum()
for gradient in torch.autograd.grad(loss, learning, allow_unused=True):
    if gradient is not None:
        digest.update(gradient.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_first_process_and_the_next_give_the_same_bits(tmp_path: Path) -> None:
    """The first compiles, the second loads: predictions and gradients of weights agree to the last bit."""
    environment = {**os.environ, "ATOMML_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", BITS], capture_output=True, text=True, env=environment, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == second

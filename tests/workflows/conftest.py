"""Crystals whose answers are known, noble gases, and a model of them that fails on neon."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from atomml.potentials.lennard_jones import LennardJones, argon

Run = Callable[..., int]


@pytest.fixture
def lj() -> LennardJones:
    """Argon and its kin in float64."""
    return argon()


@pytest.fixture
def sick() -> LennardJones:
    """The same, but nothing that holds neon has a number for an energy."""
    model = argon()
    with torch.no_grad():
        model.epsilon[0, :] = math.nan
        model.epsilon[:, 0] = math.nan
    return model


@pytest.fixture
def crystals() -> list[Atoms]:
    """Six rattled crystals of one to eight atoms: argon, krypton and both."""
    found = [bulk("Ar", "fcc", a=5.3), bulk("Ar", "fcc", a=5.2, cubic=True), bulk("Kr", "fcc", a=5.7)]
    found += [bulk("ArKr", "rocksalt", a=7.4, cubic=True), bulk("Ar", "hcp", a=3.8, c=6.2)]
    found += [bulk("Kr", "fcc", a=5.6, cubic=True)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.08, seed=seed)
    return found


@pytest.fixture
def file(crystals: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``six.extxyz`` with the six, in a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    write("six.extxyz", crystals)
    return "six.extxyz"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ``cu.extxyz`` (4 atoms, rattled) and ``si.cif`` (8 atoms)."""
    monkeypatch.chdir(tmp_path)
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    copper.rattle(0.05, seed=1)
    write("cu.extxyz", copper)
    write("si.cif", bulk("Si", "diamond", a=5.43, cubic=True))
    return tmp_path


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


@pytest.fixture
def killable(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Commands with ASE's EMT in processes of their own, in an empty current folder.

    ``killable("eos", "cu.extxyz")`` is a function of the run folder, of how many evaluations there are
    before ``kill -9``, and of further words; it returns the exit code.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "killer.py").write_text(KILLER)
    paths = os.pathsep.join((str(tmp_path), str(root)))

    def prepare(*words: str) -> Run:
        call = [sys.executable, "-m", "atomml.cli.main", *words, "--model", "ase:killer:Killer", "--quiet"]

        def run(out: str, left: int, *more: str) -> int:
            environment = {**os.environ, "LEFT": str(left), "PYTHONPATH": paths}
            return subprocess.run([*call, "--out", out, *more], env=environment, check=False).returncode

        return run

    return prepare

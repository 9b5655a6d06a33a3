"""Argon in files, for the cheapest model there is; each test works in an empty folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ``ar.extxyz`` (4 atoms), ``many.extxyz`` (5 frames) and ``nacl.cif``."""
    monkeypatch.chdir(tmp_path)
    frames = [bulk("Ar", "fcc", a=5.2 + 0.05 * i, cubic=True) for i in range(5)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
    write("ar.extxyz", frames[2])
    write("many.extxyz", frames)
    salt = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    write("nacl.cif", salt)
    return tmp_path

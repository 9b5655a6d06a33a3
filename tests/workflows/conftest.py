"""An empty folder for each test, and crystals whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ``cu.extxyz`` (4 atoms, rattled) and ``si.cif`` (8 atoms)."""
    monkeypatch.chdir(tmp_path)
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    copper.rattle(0.05, seed=1)
    write("cu.extxyz", copper)
    write("si.cif", bulk("Si", "diamond", a=5.43, cubic=True))
    return tmp_path

"""Labelled crystals in a file, shared by the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ase.io import write

sys.path.insert(0, str(Path(__file__).parent))
from labelled_crystals import labelled_crystals


@pytest.fixture(scope="session")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 80 labelled crystals."""
    path = tmp_path_factory.mktemp("crystals") / "crystals.extxyz"
    write(path, labelled_crystals(80))
    return path

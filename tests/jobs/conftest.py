"""Items for jobs, and a folder where each call leaves a mark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atomml.jobs import Item
from atomml.manifest import digest_of


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where tasks leave their marks."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
def items(marks: Path) -> Callable[..., list[Item]]:
    """``items(n, seconds=0)``: n items."""

    def make(n: int, seconds: float = 0, salt: str = "") -> list[Item]:
        return [
            Item(f"item-{i:03d}", {"n": i, "folder": str(marks), "seconds": seconds}, digest_of(str(i), salt))
            for i in range(n)
        ]

    return make

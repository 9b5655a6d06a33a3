"""What the graph tests share: exact comparison of graphs, and crystals of every awkward kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms

from atomml.graph import AtomGraph

CELLS = {
    "roomy": [[9.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 10.0]],
    "smaller than the cutoff": [[2.1, 0.0, 0.0], [0.0, 2.3, 0.0], [0.0, 0.0, 1.9]],
    "skewed": [[3.0, 0.0, 0.0], [5.0, 2.5, 0.0], [-4.0, 3.0, 3.5]],
    "left-handed": [[0.0, 4.0, 0.3], [3.5, 0.2, 0.0], [0.1, 0.0, 5.0]],
}


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> np.ndarray:
    """A cell, of each kind in turn."""
    return np.array(CELLS[request.param])


@pytest.fixture(params=range(8), ids=lambda bits: f"pbc={bits:03b}")
def pbc(request: pytest.FixtureRequest) -> np.ndarray:
    """Each of the eight periodicities in turn."""
    return np.array([bool(request.param & bit) for bit in (4, 2, 1)])


@pytest.fixture
def oxide() -> Atoms:
    """A rattled, skewed, fully periodic crystal of 12 atoms in which every atom has several bonds."""
    rng = np.random.default_rng(7)
    grid = np.stack(np.meshgrid(range(3), range(2), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    cell = np.array([[6.3, 0.0, 0.0], [0.9, 4.2, 0.0], [-0.4, 0.7, 4.4]])
    positions = (grid / [3, 2, 2]) @ cell + rng.normal(scale=0.08, size=(12, 3))
    return Atoms([3, 27, 8, 8] * 3, positions=positions, cell=cell, pbc=True)


@pytest.fixture
def assert_same() -> Callable[[AtomGraph, AtomGraph], None]:
    """A check that two graphs agree in every bit, dtype and shape."""

    def check(one: object, other: object) -> None:
        assert type(one) is type(other)
        if one is None:
            return
        for entry in fields(one):
            a, b = getattr(one, entry.name), getattr(other, entry.name)
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype, entry.name
                assert torch.equal(a, b), entry.name
            elif entry.name == "bond_graph":
                check(a, b)
            else:
                assert a == b, entry.name

    return check

"""Waters with their matrices, labelled once, and a small predictor trained on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

LEVEL = "pbe/sto-3g"


def waters(n: int) -> list[Atoms]:
    """Displaced and turned."""
    found = []
    for seed in range(n):
        random = np.random.default_rng(seed)
        atoms = molecule("H2O")
        atoms.rattle(0.04, rng=random)
        turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
        atoms.positions = atoms.positions @ turn.T
        found.append(atoms)
    return found


@pytest.fixture(scope="session", name="waters")
def fixture_waters() -> Callable[[int], list[Atoms]]:
    """Makes displaced waters; the first ones are those of the store."""
    return waters


@pytest.fixture(scope="session", name="shape")
def fixture_shape() -> dict[str, Any]:
    """Of a small network."""
    return SHAPE


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve waters by PBE in a minimal basis, on a coarse grid."""
    from atomml.workflows import label_data

    pytest.importorskip("pyscf")
    path = tmp_path_factory.mktemp("matrices") / "waters.lmdb"
    label_data(waters(12), to=path, method=LEVEL, hamiltonian=True, grid=1, workers=1)
    return path


SHAPE: dict[str, Any] = {
    "family": "sphnet",
    "channels": 8,
    "bottleneck": 4,
    "heads": 2,
    "vectorial_layers": 1,
    "vectorial_radial": 8,
    "radial": 8,
}


@pytest.fixture(scope="session")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short training."""
    from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian

    out = tmp_path_factory.mktemp("trained") / "run"
    train_hamiltonian(store, out=out, model=SHAPE, epochs=25, batch_size=5, seed=1, valid_fraction=0.2)
    return out / "model.safetensors"

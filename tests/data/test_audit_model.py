"""A model as the third witness: units and frames are named where no near-by structures speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from atomml import load_model
from atomml.data.audit import audit
from atomml.data.entry import Entry
from atomml.model import Potential
from atomml.testing.planted_mistakes import PLANTED
from atomml.testing.planted_sets import label_structures, rattled


@pytest.fixture(scope="module")
def model() -> Potential:
    return load_model("chgnet-0.3.0", device="cpu")


@pytest.fixture(scope="module")
def apart() -> list[Entry]:
    """Salt crystals of different sizes and shapes: no two are near each other; another model's labels."""
    generator = np.random.default_rng(3)
    frames = []
    for k in range(30):
        atoms = bulk("NaCl", "rocksalt", a=5.3 + 0.03 * k, cubic=True)
        atoms.numbers[:] = generator.permutation(atoms.numbers)
        frames += rattled(atoms, 1, 0.15, 0.03, 50 + k)
    return label_structures(frames, "chgnet-0.2.0", "apart")


def _trap_names(entries: list[Entry], model: Potential | None) -> set[str]:
    return {finding.trap for finding in audit(entries, model).findings}


def _scaled(
    entries: list[Entry], energy: float = 1.0, forces: float = 1.0, stress: float = 1.0
) -> list[Entry]:
    scaled = []
    for entry in entries:
        labels = entry.labels
        assert labels.energy is not None
        assert labels.forces is not None
        assert labels.stress is not None
        changed = replace(
            labels,
            energy=labels.energy * energy,
            forces=labels.forces * forces,
            stress=labels.stress * stress,
        )
        scaled.append(replace(entry, labels=changed))
    return scaled


def test_another_models_labels_are_no_mistake(apart: list[Entry], model: Potential) -> None:
    assert _trap_names(apart, model) == set()


@pytest.mark.parametrize(
    ("factors", "trap"),
    [
        ({"stress": 1 / units.GPa}, "stress-in-GPa"),
        ({"stress": -10 / units.GPa}, "stress-sign"),
        ({"stress": -1.0}, "stress-sign"),
        ({"forces": -1.0}, "gradients-for-forces"),
        ({"forces": units.Bohr / units.Hartree}, "forces-in-Ha-per-bohr"),
        ({"energy": 1 / units.Hartree}, "energy-in-Ha"),
        ({"energy": units.mol / units.kJ}, "energy-in-kJ-per-mol"),
    ],
)
def test_the_model_names_a_unit(
    factors: Mapping[str, float], trap: str, apart: list[Entry], model: Potential
) -> None:
    wrong = _scaled(apart, **factors)
    assert trap in _trap_names(wrong, model)
    assert trap not in _trap_names(wrong, None)


def test_the_model_sees_tensors_in_another_frame(model: Potential) -> None:
    """One cell throughout: no strain does work, and no symmetry is left to break."""
    silicon = rattled(bulk("Si", "diamond", a=5.45, cubic=True), 24, 0.08, 0.0, 3)
    clean = label_structures(silicon, "chgnet-0.2.0", "silicon")
    (planted,) = (p for p in PLANTED if p.with_model)
    assert "stress-frame" not in _trap_names(clean, model)
    wrong = planted.plant(clean)
    assert "stress-frame" in _trap_names(wrong, model)
    assert "stress-frame" not in _trap_names(wrong, None)

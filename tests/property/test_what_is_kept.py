"""What a run keeps of structures is taken up for these structures and labels alone, given in any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from labelled_crystals import SHAPE, labelled_crystals

from atomml.errors import CheckpointError
from atomml.potentials.dpa3 import DPA3, DPA3Config
from atomml.property.describer import Describer
from atomml.property.targets import Target
from atomml.registry import family_class, seeded_generator
from atomml.workflows.properties.property_data import LabelledSet
from atomml.workflows.properties.property_fitting import InputStore
from atomml.workflows.properties.property_study import study_property

TREES: dict[str, Any] = {
    "target": "gap",
    "family": "xgboost",
    "descriptors": "structure",
    "rounds": 5,
    "shape": SHAPE,
    "device": "cpu",
}
STUDY: dict[str, Any] = {**TREES, "folds": 2, "schemes": "random", "resamples": 100}


def test_a_study_that_is_resumed_takes_no_answers_of_other_labels(tmp_path: Path) -> None:
    """The file keeps its name, so nothing but its contents tells the runs apart."""
    data, path = labelled_crystals(20), tmp_path / "crystals.extxyz"
    write(path, data)
    found = study_property(path, out=tmp_path / "run", **STUDY)
    again = study_property(path, out=tmp_path / "run", resume=True, **STUDY)
    assert again.table == found.table
    data[3].info["gap"] += 1.0
    write(path, data)
    with pytest.raises(CheckpointError, match=r"other structures or labels: .* --overwrite"):
        study_property(path, out=tmp_path / "run", resume=True, **STUDY)
    other = study_property(path, out=tmp_path / "run", overwrite=True, **STUDY)
    assert other.table != found.table


def test_rows_of_an_ion_are_not_those_of_the_neutral_molecule(tmp_path: Path) -> None:
    """Of a potential that sees charge and spin, made now and taken up by a run that is resumed."""
    small = {"elements": [1, 6, 8], "nlayers": 1, "n_dim": 8, "e_dim": 8, "a_dim": 8, "neuron": [8]}
    radii = {"e_rcut": 4.0, "e_rcut_smth": 3.5, "a_rcut": 3.0, "a_rcut_smth": 2.5, "e_sel": 50, "a_sel": 20}
    seen = {"charge_spin": True, "default_charge_spin": [0.0, 1.0]}
    with seeded_generator(3):
        base = DPA3.of(DPA3Config.from_json({**small, **radii, **seen}), "small").eval()
    describer = Describer(["features:0"], [base])
    water = [molecule("H2O") for _ in range(3)]
    for atoms, charge, spin in zip(water, (0, 1, 0), (1, 2, 3), strict=True):
        atoms.info = {"charge": charge, "spin": spin}
    expected = [describer.row(atoms) for atoms in water]
    assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-6
    kind: Any = family_class("xgboost", "The test")
    settings = {"targets": [Target("gap")], "describer": describer, "width": len(expected[0])}
    model = kind.fresh("trees", [1, 8], settings)
    data = LabelledSet(water, ["a", "b", "c"], ["a", "b", "c"], [{}, {}, {}], [])
    for _ in range(2):
        rows = [one.row for one in InputStore(folder=tmp_path).fill(model, data)]
        for row, own in zip(rows, expected, strict=True):
            assert row is not None
            np.testing.assert_array_equal(row[0].numpy(), own)
    assert len(list(tmp_path.glob("rows-*.safetensors"))) == 1

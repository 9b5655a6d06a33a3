"""What a run keeps of structures is taken up for these structures and labels alone, given in any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from labelled_crystals import SHAPE, labelled_crystals

from atomml.errors import CheckpointError, OptionError
from atomml.potentials.dpa3 import DPA3, DPA3Config
from atomml.property.describer import Describer
from atomml.property.targets import Target
from atomml.registry import family_class, seeded_generator
from atomml.workflows.inputs import sources_of
from atomml.workflows.properties.property_data import LabelledSet, names_of, stem_source
from atomml.workflows.properties.property_evaluation import evaluate_property
from atomml.workflows.properties.property_fitting import InputStore
from atomml.workflows.properties.property_study import study_property
from atomml.workflows.properties.property_training import train_property

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


def test_structures_may_come_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterator gives what the list gives, wherever structures are taken; without a file, no file names."""
    monkeypatch.chdir(tmp_path)
    data, more = labelled_crystals(20), labelled_crystals(6, seed=1)
    listed = train_property(data, more[:3], test=more[3:], out="listed", **TREES)
    found = train_property(iter(data), iter(more[:3]), test=iter(more[3:]), **TREES)
    assert found.structures == listed.structures
    assert found.scores == listed.scores
    assert found.folder == Path("property-train-structure")
    assert evaluate_property(found.model, iter(more)).scores == evaluate_property(found.model, more).scores
    Path("property-study-structure").symlink_to(found.folder)
    with pytest.raises(OptionError, match="property-study-structure"):
        study_property(iter(data), **STUDY)


def test_a_run_folder_is_called_after_what_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "oxides"
    folder.mkdir()
    for name in ("a.cif", "b.cif"):
        write(folder / name, labelled_crystals(1))
    for given, name in (
        (folder, folder),
        (f"{folder}/b*.cif", folder / "b.cif"),
        ([f"{folder}/a.cif@0"], folder / "a.cif"),
    ):
        assert stem_source(given, sources_of(given)) == str(name)
    assert stem_source(labelled_crystals(1), sources_of(labelled_crystals(1))) is None


def test_what_stands_beside_labels_does_not_stop_a_run_from_being_known_again() -> None:
    """Objects have another address in every process, and keys need not be text."""
    one, same, other = (labelled_crystals(1)[0] for _ in range(3))
    for atoms in (one, same):
        atoms.info |= {3: "three", "object": object()}
    other.info["gap"] += 1.0
    assert names_of([one]) == names_of([same])
    assert names_of([one]) != names_of([other])

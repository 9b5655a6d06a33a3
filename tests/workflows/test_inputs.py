"""What a workflow is given: sources named in any way, models in any form, and comparisons of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.io import read, write

from atomml.calculator import AtomMLCalculator
from atomml.errors import FileFormatError, InputError, ModelError, OptionError, StructureError
from atomml.potentials.lennard_jones import LennardJones
from atomml.workflows import compare, predict
from atomml.workflows.inputs import (
    expand_sources,
    given_model,
    given_structure,
    input_record,
    net_charge,
    split_index,
    structures_of,
    with_charge,
)


@pytest.mark.parametrize(
    ("source", "path", "index"),
    [
        ("a.xyz", "a.xyz", ":"),
        ("a.xyz@3", "a.xyz", "3"),
        ("a.xyz@-1", "a.xyz", "-1"),
        ("a.xyz@1:9:2", "a.xyz", "1:9:2"),
        ("me@home.xyz", "me@home.xyz", ":"),  # no index: a name with an at sign
        ("C[C@H](N)O", "C[C@H](N)O", ":"),  # nor a chiral centre
        ("a.xyz@", "a.xyz@", ":"),
        ("@3", "@3", ":"),
    ],
)
def test_an_index_is_what_follows_the_last_at_sign(source: str, path: str, index: str) -> None:
    assert split_index(source) == (Path(path), index)


def test_a_file_whose_name_ends_like_an_index_is_itself(file: str) -> None:
    Path(file).rename("six@2")
    assert split_index("six@2") == (Path("six@2"), ":")


@pytest.mark.parametrize("index", ["0", "-1", "2", "1:5:2", "-3:-1", ":"])
def test_an_index_chooses_as_python_and_ase_do(index: str, file: str) -> None:
    chosen = read(file, index)
    wanted = chosen if isinstance(chosen, list) else [chosen]
    found = [given.atoms for given in structures_of(f"{file}@{index}")]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    assert all(atoms.calc is None for atoms in found)  # the labels of a file are no answer of a model


def test_patterns_and_folders_become_their_files_in_order(file: str, crystals: list[Atoms]) -> None:
    Path("set").mkdir()
    for name in ("b.xyz", "a.xyz", ".hidden"):
        write(Path("set") / name, crystals[0], format="extxyz")
    assert expand_sources(["set"]) == ["set/a.xyz", "set/b.xyz"]
    assert expand_sources(["set/*.xyz@-1", file]) == ["set/a.xyz@-1", "set/b.xyz@-1", file]
    with pytest.raises(FileFormatError, match=r"\*\.cif holds no files"):
        expand_sources(["set/*.cif"])
    found = predict("set", "lj-argon", device="cpu")
    assert [row["input"] for row in found.rows] == ["set/a.xyz", "set/b.xyz"]


def test_one_structure_is_wanted_and_frames_must_be_named(file: str, crystals: list[Atoms]) -> None:
    with pytest.raises(StructureError, match=r"holds several frames: name one as six\.extxyz@0"):
        given_structure(file)
    given = given_structure(f"{file}@-1")
    assert (given.label, given.frame) == ("six.extxyz@5", 5)
    with pytest.raises(StructureError, match="int is not a structure"):
        given_structure(3)
    mine = given_structure(crystals[0])
    mine.atoms.positions += 1.0  # a copy: the caller's stays
    assert np.abs(mine.atoms.positions - crystals[0].positions).min() == 1.0


def test_a_record_of_an_input_is_its_digest(file: str) -> None:
    import hashlib

    wanted = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert input_record(Path(file), frame=2) == {"path": file, "sha256": wanted, "frame": 2}
    assert input_record(None) == {"path": None, "sha256": None}


def test_charge_is_the_files_unless_one_is_asked_for() -> None:
    atoms = Atoms("Ar", info={"charge": 1, "spin": 2})
    assert net_charge(with_charge(given_structure(atoms), None, None).atoms) == (1.0, 2.0)
    assert net_charge(with_charge(given_structure(atoms), 0, None).atoms) == (0.0, 2.0)
    assert net_charge(Atoms("Ar")) == (0.0, 0.0)
    assert net_charge(atoms) == (1.0, 2.0)
    with pytest.raises(StructureError, match="must be numbers"):
        net_charge(Atoms("Ar", info={"charge": "one"}))


def test_a_model_in_any_form_is_the_same_model(lj: LennardJones, crystals: list[Atoms]) -> None:
    forms = [lj, AtomMLCalculator(lj), "lj-argon"]
    energies = [predict(crystals[1], form, dtype="float64", device="cpu").energy for form in forms]
    assert energies == pytest.approx([energies[0]] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("model", "kind", "sentence"),
    [
        ("a,b", ModelError, "no model called 'a'"),
        ("nothing-like-it", InputError, "nothing-like-it"),
        (3, ModelError, "int is not a model"),
        ("ase:ase.calculators.emt:EMT", InputError, "imports code"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        given_model(model)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ase:ase.calculators.emt", "write it as ase:MODULE:CLASS"),
        ("ase:no.such.module:EMT", "cannot import no.such.module"),
        ("ase:ase.calculators.emt:ETM", "ETM"),
    ],
)
def test_a_calculator_that_cannot_be_made_says_why(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        given_model(name, allow_code=True)


def test_models_that_are_the_same_agree_and_others_are_told_apart(
    crystals: list[Atoms], lj: LennardJones, tmp_path: Path
) -> None:
    """Half the well depth is half the energy: the spread is the other half."""
    half = AseLennardJones(sigma=3.4, epsilon=0.0052, rc=8.5, smooth=True, ro=7.0)
    same = compare("predict", crystals[1], [lj, lj], out=tmp_path / "same")
    assert set(same.by_model) == {"lj-argon", "lj-argon (2)"}
    assert set(same.spread.values()) == {0.0}
    found = compare("predict", crystals[1], [lj, half], out=tmp_path / "two")
    first, second = (table["energy_eV"] for table in found.by_model.values())
    assert found.spread["energy_eV"] == pytest.approx(abs(first - second))
    assert second / first == pytest.approx(0.5, rel=0.02)  # the two switches differ beyond 7 Å
    rows = (tmp_path / "two" / "comparison.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("quantity,unit,lj-argon,")
    summary = json.loads((tmp_path / "two" / "summary.json").read_text(encoding="utf-8"))
    assert summary["results"]["spread"] == found.spread


def test_a_model_that_fails_is_named_and_the_other_answers(
    lj: LennardJones, sick: LennardJones, tmp_path: Path
) -> None:
    neon = Atoms("Ne2", [[0, 0, 0], [0, 0, 3.1]])
    found = compare("relax", neon, [sick, lj], out=tmp_path / "run", fmax=1e-3)
    assert list(found.failed) == ["lj-argon"]
    assert "not finite" in found.failed["lj-argon"]
    assert list(found.by_model) == ["lj-argon (2)"]
    assert not found.converged
    assert any("lj-argon failed" in warning for warning in found.warnings)


def test_a_comparison_wants_two_models_and_a_workflow(crystals: list[Atoms], lj: LennardJones) -> None:
    with pytest.raises(OptionError, match="needs two models or more"):
        compare("predict", crystals[0], [lj])
    with pytest.raises(OptionError, match="predict, relax, md"):
        compare("train", crystals[0], [lj, lj])

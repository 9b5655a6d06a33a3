"""Vacancies from features of perfect crystals: trained, saved, used, and refused where it makes no sense."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from atomml import load_model
from atomml.cli.main import main
from atomml.errors import FileFormatError, InputError, ModelError, StructureError
from atomml.model import Potential
from atomml.potentials.lennard_jones import LennardJones
from atomml.workflows import survey_vacancies, train_site_regressor
from atomml.workflows.defects.site_errors import from_composition, out_of_fold
from atomml.workflows.defects.site_labels import TrainingSites
from atomml.workflows.defects.vacancy_survey_run import LABEL
from atomml.workflows.inputs import given_model

HERE: dict[str, Any] = {"workers": 0}
METALS = ("Cu", "Ag", "Au", "Al", "Ni", "Pd", "Pt", "Pb")


@pytest.fixture(scope="module")
def chgnet() -> Potential:
    return load_model("chgnet-0.3.0")


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``sites.extxyz``: eight metals and four rocksalts, with made-up labels; one atom has none."""
    monkeypatch.chdir(tmp_path)
    frames = [bulk(symbol, cubic=True) for symbol in METALS]
    frames += [
        bulk(name, "rocksalt", a) for name, a in (("NaCl", 5.6), ("MgO", 4.2), ("LiF", 4.0), ("KBr", 6.6))
    ]
    for number, atoms in enumerate(frames):
        atoms.set_array(LABEL, np.where(atoms.numbers == atoms.numbers[0], 1.0 + 0.1 * number, 3.0))
    frames[0].arrays[LABEL][1] = np.nan
    write("sites.extxyz", frames)
    return "sites.extxyz"


def test_it_is_trained_saved_and_used(
    labelled: str, chgnet: Potential, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["property", "vacancies-train", labelled, "--out", "reg"]) == 0
    summary = json.loads(Path("reg/summary.json").read_text())
    assert summary["results"]["n_sites"] == 16
    assert summary["results"]["n_elements"] == 16
    assert summary["units"]["mae_new_element_eV"] == "eV"
    with Path("reg/predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    error = np.mean([abs(float(row["new_element_eV"]) - float(row["label_eV"])) for row in rows])
    assert error == pytest.approx(summary["results"]["mae_new_element_eV"], rel=1e-6)
    words = ["property", "vacancies", labelled, "--regressor", "reg/model.safetensors", "--workers", "0"]
    assert main([*words, "--out", "run"]) == 0
    found = survey_vacancies(labelled, chgnet, regressor="reg/model.safetensors", **HERE)
    assert len(found.rows) == 16
    assert {row["outside"] for row in found.rows} <= {True, False}
    assert all(row["interval_eV"] > 0 for row in found.rows)
    unknown = survey_vacancies(bulk("Ca", cubic=True), chgnet, regressor="reg/model.safetensors", **HERE)
    assert unknown.rows[0]["outside"]
    assert main(["models", "info", "reg/model.safetensors"]) == 0
    assert "site-regressor" in capsys.readouterr().out
    assert main(["property", "cards", "reg/model.safetensors"]) == 0
    card = capsys.readouterr().out
    digest = summary["inputs"][0]["sha256"]
    for word in (summary["model"]["sha256"], digest, "16 sites", "the composition left out", "## Limits"):
        assert word in card
    assert "Vacancies" in Path("run/report.html").read_text()
    assert "Elements left out" in Path("reg/report.html").read_text()


def test_a_crystal_larger_or_turned_gets_the_same_answer(labelled: str, chgnet: Potential) -> None:
    found = train_site_regressor(labelled, chgnet, out="reg")
    path = str(found.folder / found.model) if found.folder else ""
    atoms = bulk("MgO", "rocksalt", 4.2)
    large = atoms.repeat((2, 1, 1))
    large.rotate(40, (1, 2, 3), rotate_cell=True)
    one, other = (
        [
            row["vacancy_formation_energy_eV"]
            for row in survey_vacancies(a, chgnet, regressor=path, **HERE).rows
        ]
        for a in (atoms, large)
    )
    np.testing.assert_allclose(one, other, atol=2e-4)


def test_ground_states_are_asked_for_once_and_no_crystal_sees_its_company(chgnet: Potential) -> None:
    """Group by group a survey goes through its crystals; in any order and any groups it sees the same."""
    from atomml.workflows.defects.site_regression import site_features

    crystals = [bulk("MgO", "rocksalt", 4.2), bulk("NaCl", "rocksalt", 5.6), bulk("CaO", "rocksalt", 4.8)]
    batches: list[int] = []

    model, original = given_model(chgnet), chgnet.predict

    def counting(batch: Any, *args: Any, **more: Any) -> Any:
        """What the model answers."""
        batches.append(batch.n_graphs)
        return original(batch, *args, **more)

    chgnet.predict = counting  # type: ignore[method-assign]
    try:
        together = site_features(crystals, model)
        assert sum(batches) == 3 + 5  # Ca, Cl, Mg, Na, O
        batches.clear()
        alone = [site_features([one], model)[0] for one in reversed(crystals)][::-1]
        assert sum(batches) == 3
    finally:
        del chgnet.predict
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    c = (together[0].shape[1] - 1) // 2
    np.testing.assert_array_equal(together[0][1, c : 2 * c], alone[2][1, c : 2 * c])  # of O, in any group


def test_an_element_that_is_left_out_is_not_seen() -> None:
    """Its labels change neither its prediction nor how smooth the fit is; those of others do."""
    rng = np.random.default_rng(0)
    elements = np.repeat(np.arange(3, 15), 6)
    labels = rng.normal(size=72)
    crystals = np.array([f"c{n // 2}" for n in range(72)])
    compositions = np.eye(119)[elements]
    sites = TrainingSites(rng.normal(size=(72, 5)), labels, elements, crystals, [{}] * 72, compositions)
    before = out_of_fold(sites, elements, 12, 1500)
    changed = replace(sites, labels=np.where(elements == 7, 50.0, labels))
    after = out_of_fold(changed, elements, 12, 1500)
    np.testing.assert_allclose(after[elements == 7], before[elements == 7], atol=1e-12)
    assert np.abs(after - before)[elements != 7].min() > 1e-3


def test_a_guess_from_composition_sees_element_and_shares_and_no_surroundings() -> None:
    """Its error at sites that are left out is that of the part of the label that follows from neither."""
    rng = np.random.default_rng(1)
    elements = np.repeat([3, 8, 11, 17], 60)
    own = {3: 1.0, 8: 4.0, 11: 0.5, 17: 2.0}
    hidden = rng.normal(size=240)
    labels = np.array([own[z] for z in elements]) + hidden
    crystals = np.array([f"c{n}" for n in range(240)])
    compositions = np.eye(119)[elements]
    sites = TrainingSites(hidden[:, None], labels, elements, crystals, [{}] * 240, compositions)
    plain = from_composition(sites)
    assert plain.features.shape == (240, 8)
    found = out_of_fold(plain, crystals, 5, 400)
    assert np.abs(found - labels).mean() == pytest.approx(np.abs(hidden).mean(), rel=0.05)
    unseen = out_of_fold(sites, crystals, 5, 400)  # and the features alone do not know the element
    assert np.abs(unseen - labels).mean() > 0.8


def test_what_cannot_be_learned_from_is_refused(
    labelled: str, chgnet: Potential, lj: LennardJones, tmp_path: Path
) -> None:
    with pytest.raises(FileFormatError, match="give 8 of two elements"):
        train_site_regressor("sites.extxyz@:3", chgnet)
    with pytest.raises(FileFormatError, match="0 sites"):
        train_site_regressor(labelled, chgnet, label="energies")
    argon = bulk("Ar", cubic=True)
    argon.set_array(LABEL, np.ones(4))
    with pytest.raises(ModelError, match="no features"):
        train_site_regressor(argon, lj)
    twice = bulk("Cu", cubic=True)
    twice.set_array(LABEL, np.arange(4.0))
    with pytest.raises(StructureError, match="equivalent"):
        train_site_regressor(twice, chgnet)
    wide = bulk("Cu", cubic=True)
    wide.set_array(LABEL, np.zeros((4, 3)))
    with pytest.raises(FileFormatError, match="a number for each atom"):
        train_site_regressor(wide, chgnet)
    found = train_site_regressor(labelled, chgnet, out="reg")
    path = str(found.folder / found.model) if found.folder else ""
    with pytest.raises(ModelError, match="another model"):
        survey_vacancies(labelled, load_model("chgnet-0.2.0"), regressor=path)
    from atomml.checkpoint import save_model

    save_model(chgnet, "potential.safetensors")
    with pytest.raises(InputError, match="not a regressor"):
        survey_vacancies(labelled, chgnet, regressor="potential.safetensors")


def test_what_is_wrong_with_one_crystal_is_a_row(labelled: str, chgnet: Potential) -> None:
    found = train_site_regressor(labelled, chgnet, out="reg")
    path = str(found.folder / found.model) if found.folder else ""
    bad = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    rows = survey_vacancies([bulk("Cu"), bad, bulk("Al")], chgnet, regressor=path, **HERE).rows
    assert [row["error"] is None for row in rows] == [True, False, True]

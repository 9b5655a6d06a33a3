"""Training, prediction and evaluation as a user does them, whole and interrupted, with bad input too."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from labelled_crystals import SHAPE, labelled_crystals

from atomml.cli.main import main
from atomml.errors import ModelError, OptionError, StructureError
from atomml.property.card import card_of, card_text
from atomml.property.ensemble import load_property_model
from atomml.property.targets import Target
from atomml.workflows.properties.property_evaluation import evaluate_property
from atomml.workflows.properties.property_prediction import predict_property
from atomml.workflows.properties.property_study import study_property
from atomml.workflows.properties.property_training import train_property
from atomml.workflows.properties.property_weights import family_weights

QUICK: dict[str, Any] = {"epochs": 30, "rounds": 150, "learning_rate": 0.01, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(crystals: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two families and three targets, one of them missing for a third of the structures, one a class."""
    out = tmp_path_factory.mktemp("trained") / "run"
    test = out.parent / "test.extxyz"
    write(test, labelled_crystals(30, seed=9) + labelled_crystals(80)[:4])
    return train_property(
        [str(crystals)],
        test=[str(test)],
        target="gap,positive:log,kind",
        classes="kind",
        family="fcnn,xgboost",
        calibration_fraction=0.25,
        shape=SHAPE,
        out=out,
        **QUICK,
    )


def test_a_training_learns_every_sort_of_target(trained: Any) -> None:
    scores = trained.scores["test"]
    assert scores["gap"]["r2"][0] > 0.7
    assert scores["log_positive"]["r2"][0] > 0.7
    assert scores["log_positive"]["n"] < scores["gap"]["n"]
    assert scores["kind"]["accuracy"][0] > 0.7
    assert all(0.6 < one["coverage"][0] <= 1.0 for one in scores.values())
    assert all(sum(weights) == pytest.approx(1.0) for weights in trained.weights.values())
    assert 1 <= trained.duplicates <= 4
    assert any("training structures" in warning for warning in trained.warnings)
    files = {path.name for path in trained.folder.iterdir()}
    assert files >= {"model.safetensors", "parity.csv", "importances.csv", "duplicates.csv", "report.html"}


def test_the_card_says_data_splits_errors_and_limits(trained: Any) -> None:
    card = card_of(trained.model)
    assert card["sha256"] == trained.summary["model"]["sha256"]
    assert card["splits"]["sizes"] == trained.structures
    text = card_text(card)
    for word in ("crystals.extxyz", card["sha256"], "log10 positive", "held out at random", "## Limits", "%"):
        assert word in text
    assert main(["property", "cards", trained.model, "--json"]) == 0


def test_predictions_are_rows_with_intervals_and_bad_structures_are_rows_with_reasons(
    trained: Any, tmp_path: Path
) -> None:
    unknown = bulk("Fe")
    broken = labelled_crystals(1)[0]
    broken.positions[1] = broken.positions[0]
    good = labelled_crystals(5, seed=3)
    write(tmp_path / "some.extxyz", [*good, unknown])
    (tmp_path / "bad.cif").write_text("rubbish")
    files = [str(tmp_path / "some.extxyz"), str(tmp_path / "bad.cif")]
    found = predict_property(files, trained.model, out=tmp_path / "run")
    assert (found.n_structures, found.n_failed, found.converged) == (5, 2, False)
    with (found.folder / "results.csv").open(newline="") as stream:  # type: ignore[operator]
        rows = list(csv.DictReader(stream))
    assert len(rows) == 7
    assert "Fe" in rows[5]["error"]
    assert "bad.cif" in rows[6]["error"]
    for row in rows[:5]:
        assert float(row["gap_low_90"]) < float(row["gap"]) < float(row["gap_high_90"])
        assert 0 < float(row["positive_low_90"]) < float(row["positive"])
        assert row["kind"] in row["kind_classes_90"].split()
        assert float(row["domain"]) >= 0
    assert (tmp_path / "run" / "results.parquet").exists()
    again = predict_property([good[0], broken], trained.model)
    assert again.n_failed == 1
    assert float(again.rows[0]["gap"]) == pytest.approx(
        float(rows[0]["gap"]), abs=0.05
    )  # 8 digits in files: a split of a tree may flip


def test_a_prediction_goes_on_after_its_last_batch_and_gives_the_same_table(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = tmp_path / "some.extxyz"
    write(structures, labelled_crystals(12, seed=4))
    whole = predict_property(str(structures), trained.model, out=tmp_path / "whole", batch=4)
    from atomml.property.ensemble import PropertyEnsemble

    original, calls = PropertyEnsemble.answer, []

    def killed(self: Any, inputs: Any) -> Any:
        """The process dies in the third batch."""
        calls.append(len(inputs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(PropertyEnsemble, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_property(str(structures), trained.model, out=tmp_path / "cut", batch=4)
    monkeypatch.undo()
    cut = predict_property(str(structures), trained.model, out=tmp_path / "cut", batch=4, resume=True)
    assert cut.n_structures == whole.n_structures == 12
    assert (tmp_path / "cut/results.csv").read_bytes() == (tmp_path / "whole/results.csv").read_bytes()


def test_an_evaluation_names_what_training_saw(trained: Any, crystals: Path) -> None:
    found = evaluate_property(trained.model, [str(crystals)])
    assert found.n_known >= trained.structures["train"]
    assert found.scores_new["gap"]["n"] == found.n_structures - found.n_known
    with pytest.raises(StructureError, match="labelled with"):
        evaluate_property(trained.model, [bulk("NaCl", "rocksalt", 5.6)])


def test_labels_may_stand_in_a_table_beside_files(tmp_path: Path) -> None:
    lines = ["name,gap"]
    for number, atoms in enumerate(labelled_crystals(24)):
        write(tmp_path / f"c{number}.cif", atoms)
        lines.append(f"c{number},{atoms.info['gap']}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = train_property(
        [str(tmp_path / "*.cif")],
        target="gap",
        family="cgcnn",
        labels=str(tmp_path / "labels.csv"),
        shape=SHAPE,
        out=tmp_path / "run",
        **{**QUICK, "epochs": 2},
    )
    assert sum(found.structures.values()) == 24
    assert any("too few" in warning for warning in found.warnings)  # four calibration structures


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cgcnn", "xgboost"])
def test_a_killed_training_goes_on_to_the_same_bits(crystals: Path, tmp_path: Path, family: str) -> None:
    """Killed in the middle: what each member's folder held then is all that the second run has."""
    import subprocess
    import sys

    given = {"target": "gap", "family": family, "epochs": 8, "rounds": 220, "save_every": 1, "device": "cpu"}
    given |= {"patience_rounds": 300}
    whole = train_property([str(crystals)], shape=SHAPE, out=tmp_path / "whole", **given)
    script = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from labelled_crystals import SHAPE\n"
        "from atomml import checkpoint\n"
        "from atomml.train import resume\n"
        "import atomml.workflows.properties.property_boosting as boosting, atomml.train.trainer as trainer\n"
        "from atomml.workflows.properties.property_training import train_property\n"
        "counted = []\n"
        "def dying(save):\n"
        "    def call(*a, **k):\n"
        "        found = save(*a, **k)\n"
        "        counted.append(1)\n"
        "        if len(counted) == 3: os.kill(os.getpid(), 9)\n"
        "        return found\n"
        "    return call\n"
        "boosting.save_state = dying(boosting.save_state)\n"
        "trainer.save_training = dying(trainer.save_training)\n"
        f"train_property([{str(crystals)!r}], shape=SHAPE, out={str(tmp_path / 'cut')!r}, **{given!r})\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300)
    assert killed.returncode == -9, killed.stderr.decode()[-500:]
    assert not (tmp_path / "cut/model.safetensors").exists()
    cut = train_property([str(crystals)], shape=SHAPE, out=tmp_path / "cut", resume=True, **given)
    assert cut.summary["model"]["sha256"] == whole.summary["model"]["sha256"]
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_learned_features_of_a_potential_make_a_file_that_answers_alone(tmp_path: Path) -> None:
    data = labelled_crystals(40)
    write(tmp_path / "few.extxyz", data)
    found = train_property(
        tmp_path / "few.extxyz",
        target="gap",
        family="fcnn",
        descriptors="chgnet-0.3.0",
        shape=SHAPE,
        out=tmp_path / "run",
        **{**QUICK, "epochs": 20},
    )
    model = load_property_model(found.model)
    names = model.members[0].describer.names()  # type: ignore[union-attr, operator]
    assert names[0] == "chgnet-0.3.0 mean 0"
    assert found.scores["calibration"]["gap"]["n"] == 6
    assert len(predict_property(data[:3], found.model).rows) == 3


@pytest.mark.slow
def test_a_study_compares_families_on_the_same_folds(tmp_path: Path) -> None:
    given: dict[str, Any] = {"target": "gap", "family": "fcnn,xgboost", "folds": 3, "shape": SHAPE, **QUICK}
    given |= {"epochs": 15, "rounds": 50, "calibration_fraction": 0.2}
    data = labelled_crystals(80)
    found = study_property(data, out=tmp_path / "run", **given)
    for scheme in ("random", "prototype"):
        table = found.table[scheme]
        assert set(table) == {"fcnn", "xgboost", "combined"}
        assert all(table[model]["gap"]["n"] == 80 for model in table)
    assert found.n_prototypes == 2
    assert found.table["random"]["combined"]["gap"]["r2"][0] > 0.6
    assert (
        found.table["random"]["combined"]["gap"]["mae"][0]
        < found.table["prototype"]["combined"]["gap"]["mae"][0]
    )
    with (tmp_path / "run/comparison.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6
    errors = {model: found.table["random"][model]["gap"]["rmse"][0] for model in found.table["random"]}
    # where folds are alike; what one of two prototypes says of the weights need not hold for the other
    assert errors["combined"] < 1.02 * min(errors["fcnn"], errors["xgboost"])
    again = study_property(data, out=tmp_path / "run", resume=True, **given)
    assert json.dumps(again.table) == json.dumps(found.table)
    with pytest.raises(OptionError, match="structures"):
        study_property(data[1:], out=tmp_path / "run", resume=True, **given)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"target": "gab"}, "did you mean 'gap'"),
        ({"target": "gap", "family": "cgcn"}, "cgcnn"),
        ({"target": ""}, "target"),
        ({"target": "gap", "family": "fcnn", "descriptors": "magpie,magpie"}, "once"),
        ({"target": "gap", "shape": {"cgcnn": {"width": 3}}}, "setting"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    crystals: Path, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises((OptionError, ModelError), match=word):
        train_property([str(crystals)], out=tmp_path / "run", **options)


def test_the_command_line_has_its_codes(trained: Any, tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "iron.extxyz", [bulk("Fe"), labelled_crystals(1)[0]])
    out = ["--out", str(tmp_path / "p"), "--quiet"]
    assert main(["property", "predict", str(tmp_path / "iron.extxyz"), "--model", trained.model, *out]) == 3
    assert main(["property", "predict", str(tmp_path / "iron.extxyz"), "--model", "chgnet"]) == 2
    assert "names a potential" in capsys.readouterr().err
    assert main(["property", "train", "x", "--target", "a", "--target", "b"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert np.isfinite(float((tmp_path / "p/results.csv").read_text().splitlines()[2].split(",")[5]))


def test_structures_may_come_from_python(tmp_path: Path) -> None:
    """They teach what the files teach that hold them, to the last bit; other labels are another run."""
    for name, part in (("train", labelled_crystals(30)), ("valid", labelled_crystals(10, seed=5))):
        write(tmp_path / f"{name}.extxyz", part)
    files = [tmp_path / "train.extxyz"], tmp_path / "valid.extxyz"
    data, valid = (read(tmp_path / f"{name}.extxyz", ":") for name in ("train", "valid"))
    given: dict[str, Any] = {"target": "gap", "shape": SHAPE, **QUICK, "epochs": 2, "rounds": 60}
    for family in ("cgcnn", "xgboost"):
        settings: dict[str, Any] = {**given, "family": family, "descriptors": "structure", "test": valid[5:]}
        found = train_property(data, valid[:5], out=tmp_path / family, **settings)
        same = train_property(files[0], f"{files[1]}@:5", out=tmp_path / f"{family}-files", **settings)
        assert found.structures == {"train": 26, "valid": 5, "calibration": 4, "test": 5}
        assert found.scores == same.scores
        assert "30 structures given in Python" in card_text(card_of(found.model))
    data[0].info["gap"] += 1.0
    with pytest.raises(OptionError, match="train"):
        train_property(data, valid[:5], out=tmp_path / "xgboost", resume=True, **settings)
    with pytest.raises(OptionError, match="needs structures"):
        train_property([], **given)
    with pytest.raises(StructureError, match="is not a structure"):
        train_property([3], **given)


def test_weights_of_families_are_those_that_fit_best() -> None:
    """One that is right gets all, one that is noise nothing; two with errors of their own share."""
    rng = np.random.default_rng(0)
    labels = rng.normal(5.0, 2.0, 4000)
    noise = rng.normal(size=(3, 4000))
    target = Target("x")
    alone = family_weights(np.stack([labels, noise[0]]), labels, target, 2)
    np.testing.assert_allclose(alone, [1.0, 0.0], atol=1e-3)
    members = np.stack(
        [labels + noise[0], labels + noise[1], labels + 2.0 * noise[2], labels + 2.0 * noise[2]]
    )
    shares = family_weights(members[[0, 2]], labels, target, 2)  # errors of 1 and 2: weights as 4 to 1
    np.testing.assert_allclose(shares, [0.8, 0.2], atol=0.03)
    shares = family_weights(members, labels, target, 2)  # the mean of two members errs by the root of a half
    np.testing.assert_allclose(shares, [8 / 9, 1 / 9], atol=0.03)
    few = np.where(np.arange(4000) < 5, labels, np.nan)
    np.testing.assert_allclose(family_weights(members[[0, 2]], few, target, 2), [0.5, 0.5])
    places = (labels > 5.0).astype(float)
    right = np.eye(2)[places.astype(int)]
    classes = Target("c", classes=("a", "b"))
    np.testing.assert_allclose(
        family_weights(np.stack([right, right[::-1]]), places, classes, 2), [1.0, 0.0], atol=0.05
    )

"""``atomml train`` and ``atomml finetune`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.io import read

from atomml.cli.main import main
from atomml.registry import load_model


def write_config(path: Path, data: Path, **more: Any) -> Path:
    shape = {"n_channels": 8, "n_radial": 5, "n_angular": 5, "n_layers": 2, "readout_widths": [8]}
    content = {
        "model": {"family": "chgnet", "cutoff": 4.0, "bond_cutoff": 3.0, **shape},
        "train": [str(data)],
        "epochs": 2,
        "batch_size": 4,
        "device": "cpu",
        "precision": "float64",
        **more,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_train_from_a_configuration(
    crystals_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flags stand over the file; the model knows its data's elements; one seed, one set of weights."""
    config = write_config(tmp_path / "c.yaml", crystals_file, seed=3)
    digests = []
    for name in ("a", "b"):
        out = tmp_path / name
        assert main(["train", str(config), "--out", str(out), "--epochs", "1", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["command"] == "train"
        assert summary["results"]["steps"] == 3
        digests.append(summary["model"]["sha256"])
    assert digests[0] == digests[1]
    model = load_model(tmp_path / "a" / "model.safetensors")
    assert model.info.elements == (13, 29)
    assert "9 structures of Al Cu" in model.info.training_data
    page = (tmp_path / "a" / "report.html").read_text()
    for words in ("Parity, validation set: forces", "Error by epoch: energy", "Structures and their labels"):
        assert words in page
    text = (tmp_path / "a" / "model.safetensors").read_bytes()[:20000].decode("latin-1")
    assert str(tmp_path) not in text, "checkpoints hold no path"


def test_finetune_with_replay_and_every_file_of_the_folder(
    finetune_words: list[str], crystals_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = [*finetune_words, "--test", str(crystals_file)]
    words += ["--replay", str(crystals_file), "--method", "replay", "--epochs", "1", "--out", str(out)]
    words += ["--device", "cpu", "--precision", "float64", "--tensorboard"]
    assert main([*words, "--quiet"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["results"]["n_replayed"] == 8
    assert summary["results"]["labels"]["replay"]["stress"] == 8, "the model's own labels"
    assert summary["model"]["parent"]["name"] == "tiny"
    assert summary["model"]["name"] == "tiny-finetuned"
    assert any("stand in the training set too" in warning for warning in summary["warnings"])
    assert list((out / "tensorboard").iterdir())
    # what the summary says of the test set is what the written model gives
    model = load_model(summary["results"]["model"], dtype="float64")
    from atomml import AtomMLCalculator

    errors = []
    for atoms in read(crystals_file, ":"):
        label = atoms.arrays["REF_forces"]
        atoms.calc = AtomMLCalculator(model)
        errors.append(np.abs(atoms.get_forces() - label).ravel())
    mae = 1000 * np.concatenate(errors).mean()
    assert summary["results"]["test"]["test_forces_mae_meV_per_A"] == pytest.approx(mae, rel=1e-6)
    capsys.readouterr()
    assert main([*words, "--quiet"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_dry_run_writes_nothing(
    finetune_words: list[str],
    crystals_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*finetune_words, "--method", "frozen"]
    assert main([*words, "--device", "cpu", "--precision", "float64", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0 < plan["weights_that_learn"] < plan["weights"]
    assert plan["steps"] == 100 * plan["steps_per_epoch"] == 300
    assert plan["sets"]["training"]["structures"] == 9
    config = write_config(tmp_path / "c.yaml", crystals_file)
    assert main(["train", str(config), "--dry-run"]) == 0
    assert "nothing is written" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train"], "configuration"),
        (["finetune"], "--train"),
        (["finetune", "--train", "missing.xyz"], "missing.xyz"),
        (["finetune", "--train", "x.xyz", "--lora-rank", "0"], "lora_rank"),
        (["finetune", "--train", "x.xyz", "--energy-weight", "-3"], "energy_weight"),
        (["finetune", "--train", "x.xyz", "--epochs", "0"], "epochs"),
        (["finetune", "--train", "x.xyz", "--model", "chgnet-0.3.0,chgnet-0.2.0"], "train its members"),
        (
            [
                "finetune",
                "--train",
                "x.xyz",
                "--model",
                "lj-argon",
                "--patience",
                "3",
                "--valid-fraction",
                "0",
            ],
            "--patience go by validations",
        ),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    words: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1]
    assert list(tmp_path.iterdir()) == []


def test_what_was_added_to_reference_energies_is_printed(
    finetune_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*finetune_words, "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    added = summary["results"]["reference_shifts"]
    told = capsys.readouterr().out
    assert f"added to reference energies: Al {added['Al']:+.4f}, Cu {added['Cu']:+.4f} eV/atom" in told
    assert any("within its warm-up of 20" in warning for warning in summary["warnings"])


def test_a_dry_run_looks_for_isolated_atoms_and_for_heads(
    finetune_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*finetune_words, "--dry-run"]
    for more, says in (
        (["--references", "isolated"], "no isolated atom of Al, Cu"),
        (["--head-shares", "water=1"], "head_shares names heads, and the files name none"),
    ):
        assert main([*words, *more]) == 2
        assert says in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from atomml.errors import MissingExtraError
    from atomml.train.processes import Processes

    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    with pytest.raises(MissingExtraError, match=r"atomml\[train\]"):
        Processes("cpu")

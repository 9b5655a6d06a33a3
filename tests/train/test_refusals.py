"""What a training refuses before it leaves anything, what it says aloud, and what it will not go on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from test_heads import fresh

from atomml.checkpoint import load_model_file, save_model
from atomml.cli.main import main
from atomml.errors import FileFormatError, InputError, OptionError
from atomml.model import Potential
from atomml.registry import load_model, model_card
from atomml.train.low_rank import adaptable
from atomml.workflows import evaluate, finetune
from atomml.workflows.trainings.fine_tuning import FineTuneOptions, check_method

FEW: dict[str, Any] = {"epochs": 1, "precision": "float64", "device": "cpu", "warmup": 0}


@pytest.fixture
def three_heads(tmp_path: Path) -> Path:
    """A MACE of three heads, none of which answers."""
    file = tmp_path / "three.safetensors"
    save_model(fresh("mace", heads=["a", "b", "c"], head=None), file)
    return file


def changed(source: Path, target: Path) -> None:
    """A copy of a file, one energy of which is 10 meV higher."""
    frames = read(source, ":")
    frames[0].info["REF_energy"] += 0.01
    write(target, frames, format="extxyz")


@pytest.mark.parametrize("role", ["train", "valid", "replay", "model"])
def test_a_resumed_training_finds_what_it_began_with_or_stops(
    role: str, tiny_file: Path, tiny: Callable[..., Potential], crystals_file: Path, tmp_path: Path
) -> None:
    """Other data, or weights, would end as a mixture of two trainings under the name of one."""
    files = {name: tmp_path / f"{name}.extxyz" for name in ("train", "valid", "replay")}
    for file in files.values():
        file.write_bytes(crystals_file.read_bytes())
    model = tmp_path / "parent.safetensors"
    model.write_bytes(tiny_file.read_bytes())
    given: dict[str, Any] = {"out": tmp_path / "run", "method": "replay", "replay": (str(files["replay"]),)}
    given |= FEW | {"drift_energy": 1e6, "drift_forces": 1e6}
    finetune(model, files["train"], files["valid"], **given)
    kept = (tmp_path / "run" / "restart.safetensors").read_bytes()
    finetune(model, files["train"], files["valid"], resume=True, **given)
    if role == "model":
        save_model(tiny(5), model)
    elif role == "replay":
        frames = read(crystals_file, ":")
        frames[0].rattle(0.01, seed=1)
        write(files[role], frames, format="extxyz")
    else:
        changed(crystals_file, files[role])
    with pytest.raises(FileFormatError, match="changed since the training in"):
        finetune(model, files["train"], files["valid"], resume=True, **given)
    assert (tmp_path / "run" / "restart.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("three", {}, "MODEL@HEAD"),
        ("three", {"references": "keep"}, "MODEL@HEAD"),
        ("three", {"method": "replay", "head": "a"}, "kept by replay"),
        ("tiny", {"references": "isolated"}, "no isolated atom of Al, Cu"),
        ("tiny", {"method": "replay"}, "Nothing can be replayed"),
        ("tiny", {"method": "replay", "replay": ("gone.extxyz",)}, "gone.extxyz"),
    ],
)
def test_what_cannot_be_done_leaves_no_folder(
    model: str,
    options: dict[str, Any],
    says: str,
    three_heads: Path,
    tiny_file: Path,
    crystals_file: Path,
    tmp_path: Path,
) -> None:
    """A second call with what was missing would else be refused for the folder that the first one left."""
    told = dict(options)
    head = told.pop("head", "")
    train = f"{head}={crystals_file}" if head else crystals_file
    with pytest.raises(InputError, match=says):
        finetune(three_heads if model == "three" else tiny_file, train, out=tmp_path / "run", **FEW, **told)
    assert not (tmp_path / "run").exists()


def test_low_rank_changes_need_linear_maps(tmp_path: Path) -> None:
    argon = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])
    argon.info["energy"] = -0.01
    write(tmp_path / "argon.extxyz", [argon] * 3, format="extxyz")
    with pytest.raises(OptionError, match="no linear maps"):
        adaptable(load_model("lj-argon"))
    with pytest.raises(InputError):
        finetune("lj-argon", tmp_path / "argon.extxyz", out=tmp_path / "run", method="lora", **FEW)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "replay", "replay_labels": "file"}, "name them with --replay"),
        ({"method": "replay", "replay": ("old.xyz",), "replay_size": 16}, "leave one out"),
    ],
)
def test_options_of_replay_that_would_say_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        check_method(FineTuneOptions(**options))


def test_heads_that_are_not_held_are_named_whatever_learns(
    three_heads: Path, crystals_file: Path, tmp_path: Path
) -> None:
    """An old head that learns moves the others too, and replay holds one of them."""
    found = finetune(three_heads, f"a={crystals_file}", out=tmp_path / "one", **FEW)
    assert any("The heads b, c are not held while a learns" in said for said in found.warnings)
    found = finetune(
        f"{three_heads}@b",
        f"a={crystals_file}",
        out=tmp_path / "two",
        method="replay",
        replay=(str(crystals_file),),
        **FEW,
    )
    assert any("The head c is not held while a learns" in said for said in found.warnings)


def test_reference_energies_that_are_kept_are_said_and_errors_on_the_test_set_too(
    finetune_words: list[str],
    tiny_file: Path,
    crystals_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = [*finetune_words, "--test", str(crystals_file), "--references", "keep", "--epochs", "1"]
    call += ["--precision", "float64", "--out", str(tmp_path / "run")]
    logging.getLogger("atomml").setLevel(logging.INFO)
    assert main(call) == 0
    told = capsys.readouterr()
    known = load_model(tiny_file, "float64").references()
    assert known is not None
    assert f"Reference energies are kept: Al {known[13]:+.4f}, Cu {known[29]:+.4f} eV/atom." in told.err
    result = json.loads((tmp_path / "run" / "summary.json").read_text())["results"]
    energy = result["test"]["test_energy_mae_meV_per_atom"]
    assert f"on the test set: energy {energy:.4g} meV/atom" in told.out


def test_the_chain_of_ancestors_holds_for_models_from_python_and_for_shipped_ones(
    tiny_file: Path, crystals_file: Path, tmp_path: Path
) -> None:
    """Name, digest and data of each generation, wherever the model was loaded from."""
    first = finetune(tiny_file, crystals_file, out=tmp_path / "one", **FEW)
    parent = load_model_file(first.model, "float64", "cpu")
    second = finetune(parent, crystals_file, out=tmp_path / "two", **FEW)
    record = load_model_file(second.model).training_record
    assert record is not None
    assert record["parent"]["sha256"] == parent.info.sha256
    oldest, own = record["ancestors"]
    assert oldest["sha256"] == load_model(tiny_file).info.sha256
    assert parent.training_record is not None
    assert own["data"] == parent.training_record["data"]
    assert own["files"] == record["files"]
    assert model_card("mace-tiny-organic")["training"]["ancestors"]


def test_an_evaluation_says_what_the_model_has_learned(
    tiny_file: Path, crystals_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole files by their digest: trained on, chosen by, by a child of it too; nothing of new ones."""
    frames = read(crystals_file, ":")
    train, valid, new = (tmp_path / f"{name}.extxyz" for name in ("train", "valid", "new"))
    for file, own in ((train, frames[:5]), (valid, frames[5:8]), (new, frames[8:])):
        write(file, own, format="extxyz")
    first = finetune(tiny_file, train, valid, out=tmp_path / "one", name="first", **FEW)
    second = finetune(first.model, new, valid_fraction=0.0, out=tmp_path / "two", name="second", **FEW)

    def told(file: Path, model: str) -> list[tuple[str, str]]:
        """Role and model of each match."""
        return [(line["role"], line["model"]) for line in evaluate(file, model).learned_from]

    assert told(train, first.model) == [("train", "first")]
    assert told(valid, first.model) == [("valid", "first")]
    assert told(new, first.model) == []
    assert told(new, second.model) == [("train", "second")]
    assert told(train, second.model) == [("train", "first")]
    assert told(train, f"{first.model},{tiny_file}") == [("train", "first")]
    copy = tmp_path / "renamed.extxyz"
    copy.write_bytes(train.read_bytes())
    out = tmp_path / "evaluated"
    assert main(["evaluate", str(copy), "--model", first.model, "--out", str(out), "--device", "cpu"]) == 0
    said = f"{copy}: first learned from these data"
    assert said in " ".join(capsys.readouterr().err.split())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["results"]["learned_from"] == [{"input": str(copy), "model": "first", "role": "train"}]
    assert any(said in warning for warning in summary["warnings"])


def test_structures_that_were_held_out_of_a_file_are_of_that_file(
    tiny_file: Path, crystals_file: Path, tmp_path: Path
) -> None:
    """Without --valid the training set is a part of the file, whose digest is no longer the file's."""
    found = finetune(tiny_file, crystals_file, out=tmp_path / "run", **FEW)
    assert [line["role"] for line in evaluate(crystals_file, found.model).learned_from] == ["train"]
    assert np.isfinite(found.energy_mae or np.nan)

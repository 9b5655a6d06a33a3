"""Models of one's own on the command line: written, verified, added, used, removed; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atomml.checkpoint import save_model
from atomml.cli.main import main
from atomml.potentials.lennard_jones import argon

LJ = ["--model", "lj-argon"]


@pytest.fixture
def mine(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine.safetensors`` in the current folder, and a home without models."""
    monkeypatch.setenv("ATOMML_HOME", str(here / "home"))
    save_model(argon(), here / "mine.safetensors", {})
    return here / "mine.safetensors"


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> object:
    """What a command prints as JSON."""
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def energy(folder: str) -> float:
    return float(json.loads((Path(folder) / "summary.json").read_text())["results"]["energy_eV"])


def test_a_model_is_added_used_like_any_other_and_removed(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = told(capsys, "models", "list")
    assert told(capsys, "models", "add", "mine.safetensors", "--name", "noble") == ["noble"]
    mine.unlink()  # what was added is a copy
    entries = told(capsys, "models", "list")
    assert isinstance(entries, list)
    assert isinstance(before, list)
    assert {entry["name"] for entry in entries} - {entry["name"] for entry in before} == {"noble"}
    main(["predict", "ar.extxyz", "--model", "noble", "--out", "a", "--quiet"])
    main(["predict", "ar.extxyz", *LJ, "--out", "b", "--quiet"])
    assert energy("a") == energy("b")
    assert told(capsys, "models", "remove", "noble") == ["noble"]
    assert told(capsys, "models", "list") == before
    assert main(["predict", "ar.extxyz", "--model", "noble"]) == 2
    assert "noble" in capsys.readouterr().err


def test_verify_gives_the_digest_of_a_whole_file_and_refuses_a_damaged_one(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = mine.name
    digest = told(capsys, "models", "verify", name)
    card = told(capsys, "models", "info", name)
    assert isinstance(digest, dict)
    assert isinstance(card, dict)
    assert len(digest[name]) == 64
    assert card["cutoff"] == 8.5
    data = bytearray(mine.read_bytes())
    data[-9] ^= 1
    mine.write_bytes(data)
    assert main(["models", "verify", name]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert len(error.strip().splitlines()) == 1


def test_info_of_one_is_a_card_and_of_several_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    one = told(capsys, "models", "info", "lj-argon")
    several = told(capsys, "models", "info", "lj-argon", "chgnet-0.3.0")
    assert isinstance(several, list)
    assert several[0] == one
    main(["models", "info", "lj-argon"])
    assert "8.5 Å" in capsys.readouterr().out


REFUSED = {
    "no model": (["models", "verify"], "needs a model"),
    "one name for two": (["models", "add", "a", "b", "--name", "c"], "--name names one model"),
    "nothing to convert to": (["convert", "chgnet", "0.3.0"], "--to NAME.safetensors"),
    "another ending": (["convert", "chgnet", "0.3.0", "--to", "x.pt"], "--to NAME.safetensors"),
    "something there": (
        ["convert", "chgnet", "0.3.0", "--to", "mine.safetensors"],
        "mine.safetensors exists",
    ),
    "nothing to import": (["data", "import"], "atomml data import needs paths: name files or folders."),
    "nothing to split": (["data", "split", "--to", "x"], "atomml data split needs a set"),
    "nothing to report": (["data", "report"], "atomml data report needs a set"),
    "nothing to label": (["data", "label", "--to", "x"], "atomml data label needs structures: name files."),
    "nowhere to import": (["data", "import", "ar.extxyz"], "--to NAME.lmdb"),
    "nowhere to split": (["data", "split", "ar.extxyz"], "--to FOLDER"),
    "no such subcommand": (["data", "imprt"], "did you mean 'import'?"),
    "no such flag": (["data", "split", "ar.extxyz", "--frctions", "1"], "there is no option --frctions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_2_and_says_what_is_missing(
    case: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, sentence = REFUSED[case]
    before = sorted(mine.parent.iterdir()), mine.read_bytes()
    assert main(argv) == 2
    assert sentence in capsys.readouterr().err
    assert (sorted(mine.parent.iterdir()), mine.read_bytes()) == before


def test_converted_weights_give_the_energy_of_the_published(here: Path) -> None:
    assert main(["convert", "chgnet", "0.3.0", "--to", "c.safetensors", "--quiet"]) == 0
    assert main(["convert", "chgnet", "0.3.0", "--to", "c.safetensors", "--quiet", "--overwrite"]) == 0
    for model, folder in (("c.safetensors", "a"), ("chgnet-0.3.0", "b")):
        main(["predict", "nacl.cif", "--model", model, "--out", folder, "--quiet", "--device", "cpu"])
    assert energy("a") == energy("b")


def test_the_doctor_finds_this_installation_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """Energy and both paths against stored numbers; a warning of versions does not make it bad."""
    found = told(capsys, "doctor")
    assert isinstance(found, dict)
    assert found["ok"] is True
    verdicts = {finding["what"]: finding["verdict"] for finding in found["findings"]}
    assert verdicts["chgnet-0.3.0 on NaCl"] == verdicts["fast and plain path"] == "ok"


def test_a_law_is_checked_alone_and_its_figure_is_within_what_is_allowed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    everything = told(capsys, "check", "lj-argon", "--quick")
    assert isinstance(everything, dict)
    assert everything["passed"] is True
    law = everything["results"][0]["name"].split("/")[0]
    alone = told(capsys, "check", "lj-argon", "--quick", "--only", law)
    assert isinstance(alone, dict)
    ours = [result["name"] for result in everything["results"] if result["name"].split("/")[0] == law]
    assert [result["name"] for result in alone["results"]] == ours
    assert all(result["value"] <= result["tolerance"] for result in everything["results"])
    main(["check", "lj-argon", "--quick", "--only", law, "--quiet"])
    assert capsys.readouterr().out == ""


def test_a_report_written_anew_is_the_same(here: Path) -> None:
    main(["relax", "ar.extxyz", *LJ, "--quiet"])
    report = here / "relax-ar" / "report.html"
    before = report.read_bytes()
    report.unlink()
    assert main(["report", "relax-ar", "--quiet"]) == 0
    assert report.read_bytes() == before

"""The contract of exit codes: 0, 1, 2, 3, and one sentence on stderr without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atomml.cli.main import main

LJ = ["--model", "lj-argon"]

WRONG = {
    "no such command": (["relx"], "did you mean 'relax'?"),
    "no such option": (["relax", "ar.extxyz", "--fmx", "1"], "did you mean '--fmax'?"),
    "no value": (["relax", "ar.extxyz", "--fmax"], "--fmax"),
    "no number": (["relax", "ar.extxyz", "--fmax", "abc"], "above 0"),
    "out of range": (["relax", "ar.extxyz", "--fmax", "-1e-3"], "above 0"),
    "no choice": (["relax", "ar.extxyz", "--cell", "fre"], "free, shape, volume, none"),
    "no structure": (["relax"], "needs a structure"),
    "no such file": (["predict", "nothing.cif"], "nothing.cif"),
    "empty pattern": (["predict", "*.vasp"], "holds no files"),
    "no such frame": (["relax", "many.extxyz@7"], "7"),
    "no such model": (["predict", "ar.extxyz", "--model", "chgnt"], "chgnet"),
    "unknown element": (["predict", "nacl.cif", *LJ], "atom 0 is Na"),
    "pressure without cell": (["relax", "ar.extxyz", *LJ, "--pressure", "1"], "--cell free"),
    "pressure at constant volume": (
        ["relax", "ar.extxyz", *LJ, "--cell", "shape", "--pressure", "1"],
        "volume that may change",
    ),
    "nothing selected": (["relax", "ar.extxyz", *LJ, "--fix", "z<-99"], "No atom"),
    "no selection": (["relax", "ar.extxyz", *LJ, "--fix", "z<<1"], "character 3"),
    "charge": (["predict", "ar.extxyz", *LJ, "--charge", "1"], "--allow-charge-mismatch"),
    "resume and overwrite": (["relax", "ar.extxyz", *LJ, "--resume", "--overwrite"], "exclude each other"),
    "no configuration": (["relax", "ar.extxyz", "--config", "none.yaml"], "none.yaml"),
    "malformed --set": (["relax", "ar.extxyz", "--set", "fmax"], "NAME=VALUE"),
    "one model to compare": (["compare", "relax", "ar.extxyz", *LJ], "two models"),
    "no such workflow": (["compare", "rlax", "ar.extxyz"], "did you mean 'relax'?"),
    "no such action": (["models", "lst"], "did you mean 'list'?"),
    "no run folder": (["report", "."], "not a run folder"),
    "unknown peer": (["convert", "mac", "x", "--to", "y.safetensors"], "chgnet"),
    "unknown law": (["check", "lj-argon", "--only", "gravity"], "gravity"),
    "several structures": (["md", "many.extxyz", *LJ], "@"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_2_and_one_sentence_and_leaves_nothing(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, hint = WRONG[case]
    before = sorted(here.iterdir())
    assert main(argv) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("atomml: ")
    assert lines[0].endswith((".", "?", ")"))
    assert hint in lines[0]
    assert sorted(here.iterdir()) == before


def test_done_is_0_and_not_converged_is_3_with_everything_written(here: Path) -> None:
    assert main(["relax", "ar.extxyz", *LJ, "--steps", "1", "--quiet"]) == 3
    summary = json.loads((here / "relax-ar" / "summary.json").read_text())
    assert summary["converged"] is False
    assert "Not converged after 1 steps" in summary["warnings"][0]
    assert main(["relax", "ar.extxyz", *LJ, "--steps", "100", "--quiet", "--resume"]) == 0
    assert json.loads((here / "relax-ar" / "summary.json").read_text())["converged"] is True


def test_a_run_that_fails_is_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two-body forces at 0.12 Å overflow nothing, but the temperature limit stops the run."""
    argv = ["md", "ar.extxyz", *LJ, "--ensemble", "nve", "--steps", "50", "--max-temperature", "1e-3"]
    assert main([*argv, "--quiet"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_an_unexpected_error_is_1_and_debug_shows_where(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own, put where a model is made."""

    def faulty(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("atomml.registry.load_model", faulty)
    argv = ["predict", "ar.extxyz", *LJ]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "--debug" in err
    assert main([*argv, "--debug", "--overwrite"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_one_bad_frame_among_many_is_named_or_skipped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("many.extxyz").read_text().splitlines()
    text[6 * 3 + 2] = "Ar nan 0 0"  # frame 3; six lines a frame, two of them before the atoms
    Path("bad.extxyz").write_text("\n".join(text) + "\n")
    assert main(["predict", "bad.extxyz", *LJ]) == 2
    err = capsys.readouterr().err
    assert "bad.extxyz" in err
    assert "3" in err
    assert not Path("predict-bad").exists()
    assert (
        main(["predict", "bad.extxyz", "many.extxyz", *LJ, "--on-error", "skip", "--out", "run", "--quiet"])
        == 3
    )
    rows = Path("run/results.csv").read_text().splitlines()
    assert json.loads(Path("run/summary.json").read_text())["results"]["n_failed"] >= 1
    assert sum(line.endswith(",") for line in rows[1:]) >= 8


def test_code_is_imported_only_when_the_command_line_says_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text("model: ase:ase.calculators.lj:LennardJones\nallow_code: true\n")
    assert main(["predict", "ar.extxyz", "--config", "c.yaml"]) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert main(["predict", "ar.extxyz", "--config", "c.yaml", "--allow-code", "--quiet"]) == 0


def test_json_prints_the_summary_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "ar.extxyz", *LJ, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("predict-ar/summary.json").read_text())


def test_quiet_says_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "ar.extxyz", *LJ, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""

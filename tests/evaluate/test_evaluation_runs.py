"""The run folder of ``evaluate``: files that read back, a kill that costs nothing, the command's contract."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from noble_gases import rattled

from atomml.cli.main import main
from atomml.data.entry import Entry
from atomml.data.structures import read_structures
from atomml.errors import FileFormatError, OptionError
from atomml.model import Potential
from atomml.run import summary_schema
from atomml.workflows import evaluate

FILES = ("predictions.extxyz", "errors.csv", "groups.csv")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_entries: list[Entry]) -> Path:
    """An empty current folder with ``data.extxyz``: 24 labelled frames whose forces are off by some meV/Å."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    frames = []
    for i, entry in enumerate(exact_entries):
        atoms, labels = entry.atoms.copy(), entry.labels
        assert labels.energy is not None
        assert labels.forces is not None
        off = 0.001 * np.random.default_rng(i).normal(size=labels.forces.shape)
        atoms.calc = SinglePointCalculator(
            atoms, energy=labels.energy - 0.01 * i, forces=labels.forces + off, stress=labels.stress
        )
        atoms.info["config_type"] = entry.group or "rest"
        frames.append(atoms)
    write(tmp_path / "data.extxyz", frames)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file by name."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_files_say_what_the_result_says(here: Path, lj: Potential) -> None:
    result = evaluate("data.extxyz", lj, out="run", baseline=lj, worst=3)
    summary = json.loads((here / "run/summary.json").read_text("utf-8"))
    jsonschema.validate(summary, summary_schema())
    assert summary["results"]["mae_energy_meV_per_atom"] == result.mae_energy
    assert summary["units"]["mae_forces_meV_per_A"] == "meV/Å"
    assert summary["units"]["element_shift_eV"] == "eV"
    assert summary["baseline"]["name"] == "lj-argon"
    assert summary["inputs"][0]["path"] == "data.extxyz"
    errors = rows(here / "run/errors.csv")
    assert [int(row["frame"]) for row in errors] == list(range(24))
    by_row = [abs(float(row["energy_error_meV_per_atom"])) for row in errors]
    assert np.mean(by_row) == pytest.approx(result.mae_energy)
    shifted = [abs(float(row["shifted_energy_error_meV_per_atom"])) for row in errors]
    assert np.mean(shifted) == pytest.approx(result.mae_shifted_energy)
    assert errors[3]["baseline_energy_error_meV_per_atom"] == errors[3]["energy_error_meV_per_atom"]
    worst = [one for one in result.worst if one["by"] == "energy"]
    assert [one["frame"] for one in worst] == np.argsort(shifted)[::-1][:3].tolist()
    groups = rows(here / "run/groups.csv")
    assert len(groups) == len(result.errors) + len(result.groups)
    assert {row["name"] for row in groups if row["kind"] == "group"} == {"hot", "cold", "rest"}


def test_predictions_read_back_with_labels_beside_them(here: Path, lj: Potential) -> None:
    evaluate("data.extxyz", lj, out="run", baseline=lj)
    ours = [frame.atoms for frame in read_structures(here / "run/predictions.extxyz")]
    for frames in (ours, read(here / "run/predictions.extxyz", ":")):
        originals = read(here / "data.extxyz", ":")
        assert len(frames) == len(originals)
        for i, (atoms, original) in enumerate(zip(frames, originals, strict=True)):
            assert atoms.info["frame"] == i
            assert atoms.info["group"] in ("hot", "cold", "rest")
            assert atoms.info["reference_energy"] == original.calc.results["energy"]
            np.testing.assert_array_equal(atoms.arrays["reference_forces"], original.calc.results["forces"])
            np.testing.assert_allclose(
                np.reshape(atoms.info["reference_stress"], (3, 3)), original.get_stress(voigt=False)
            )
            # the labels are the model's own with noise of 1 meV/Å, of which 6 meV/Å is 6 deviations
            assert np.abs(atoms.get_forces() - original.get_forces()).max() < 0.006
            assert atoms.info["baseline_energy"] == atoms.get_potential_energy()


def test_the_report_shows_the_plots_and_names_the_worst(here: Path, lj: Potential) -> None:
    evaluate("data.extxyz", lj, out="run", baseline=lj)
    page = (here / "run/report.html").read_text("utf-8")
    shown = re.findall(r"<h2>(.*?)</h2>", page)
    for title in (
        "Errors",
        "Compared with lj-argon",
        "Compared with a trivial predictor",
        "Fitted shifts of the elements",
        "Energy: predicted and labelled",
        "Forces: predicted and labelled",
        "Stress: predicted and labelled pressure",
        "Energy error",
        "Shifted energy error",
        "Force error",
        "Force error against size of the force",
        "Errors by element",
        "Errors by configuration type",
        "Largest errors of forces",
    ):
        assert title in shown, title
    assert shown.count("Errors") == 1
    assert "Groups" not in shown
    assert "data.extxyz" in page
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "MAE energy" in text


def test_a_finished_run_is_returned_and_another_option_is_refused(here: Path, lj: Potential) -> None:
    first = evaluate("data.extxyz", lj, out="run")
    again = evaluate("data.extxyz", lj, out="run", resume=True)
    assert again.results() == first.results()
    assert again.rows == first.rows
    with pytest.raises(OptionError):
        evaluate("data.extxyz", lj, out="run")
    with pytest.raises(OptionError, match="worst"):
        evaluate("data.extxyz", lj, out="run", resume=True, worst=1)


KILLER = """
import os, signal
from pathlib import Path
from atomml.calculator import AtomMLCalculator
from atomml.registry import load_model

class Killer(AtomMLCalculator):
    def __init__(self):
        super().__init__(load_model("lj-argon", dtype="float64"))
        self.left = int(os.environ.get("LEFT", 1 << 30))

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if atoms.info.get("id") == 5:
            raise ValueError("five is not\\nallowed")
        super().calculate(atoms, properties, system_changes)
"""


@pytest.mark.parametrize("baseline", [False, True])
def test_a_killed_run_goes_on_to_the_same_files(here: Path, root: Path, baseline: bool) -> None:
    (here / "killer.py").write_text(KILLER)
    frames = [*read("data.extxyz", ":"), *read("data.extxyz", ":")]
    for i, atoms in enumerate(frames):
        atoms.info["id"] = i
    write("data.extxyz", frames)
    model = ["--model", "ase:killer:Killer"]
    words = ["evaluate", "data.extxyz", *model, *(["--baseline", "lj-argon"] if baseline else [])]
    paths = os.pathsep.join((str(here), str(root)))
    done = subprocess.run(
        [sys.executable, "-m", "atomml.cli.main", *words, "--out", "killed"],
        env={**os.environ, "LEFT": "40", "PYTHONPATH": paths},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert (here / "killed/predictions.extxyz").stat().st_size > 0
    assert not (here / "killed/summary.json").exists()
    with (here / "killed/predictions.extxyz").open("ab") as stream:  # a kill between a frame and its commit
        stream.write(b"8\nLattice")
    assert main([*words, "--out", "killed", "--resume", "--quiet"]) == 3
    assert main([*words, "--out", "whole", "--quiet"]) == 3
    for name in FILES:
        assert (here / "killed" / name).read_bytes() == (here / "whole" / name).read_bytes(), name
    summaries = [json.loads((here / run / "summary.json").read_text()) for run in ("killed", "whole")]
    assert summaries[0]["results"] == summaries[1]["results"]
    assert summaries[0]["warnings"] == summaries[1]["warnings"]
    (failed,) = summaries[0]["results"]["failed"]
    assert failed["frame"] == 5
    assert failed["error"].endswith("five is not allowed.")


def test_data_that_changed_meanwhile_is_refused(here: Path, lj: Potential) -> None:
    evaluate("data.extxyz", lj, out="run")
    (here / "run/summary.json").unlink()
    write("data.extxyz", read("data.extxyz", "1:"))
    with pytest.raises(FileFormatError, match="changed"):
        evaluate("data.extxyz", lj, out="run", resume=True)


def test_a_folder_without_its_predictions_is_refused(here: Path, lj: Potential) -> None:
    evaluate("data.extxyz", lj, out="run")
    (here / "run/summary.json").unlink()
    (here / "run/predictions.extxyz").unlink()
    with pytest.raises(FileFormatError, match="missing"):
        evaluate("data.extxyz", lj, out="run", resume=True)


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    code = main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_the_command_prints_its_table_and_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "data.extxyz", "--model", "lj-argon"]
    code, out, err = call(capsys, *words)
    assert code == 0, err
    assert "forces_meV_per_A" in out
    assert "{" not in out
    assert "written to evaluate-data/" in out
    code, out, err = call(
        capsys, *words, "--out", "b", "--json", "--baseline", "lj-argon", "--dtype", "float64"
    )
    assert code == 0, err
    summary: dict[str, Any] = json.loads(out)
    assert summary["results"]["errors"][0]["verdict"] == "not distinguishable"
    assert call(capsys, *words)[0] == 2  # the folder is there
    assert call(capsys, *words, "--overwrite", "--quiet")[1] == ""
    # a run folder's own configuration says it all
    assert call(capsys, "evaluate", "--config", "b/config.yaml", "--out", "c", "--quiet")[0] == 0
    assert (here / "c/groups.csv").read_bytes() == (here / "b/groups.csv").read_bytes()


def test_a_dry_run_counts_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "evaluate", "data.extxyz", "--model", "lj-argon", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["structures"] == 24
    assert [path.name for path in here.iterdir()] == ["data.extxyz"]


def test_what_is_wrong_with_the_input_is_code_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("bare.extxyz", rattled(0))
    write("config.extxyz", rattled(0))
    (here / "run.yaml").write_text("model: ase:ase.calculators.emt:EMT\nstructures: data.extxyz\n")
    (here / "base.yaml").write_text("baseline: ase:ase.calculators.emt:EMT\nstructures: data.extxyz\n")
    for words in (
        ["evaluate"],
        ["evaluate", "bare.extxyz", "--model", "lj-argon"],
        ["evaluate", "missing.extxyz", "--model", "lj-argon"],
        ["evaluate", "data.extxyz", "--model", "lj-argon", "--energy-key", "no_such_key"],
        ["evaluate", "data.extxyz", "--model", "no-such-model"],
        ["evaluate", "data.extxyz", "--model", "lj-argon", "--resample", "atoms"],
        ["evaluate", "--config", "run.yaml"],
        ["evaluate", "--config", "base.yaml", "--model", "lj-argon"],
        ["compare", "evaluate", "data.extxyz", "--model", "lj-argon", "--model", "lj-argon"],
    ):
        code, _, err = call(capsys, *words)
        assert code == 2, words
        assert err.count("\n") == 1, err

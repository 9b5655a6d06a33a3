"""``atomml data report``: a run folder, a page, and an exit code that a script can go by."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from jsonschema import validate

from atomml.cli.main import main
from atomml.data.structures import write_structures
from atomml.run import summary_schema
from atomml.testing.planted_sets import label_structures, wandering
from atomml.workflows import report_data


@pytest.fixture(scope="module")
def argon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``argon.extxyz``: a trajectory of 24 frames with energies, forces and stress."""
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = wandering(bulk("Ar", "fcc", a=5.3, cubic=True), 24, 0.06, 3)
    for entry in (entries := label_structures(frames, "lj-argon", "argon")):
        stress = entry.labels.stress
        assert stress is not None
        entry.atoms.calc = SinglePointCalculator(
            entry.atoms,
            energy=entry.labels.energy,
            forces=entry.labels.forces,
            stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        )
    path = tmp_path_factory.mktemp("argon") / "argon.extxyz"
    write_structures(path, [entry.atoms for entry in entries])
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sound_set_passes(argon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "report", str(argon), "--quiet"]) == 0
    folder = tmp_path / "data-report-argon"
    summary = json.loads((folder / "summary.json").read_text())
    validate(summary, summary_schema())
    results = summary["results"]
    assert (results["n_entries"], results["n_atoms"], results["n_errors"]) == (24, 96, 0)
    assert results["n_with_stress"] == 24
    assert summary["findings"] == []
    assert len(summary["inputs"][0]["sha256"]) == 64
    page = (folder / "report.html").read_text()
    assert "no errors found" in page
    assert page.count("<svg") >= 6
    rows = _rows(folder / "entries.csv")
    assert [int(row["index"]) for row in rows] == list(range(24))


def test_a_wrong_unit_is_exit_code_3_and_the_advice_mends_it(
    argon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = read(argon, ":")
    for atoms in frames:
        atoms.calc.results["stress"] = -1602.17662 * atoms.calc.results["stress"]
    write(tmp_path / "vasp.extxyz", frames)
    command = ["data", "report", str(tmp_path / "vasp.extxyz")]
    assert main([*command, "--out", str(tmp_path / "wrong")]) == 3
    out = capsys.readouterr().out
    assert "ERROR stress-in-kbar" in out
    assert "ERROR stress-sign" in out
    assert "--stress-unit kbar" in out
    assert "--stress-sign compression" in out
    mended = ["--stress-unit", "kbar", "--stress-sign", "compression", "--out", str(tmp_path / "right")]
    assert main([*command, *mended]) == 0
    rows = _rows(tmp_path / "wrong" / "findings.csv")
    assert {row["trap"] for row in rows} == {"stress-in-kbar", "stress-sign"}
    assert "vasp.extxyz, frame 0" in rows[0]["first_entries"]
    assert "errors found" in (tmp_path / "wrong" / "report.html").read_text()


def test_labels_under_another_key_are_found_in_the_file(argon: Path, tmp_path: Path) -> None:
    frames = read(argon, ":")
    for atoms in frames:
        atoms.info["my_energy"] = atoms.calc.results["energy"]
        atoms.arrays["my_forces"] = atoms.calc.results["forces"]
        atoms.calc = None
    write(tmp_path / "own.extxyz", frames)
    result = report_data(tmp_path / "own.extxyz")
    assert not result.converged
    found = {
        finding["advice"] for finding in result.findings if finding["trap"] == "labels-under-another-key"
    }
    assert any("--energy-key my_energy" in advice for advice in found)
    assert any("--forces-key my_forces" in advice for advice in found)
    keys = {"energy_key": "my_energy", "forces_key": "my_forces"}
    again = report_data(tmp_path / "own.extxyz", **keys)
    assert again.converged
    assert again.n_with_forces == 24


def test_structures_without_labels_are_described(tmp_path: Path) -> None:
    from ase.build import bulk

    write(tmp_path / "bare.extxyz", [bulk("NaCl", "rocksalt", a=5.6 + 0.1 * k, cubic=True) for k in range(3)])
    result = report_data(tmp_path / "bare.extxyz", out=tmp_path / "run")
    assert result.converged
    assert (result.n_entries, result.n_with_energy, result.n_elements) == (3, 0, 2)


def test_a_report_drawn_anew_is_the_same(argon: Path, tmp_path: Path) -> None:
    report_data(argon, out=tmp_path / "run")
    page = tmp_path / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    assert page.read_bytes() == before


def test_what_was_sampled_is_said(argon: Path, tmp_path: Path) -> None:
    result = report_data(argon, out=tmp_path / "run", sample=12)
    assert any("12 of 24 entries" in warning for warning in result.warnings)
    assert np.isfinite(result.max_force or np.nan)


def test_a_full_folder_is_kept(argon: Path, tmp_path: Path) -> None:
    report_data(argon, out=tmp_path / "run")
    command = ["data", "report", str(argon), "--out", str(tmp_path / "run"), "--quiet"]
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    "words", [[], ["nothing.extxyz"], ["x.extxyz", "--sample", "2"], ["x", "--model", "gnome"]]
)
def test_wrong_input_is_exit_code_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "report", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""Moments in trajectories, oxidation states in summary and report: lithium manganese oxide by CHGNet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from atomml.cli.main import main
from atomml.data.structures import read_structures
from atomml.oxidation import oxidation_states
from atomml.workflows.dynamics.charge_states import read_states


def half_lithiated() -> Atoms:
    """LiMn2O4, the spinel's primitive cell: as many Mn3+ as Mn4+ (a = 8.25 Å, u = 0.2625, Fd-3m)."""
    from ase.spacegroup import crystal

    atoms = crystal(
        ["Li", "Mn", "O"],
        [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5), (0.2625, 0.2625, 0.2625)],
        spacegroup=227,
        setting=2,
        cellpar=[8.25, 8.25, 8.25, 90, 90, 90],
        primitive_cell=True,
    )
    atoms.info.clear()
    atoms.arrays.pop("spacegroup_kinds", None)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def spinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write("spinel.extxyz", half_lithiated())
    return "spinel.extxyz"


def check_ions(ions: dict[str, int]) -> None:
    """Two Li+, eight O2-, and the four Mn in between: 14 electrons less, whatever the model says."""
    charges = {"Li+": 1, "O2-": -2, "Mn2+": 2, "Mn3+": 3, "Mn4+": 4}
    assert ions["Li+"] == 2
    assert ions["O2-"] == 8
    assert sum(count for ion, count in ions.items() if ion.startswith("Mn")) == 4
    assert sum(charges[ion] * count for ion, count in ions.items()) == 0


def test_a_relaxation_writes_moments_and_states(spinel: str) -> None:
    assert main(["relax", spinel, "--fmax", "0.2", "--steps", "20", "--quiet", "--threads", "1"]) in (0, 3)
    folder = Path("relax-spinel")
    summary = json.loads((folder / "summary.json").read_text())
    check_ions(summary["results"]["ions"])
    frames = list(read_structures(folder / "trajectory.extxyz"))
    for frame in frames:
        moments = frame.atoms.calc.results["magmoms"]
        assert oxidation_states(frame.atoms, moments).charge == 0
    assert np.abs(frames[-1].atoms.calc.results["magmoms"][frames[-1].atoms.symbols == "Mn"]).min() > 2.5
    rows = list(csv.DictReader((folder / "oxidation_states.csv").read_text().splitlines()))
    assert sum(int(row["oxidation_state"]) for row in rows) == 0
    assert float(rows[3]["moment_muB"]) == pytest.approx(
        frames[-1].atoms.calc.results["magmoms"][3], abs=1e-6
    )
    page = (folder / "report.html").read_text()
    assert "Oxidation states" in page
    assert "Mn3+" in page


def test_dynamics_counts_ions_over_time(spinel: str) -> None:
    words = ["md", spinel, "--steps", "20", "--every", "5", "--temperature", "600", "--rdf-cutoff", "0"]
    assert main([*words, "--quiet", "--threads", "1"]) == 0
    folder = Path("md-spinel")
    check_ions(json.loads((folder / "summary.json").read_text())["results"]["ions"])
    rows = list(csv.DictReader((folder / "ions.csv").read_text().splitlines()))
    assert [float(row["time_fs"]) for row in rows] == [0, 5, 10, 15, 20]
    for row in rows:
        check_ions({ion: int(count) for ion, count in row.items() if ion != "time_fs" and count != "0"})
    assert "magmoms" in read(folder / "trajectory.extxyz").calc.results
    assert "Ions" in (folder / "report.html").read_text()


def test_doubts_are_said_and_metals_have_no_ions() -> None:
    atoms = half_lithiated()
    said: list[str] = []
    moments = np.where(atoms.symbols == "Mn", 3.0, 0.0)
    found = read_states(atoms, moments, said.append)
    assert found is not None
    assert found.balanced
    assert "outside its range" in said.pop()
    more = atoms + Atoms("O20", np.arange(60).reshape(20, 3))
    found = read_states(more, np.zeros(len(more)) + 3.0, said.append)
    assert found is not None
    assert not found.balanced
    assert "add up to" in said.pop()
    assert read_states(Atoms("Fe2", cell=[3, 3, 3], pbc=True), np.array([2.2, 2.2])) is None
    assert read_states(atoms, None) is None

"""Screens of many structures: no row is lost, none is done twice, whatever is wrong with one or is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from atomml.cli.catalogue import WORKFLOWS
from atomml.cli.main import main
from atomml.config import option_specs
from atomml.errors import InputError, OptionError
from atomml.manifest import DONE, read_manifest
from atomml.potentials.lennard_jones import LennardJones
from atomml.run import read_events
from atomml.workflows import OF_ONE_STRUCTURE, eos, relax, screen
from atomml.workflows.screens.screening import ScreenOptions

HERE: dict[str, Any] = {"workers": 0}


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``many.extxyz``: nine rattled crystals with an id, one of an element that no model here knows."""
    monkeypatch.chdir(tmp_path)
    found = []
    for number in range(9):
        atoms = (bulk("Ar", "fcc", a=5.3), bulk("Kr", "fcc", a=5.7, cubic=True))[number % 2]
        atoms.rattle(0.05, seed=number)
        atoms.info["id"] = f"mp-{number}"
        found.append(atoms)
    found[4] = bulk("Na")
    write("many.extxyz", found)
    return "many.extxyz"


def table(name: str = "run/results.csv") -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_row_is_what_the_structure_gives_alone(many: str, lj: LennardJones) -> None:
    found = screen("relax", many, lj, out="run", cell="free", fmax=1e-3)
    assert (found.n_structures, found.n_done, found.n_failed, found.converged) == (9, 8, 1, False)
    structures = {atoms.info["row"]: atoms for atoms in read("run/structures.extxyz", ":")}
    for number, (row, atoms) in enumerate(zip(table(), read(many, ":"), strict=True)):
        assert (row["input"], row["frame"], row["formula"]) == (many, str(number), str(atoms.symbols))
        if number == 4:
            assert "atom 0 is Na" in row["error"]
            assert row["energy_eV"] == row["converged"] == ""
            continue
        alone = relax(atoms, lj, cell="free", fmax=1e-3)
        assert row["id"] == f"mp-{number}"
        assert float(row["energy_eV"]) == pytest.approx(alone.energy, abs=1e-9)
        assert int(row["n_steps"]) == alone.n_steps
        assert row["converged"] == "True"
        np.testing.assert_allclose(structures[number].positions, alone.atoms.positions, atol=1e-6)


def test_predictions_in_groups_are_those_alone_and_bad_ones_spoil_nothing(
    many: str, sick: LennardJones
) -> None:
    """Neon makes the model fail in the middle of its batch; sodium is refused before."""
    write("neon.extxyz", bulk("Ne", "fcc", a=4.4))
    Path("broken.cif").write_text("data_x\nnothing")
    together = screen("predict", [many, "neon.extxyz", "broken.cif"], sick, batch=6)
    one_by_one = screen("predict", [many, "neon.extxyz", "broken.cif"], sick, batch=1)
    assert (together.n_done, together.n_failed) == (8, 3)
    assert "not finite" in str(together.rows[9]["error"])
    assert "malformed" in str(together.rows[10]["error"])
    for one, other in zip(together.rows, one_by_one.rows, strict=True):
        assert one.pop("energy_eV") == pytest.approx(other.pop("energy_eV"), abs=1e-12)
        assert set(one) == set(other)
        assert one["error"] == other["error"]


def test_any_workflow_of_a_structure_can_be_screened_by_workers(many: str) -> None:
    """In a process of its own, with an option of the workflow; one row against the function itself."""
    found = screen(
        "eos", many, "lj-argon", out="run", workers=1, batch=4, points=5, volume_range=0.04, relax="none"
    )
    assert found.n_done == 8
    atoms = read(many, "1")
    alone = eos(atoms, "lj-argon", points=5, volume_range=0.04, relax="none")
    assert found.rows[1]["bulk_modulus_GPa"] == pytest.approx(alone.bulk_modulus, rel=1e-9)
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["results"]["n_failed"] == 1
    assert summary["model"]["name"] == "lj-argon"
    assert summary["converged"] is False


def test_what_is_done_is_not_done_again_and_other_options_are_refused(many: str, lj: LennardJones) -> None:
    screen("relax", many, lj, out="run", **HERE)
    before = read_manifest("run/manifest.sqlite")
    again = screen("relax", many, lj, out="run", resume=True, where="energy_per_atom < -0.05", **HERE)
    assert [(row.id, row.attempt) for row in read_manifest("run/manifest.sqlite")] == [
        (row.id, row.attempt) for row in before
    ]
    chosen = [row for row in again.rows if row["error"] is None and row["energy_per_atom_eV"] < -0.05]
    assert again.selected == chosen
    assert len(table("run/selected.csv")) == again.n_selected == len(chosen)
    with pytest.raises(OptionError, match="fmax"):
        screen("relax", many, lj, out="run", resume=True, fmax=0.1, **HERE)
    with pytest.raises(OptionError, match="is not empty"):
        screen("relax", many, lj, out="run", **HERE)


def test_more_structures_may_come(many: str, lj: LennardJones) -> None:
    """What was done before is not done again; none of the new ones is left out."""
    first = screen("predict", many, lj, out="run", **HERE)
    write("more.extxyz", bulk("Kr", "fcc", a=5.6))
    second = screen("predict", [many, "more.extxyz"], lj, out="run", resume=True, **HERE)
    assert second.rows[:9] == first.rows
    assert second.rows[9]["energy_eV"] < 0
    events = [event for event in read_events("run") if event["event"] == "structure"]
    assert [event["id"] for event in events if event["of"] == 10] == ["more.extxyz@0"]


def test_a_column_that_there_is_not_costs_no_result(many: str, lj: LennardJones) -> None:
    """Names of columns are known at the end; then the rows are written and the command says so."""
    for wrong in ({"where": "hardness > 1"}, {"sort": "hardness"}):
        found = screen("predict", many, lj, out="run", resume=True, **wrong, **HERE)
        assert (found.n_done, found.n_selected, found.converged) == (8, 0, False)
        assert any("There is no column 'hardness'" in warning for warning in found.warnings)
        assert len(table()) == 9


def test_changed_structures_are_done_anew_and_no_others(many: str, lj: LennardJones) -> None:
    first = screen("predict", many, lj, out="run", **HERE)
    frames = read(many, ":")
    frames[2].cell[:] *= 1.01
    frames[3].positions[1] += [0.1, 0, 0]
    frames[5].numbers[0] = 18
    write(many, frames)
    second = screen("predict", many, lj, out="run", resume=True, **HERE)
    changed = [n for n, (a, b) in enumerate(zip(first.rows, second.rows, strict=True)) if a != b]
    assert changed == [2, 3, 5]


def test_shards_together_are_the_whole(many: str, lj: LennardJones) -> None:
    settings: dict[str, Any] = {"fmax": 1e-3, **HERE}
    screen("relax", many, lj, out="whole", **settings)
    parts = [screen("relax", many, lj, out="run", shard=f"{n}/3", **settings) for n in (1, 2)]
    gathered = screen("relax", many, lj, out="run", resume=True, merge=True, **settings)
    assert sum(part.n_structures for part in parts) + gathered.n_waiting == 9
    assert gathered.n_waiting > 0
    waiting = [row["error"] for row in gathered.rows if row["error"] is not None]
    assert waiting.count("No shard has done it yet.") == gathered.n_waiting
    screen("relax", many, lj, out="run", shard="3/3", **settings)
    gathered = screen("relax", many, lj, out="run", resume=True, merge=True, **settings)
    assert gathered.n_waiting == 0
    rows, whole = table(), table("whole/results.csv")
    for row, one in zip(rows, whole, strict=True):
        assert float(row.pop("energy_eV") or 0) == pytest.approx(float(one.pop("energy_eV") or 0), abs=1e-9)
        assert (row["input"], row["frame"], row["error"]) == (one["input"], one["frame"], one["error"])


def test_a_later_call_does_what_no_shard_has_done(many: str, lj: LennardJones) -> None:
    screen("predict", many, lj, out="run", shard="1/2", **HERE)
    kept = {row.id for row in read_manifest("run/shard-1-of-2/manifest.sqlite") if row.status == DONE}
    found = screen("predict", many, lj, out="run", resume=True, **HERE)
    assert found.n_done == 8
    assert 0 < len(kept) < 8
    with pytest.raises(OptionError, match="with batch_edges"):
        screen("predict", many, lj, out="run", shard="2/2", batch_edges=7, **HERE)


def test_of_a_shard_nothing_is_taken_whose_structure_has_changed(many: str, lj: LennardJones) -> None:
    for part in ("1/2", "2/2"):
        screen("predict", many, lj, out="run", shard=part, **HERE)
    frames = read(many, ":")
    for atoms in frames:
        atoms.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    write(many, frames)
    gathered = screen("predict", many, lj, out="run", resume=True, merge=True, **HERE)
    assert (gathered.n_done, gathered.n_waiting) == (0, 9)
    found = screen("predict", many, lj, out="run", resume=True, **HERE)
    assert found.n_done == 8
    write(many, [atoms * (2, 1, 1) for atoms in frames])  # of what the whole has done itself, neither
    gathered = screen("predict", many, lj, out="run", resume=True, merge=True, **HERE)
    assert (gathered.n_done, gathered.n_waiting) == (0, 9)
    write(many, frames)
    fresh = screen("predict", many, lj, **HERE)
    assert [row["energy_eV"] for row in found.rows] == [row["energy_eV"] for row in fresh.rows]


def test_a_folder_for_each_structure_if_wanted(many: str, lj: LennardJones) -> None:
    found = screen("relax", many, lj, out="run", folders=True, **HERE)
    folders = [Path("run", row["folder"]) for row in found.rows if row["error"] is None]
    assert len(folders) == 8
    assert all((folder / "report.html").exists() for folder in folders)


def test_wrong_input_is_refused_before_anything_is_made(many: str, lj: LennardJones) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("relaxe", {}, "relax"),
        ("compare", {}, "There is no workflow"),
        ("relax", {"fmaxx": 1}, "fmaxx"),
        ("relax", {"where": "energy >"}, "cannot be read"),
        ("relax", {"shard": "4/3"}, "i from 1 to N"),
        ("relax", {"shard": "1/3", "merge": True}, "one of the two"),
        ("relax", {"workers": 2}, "no worker can load it"),
    ]
    for workflow, options, sentence in wrong:
        with pytest.raises(InputError, match=sentence):
            screen(workflow, many, lj, out="run", **options)
    with pytest.raises(InputError, match="There is no structure"):
        screen("relax", [], lj, out="run")
    assert not Path("run/manifest.sqlite").exists()


def test_options_of_a_screen_and_of_its_workflows_have_unlike_names() -> None:
    for name in OF_ONE_STRUCTURE:
        assert not set(option_specs(ScreenOptions)) & set(WORKFLOWS[name].specs()), name


COUNTING = """
import os, signal, time
from ase.calculators.emt import EMT

class Counting(EMT):
    def calculate(self, atoms=None, properties=None, system_changes=()):
        time.sleep(0.02)
        with open(os.environ["MARKS"], "a") as stream:
            stream.write(f"{os.getpid()} {atoms.info['id']}\\n")
        super().calculate(atoms, properties, system_changes)
"""


class Killed:
    """A screen in a process of its own, of copper cells with an id, whose calculator leaves marks."""

    def __init__(self, here: Path, root: Path) -> None:
        self.marks = here / "marks"
        self.marks.touch()
        (here / "counting.py").write_text(COUNTING)
        frames = [bulk("Cu", "fcc", a=3.5 + 0.005 * n, cubic=True) for n in range(30)]
        for number, atoms in enumerate(frames):
            atoms.info["id"] = f"cu-{number}"
        write("copper.extxyz", frames)
        paths = os.pathsep.join((str(here), str(root)))
        self.environment = {**os.environ, "PYTHONPATH": paths, "MARKS": str(self.marks)}
        words = ["screen", "predict", "copper.extxyz", "--model", "ase:counting:Counting", "--quiet"]
        self.call = [sys.executable, "-m", "atomml.cli.main", *words, "--workers", "2", "--batch", "3"]

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.call, "--out", "run", *more], env=self.environment)

    def done(self) -> set[str]:
        """Ids that the manifest has done."""
        path = Path("run/manifest.sqlite")
        if not path.exists():
            return set()
        return {f"cu-{row.id.split('@')[1]}" for row in read_manifest(path) if row.status == DONE}

    def counts(self) -> Counter[str]:
        """How often each structure was begun."""
        return Counter(line.split()[1] for line in self.marks.read_text().splitlines() if " cu-" in line)

    def wait_for(self, marks: int) -> None:
        """Until so many marks are there."""
        deadline = time.monotonic() + 60
        while sum(self.counts().values()) < marks and time.monotonic() < deadline:
            time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_nothing_done_is_done_twice(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole run twice and a worker once, each by SIGKILL; EMT answers a structure in one call."""
    monkeypatch.chdir(tmp_path)
    job = Killed(tmp_path, root)
    for more, marks in (((), 8), (("--resume",), 16)):
        process = job.start(*more)
        job.wait_for(marks)
        process.kill()
        process.wait()
        time.sleep(0.3)  # its workers see that it has gone
        kept, counts = job.done(), job.counts()
    process = job.start("--resume")
    job.wait_for(20)
    worker = int(job.marks.read_text().splitlines()[-1].split()[0])
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert {name: job.counts()[name] for name in kept} == {name: counts[name] for name in kept}
    rows = table()
    assert [row["id"] for row in rows] == [f"cu-{n}" for n in range(30)]
    assert {row["error"] for row in rows} == {""}
    whole = screen("predict", "copper.extxyz", _emt())
    assert [float(row["energy_eV"]) for row in rows] == [row["energy_eV"] for row in whole.rows]


def _emt() -> Any:
    from ase.calculators.emt import EMT

    return EMT()


@pytest.mark.slow
def test_two_workers_of_parsl_do_the_same(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environment's programs on PATH, where Parsl looks for its ``interchange.py``."""
    pytest.importorskip("parsl")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = screen("predict", many, "lj-argon", executor="parsl", workers=2, batch=2)
    assert os.environ["PATH"] == "/usr/bin:/bin"
    here = screen("predict", many, "lj-argon", **HERE)
    for one, other in zip(found.rows, here.rows, strict=True):
        assert one["error"] == other["error"]
        assert one["energy_eV"] == pytest.approx(other["energy_eV"], abs=1e-9)


def test_the_parquet_table_is_the_csv_with_types(many: str, lj: LennardJones) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = screen("relax", many, lj, out="run", **HERE)
    read_back = parquet.read_table("run/results.parquet").to_pylist()
    assert read_back == found.rows
    assert list(read_back[0]) == list(table()[0])


def test_the_command_screens_with_chgnet_and_ranks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("none.extxyz", Atoms("He", cell=[3, 3, 3], pbc=True))
    words = ["screen", "relax", "cu.extxyz", "si.cif", "none.extxyz", "--fmax", "0.05", "--workers", "0"]
    words += ["--sort", "energy_per_atom", "--where", "converged and n_atoms > 3", "--out", "run"]
    assert main([*words, "--model", "chgnet-0.2.0"]) in (0, 3)
    shown = capsys.readouterr().out
    assert shown.index("Si8") < shown.index("Cu4")
    assert [row["formula"] for row in table("run/selected.csv")] == ["Si8", "Cu4"]
    page = Path("run/report.html").read_text()
    assert "Screen" in page
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page
    assert main(["screen", "relax"]) == 2
    assert main(["screen", "relax", "cu.extxyz", "--dry-run"]) == 0
    assert main(["screen", "--help"]) == 0

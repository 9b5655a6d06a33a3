"""``data label``: the same bits through workers, kills and shards; what fails is named and left out."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from atomml.cli.main import main
from atomml.data.dataset import open_dataset
from atomml.data.label import engine_of, label
from atomml.data.store import StoreDataset
from atomml.data.structures import read_structures, write_structures
from atomml.errors import InputError, LabelError, OptionError, RunFailedError
from atomml.manifest import read_manifest
from atomml.run import read_events
from atomml.workflows import label_data

pytest.importorskip("pyscf")
pytest.importorskip("tblite")


def write(name: str, structures: Atoms | list[Atoms]) -> None:
    """To the last bit, as ASE's own writer does not."""
    write_structures(Path(name), [structures] if isinstance(structures, Atoms) else structures)


@pytest.fixture(scope="module")
def thread() -> Iterator[Executor]:
    """One thread of this process: quick to start, where processes are not what a test is about."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def _waters(n: int) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    return frames


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ``water.extxyz`` (8 frames) and ``ar.extxyz`` (6 crystals)."""
    monkeypatch.chdir(tmp_path)
    write("water.extxyz", _waters(8))
    crystals = [bulk("Ar", "fcc", a=5.2 + 0.05 * i, cubic=True) for i in range(6)]
    for seed, atoms in enumerate(crystals):
        atoms.rattle(0.1, seed=seed)
    write("ar.extxyz", crystals)
    return tmp_path


def test_labels_stand_in_the_order_given_with_method_and_provenance(here: Path) -> None:
    result = label_data(["water.extxyz@5:", "water.extxyz@:2"], to="set.lmdb", method="gfn2", workers=2)
    method = engine_of("gfn2").method
    assert (result.n_structures, result.n_labelled, result.n_failed, result.converged) == (5, 5, 0, True)
    assert result.method == method
    entries = list(StoreDataset("set.lmdb"))
    assert [(entry.source, entry.frame) for entry in entries] == [
        ("water.extxyz", i) for i in (5, 6, 7, 0, 1)
    ]
    waters = [frame.atoms for frame in read_structures("water.extxyz")]
    for entry in entries:
        expected = label(waters[entry.frame], "gfn2")
        assert entry.method == method
        assert entry.labels.energy == expected.energy
        assert entry.labels.forces is not None
        assert expected.forces is not None
        assert entry.labels.forces.tobytes() == expected.forces.tobytes()


def test_any_number_of_workers_and_any_executor_give_the_same_bytes(here: Path, thread: Executor) -> None:
    label_data("water.extxyz", to="one.extxyz", method="hf/sto-3g", workers=1)
    label_data("water.extxyz", to="one.lmdb", method="hf/sto-3g", executor=thread)
    label_data("water.extxyz", to="two.extxyz", method="hf/sto-3g", workers=2)
    label_data("water.extxyz", to="two.lmdb", method="hf/sto-3g", workers=2)
    label_data("water.extxyz", to="thread.extxyz", method="hf/sto-3g", executor=thread)
    assert Path("one.extxyz").read_bytes() == Path("two.extxyz").read_bytes()
    assert Path("one.extxyz").read_bytes() == Path("thread.extxyz").read_bytes()
    assert StoreDataset("one.lmdb").digest == StoreDataset("two.lmdb").digest


def test_extended_xyz_reads_back_as_the_same_entries_as_a_store(here: Path, thread: Executor) -> None:
    frames = _waters(3)
    for n, atoms in enumerate(frames):
        atoms.info |= {"config_type": "dimer", "charge": 1, "spin": 1, "trajectory": "run", "id": n}
    write("ions.extxyz", frames)
    for to in ("set.lmdb", "set.extxyz"):
        label_data("ions.extxyz", to=to, method="gfn1", executor=thread)
    for a, b in zip(StoreDataset("set.lmdb"), open_dataset("set.extxyz"), strict=True):
        assert a.labels.energy == b.labels.energy
        assert (
            (a.group, a.trajectory, a.method)
            == (b.group, b.trajectory, b.method)
            == ("dimer", "run", a.method)
        )
        assert a.atoms.info["charge"] == b.atoms.info["charge"] == 1
        assert a.labels.energy == label(a.atoms, "gfn1").energy


def test_old_labels_are_replaced_and_do_not_stand_beside_the_new_ones(here: Path, thread: Executor) -> None:
    atoms = _waters(1)[0]
    atoms.info["REF_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.ones((3, 3))
    write("old.extxyz", atoms)
    label_data("old.extxyz", to="new.extxyz", method="gfn2", executor=thread)
    assert "REF" not in Path("new.extxyz").read_text()
    assert open_dataset("new.extxyz")[0].labels.energy == label(_waters(1)[0], "gfn2").energy


def test_a_model_labels_crystals_with_stress_for_replay(here: Path, thread: Executor) -> None:
    result = label_data("ar.extxyz", method="lj-argon", executor=thread)
    assert [entry.labels.names for entry in result.entries] == [("energy", "forces", "stress")] * 6
    assert result.folder is None
    assert all(entry.method.startswith("lj-argon sha256=") for entry in result.entries)


def test_charge_and_spin_of_the_options_are_computed_and_kept(here: Path, thread: Executor) -> None:
    result = label_data("water.extxyz@0", method="hf/sto-3g", charge=1, spin=1, executor=thread)
    atoms = _waters(1)[0]
    atoms.info |= {"charge": 1, "spin": 1}
    (entry,) = result.entries
    assert entry.labels.energy == label(atoms, "hf/sto-3g").energy
    assert entry.atoms.info["charge"] == 1


def test_molecules_in_a_box_are_refused_until_the_box_is_dropped(here: Path, thread: Executor) -> None:
    atoms = _waters(1)[0]
    atoms.set_cell([20, 20, 20])
    atoms.pbc = True
    write("box.extxyz", atoms)
    with pytest.raises(InputError, match="--drop-cell"):
        label_data("box.extxyz", method="hf/sto-3g", executor=thread)
    (entry,) = label_data("box.extxyz", method="hf/sto-3g", drop_cell=True, executor=thread).entries
    assert entry.labels.energy == label(_waters(1)[0], "hf/sto-3g").energy
    assert not entry.atoms.pbc.any()


def test_small_cells_at_the_gamma_point_are_warned_of(here: Path, thread: Executor) -> None:
    write("c.extxyz", bulk("C", "diamond", a=3.57, cubic=True))
    result = label_data("c.extxyz", method="gfn1", executor=thread)
    assert any("Γ point only" in warning for warning in result.warnings)
    assert not label_data("water.extxyz@0", method="gfn1", executor=thread).warnings


def _mixed() -> None:
    """Hydrogen atoms, whose SCF is done in one cycle, among waters, whose is not."""
    write("mixed.extxyz", [Atoms("H", info={"spin": 1}), *_waters(2), Atoms("H", info={"spin": 1})])


def test_what_does_not_converge_is_named_and_never_written(here: Path, thread: Executor) -> None:
    _mixed()
    options = {"method": "hf/sto-3g", "max_cycle": 1, "executor": thread}
    result = label_data("mixed.extxyz", to="set.extxyz", out="run", **options)
    assert (result.n_labelled, result.n_failed, result.converged) == (2, 2, False)
    assert [len(entry.atoms) for entry in open_dataset("set.extxyz")] == [1, 1]
    rows = list(csv.DictReader(Path("run/failed.csv").read_text().splitlines()))
    assert [row["structure"] for row in rows] == ["mixed.extxyz, frame 1", "mixed.extxyz, frame 2"]
    assert "did not converge in 1 cycles, nor with the second-order solver" in rows[0]["error"]
    assert result.summary["converged"] is False
    again = label_data("mixed.extxyz", to="set.extxyz", out="run", resume=True, **options)
    assert again.n_failed == 2  # known to fail, and not tried again until it is asked for
    assert len([e for e in read_events("run") if e["event"] == "label"]) == 4
    mended = options | {"max_cycle": 50, "redo_failed": True}
    assert label_data("mixed.extxyz", to="set.extxyz", out="run", resume=True, **mended).n_failed == 0
    assert len([e for e in read_events("run") if e["event"] == "label"]) == 6
    label_data("mixed.extxyz", to="unbroken.extxyz", method="hf/sto-3g", max_cycle=50, executor=thread)
    assert Path("set.extxyz").read_bytes() == Path("unbroken.extxyz").read_bytes()


def test_nothing_labelled_writes_no_set_and_fails(here: Path, thread: Executor) -> None:
    with pytest.raises(RunFailedError, match="No structure could be labelled"):
        label_data("water.extxyz@:2", to="set.extxyz", method="gfn2", max_cycle=1, executor=thread)
    assert not Path("set.extxyz").exists()
    assert issubclass(LabelError, RunFailedError)


def test_structures_that_the_method_cannot_take_stop_the_run_before_it_starts_or_are_skipped(
    here: Path,
    thread: Executor,
) -> None:
    write("odd.extxyz", [*_waters(1), Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])])
    with pytest.raises(InputError, match=r"odd.extxyz, frame 1: 9 electrons.*--on-error skip"):
        label_data("odd.extxyz", to="set.extxyz", method="gfn2", out="run")
    assert not Path("run").exists()
    result = label_data("odd.extxyz", to="set.extxyz", method="gfn2", on_error="skip", executor=thread)
    assert (result.n_labelled, result.n_failed) == (1, 1)
    assert result.failures[0]["structure"] == "odd.extxyz, frame 1"


def test_shards_together_hold_the_frames_of_the_whole(here: Path, thread: Executor) -> None:
    label_data("water.extxyz", to="set.extxyz", method="gfn2", executor=thread)
    names = []
    for index in (1, 2, 3):
        result = label_data(
            "water.extxyz", to="set.extxyz", method="gfn2", shard=f"{index}/3", executor=thread
        )
        if result.output is not None:
            names.append(result.output)
    assert "set-1-of-3.extxyz" in names

    def frames(name: str) -> list[str]:
        return re.findall(r"^3\n(?:.*\n){4}", Path(name).read_text(), flags=re.MULTILINE)

    assert sorted(frame for name in names for frame in frames(name)) == sorted(frames("set.extxyz"))
    assert len(frames("set.extxyz")) == 8


def test_an_existing_set_is_not_overwritten_unless_asked_for(here: Path) -> None:
    Path("set.extxyz").write_text("mine")
    with pytest.raises(OptionError, match=r"set\.extxyz exists"):
        label_data("water.extxyz", to="set.extxyz", method="gfn2")
    assert Path("set.extxyz").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "Say what to label with"),
        ({"method": "gfn2", "shard": "0/2"}, "i/N"),
        ({"method": "gfn2", "to": "set.npz"}, "entries are written to"),
        ({"method": "gfn2", "to": "no/set.lmdb"}, "no is no folder"),
        ({"method": "gfn2", "grid": 10}, "grid must be"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], sentence: str, here: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        label_data("water.extxyz", **options)  # type: ignore[arg-type]


def _children(parent: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def _labels_done(folder: str) -> int:
    return sum(event["event"] == "label" for event in read_events(folder))


COMMAND = ["data", "label", "many.extxyz", "--method", "hf/sto-3g", "--workers", "2", "--quiet"]
N_MANY = 60


def _start(*more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "atomml.cli.main", *COMMAND, *more]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_a_job_killed_with_9_goes_on_to_the_same_bytes_and_does_nothing_twice(here: Path) -> None:
    write("many.extxyz", _waters(N_MANY))
    assert main([*COMMAND, "--to", "unbroken.extxyz", "--out", "unbroken"]) == 0
    for target, number, code in (
        (5, signal.SIGKILL, -9),
        (20, signal.SIGINT, 130),
        (35, signal.SIGTERM, 143),
    ):
        more = ["--resume"] if Path("run").exists() else []
        with _start("--to", "set.extxyz", "--out", "run", *more) as process:
            while process.poll() is None and _labels_done("run") < target:
                time.sleep(0.005)
            workers = _children(process.pid)
            if number == signal.SIGINT:  # a terminal sends Ctrl-C to the whole group
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        assert process.returncode == code, err
        assert "Traceback" not in err
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert not Path("set.extxyz").exists()
    assert main([*COMMAND, "--to", "set.extxyz", "--out", "run", "--resume"]) == 0
    assert Path("set.extxyz").read_bytes() == Path("unbroken.extxyz").read_bytes()
    ids = [event["id"] for event in read_events("run") if event["event"] == "label"]
    assert len(set(ids)) == N_MANY
    assert len(ids) - N_MANY <= 1  # told after it is recorded: a kill between the two may tell it never
    assert {row.status for row in read_manifest("run/manifest.sqlite")} == {"done"}


@pytest.mark.slow
def test_workers_killed_with_9_cost_nothing(here: Path) -> None:
    write("many.extxyz", _waters(N_MANY))
    assert main([*COMMAND, "--to", "unbroken.extxyz", "--out", "unbroken"]) == 0
    killed = 0
    with _start("--to", "set.extxyz", "--out", "run", "--retries", "5") as process:
        while process.poll() is None:
            if killed < 3 and _labels_done("run") >= 5 + 10 * killed:
                for worker in _children(process.pid)[:1]:
                    os.kill(worker, signal.SIGKILL)
                    killed += 1
            time.sleep(0.005)
        assert process.returncode == 0, process.communicate()[1]
    assert killed == 3
    assert Path("set.extxyz").read_bytes() == Path("unbroken.extxyz").read_bytes()


def test_the_command_labels_says_what_failed_and_leaves_by_the_right_code(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _mixed()
    command = ["data", "label", "mixed.extxyz", "--method", "hf/sto-3g", "--workers", "1"]
    assert main([*command, "--dry-run"]) == 0
    assert "hf/sto-3g conv_tol=1e-09 pyscf=" in capsys.readouterr().out
    assert not Path("label-mixed").exists()
    assert main([*command, "--to", "set.lmdb"]) == 0
    assert "written to set.lmdb; the run is in label-mixed/" in capsys.readouterr().out
    assert main([*command, "--to", "set.lmdb", "--max-cycle", "1", "--overwrite", "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert summary["command"] == "data label"
    assert summary["results"]["n_failed"] == 2
    assert len(StoreDataset("set.lmdb")) == 2
    assert main([*command, "--to", "set.lmdb"]) == 2
    assert main([*command]) == 2
    assert main(["data", "label", "--method", "gfn2", "--to", "set.lmdb"]) == 2
    before = StoreDataset("set.lmdb").digest
    assert main(["data", "label", "--config", "label-mixed/config.yaml", "--overwrite", "--quiet"]) == 3
    assert StoreDataset("set.lmdb").digest == before
    failing = ["data", "label", "water.extxyz@0", "--method", "gfn2", "--max-cycle", "1", "--to", "x.lmdb"]
    assert main(failing) == 1
    assert "No structure could be labelled" in capsys.readouterr().err


def test_the_summary_follows_the_published_schema(here: Path, thread: Executor) -> None:
    import jsonschema

    from atomml.run import summary_schema

    result = label_data("water.extxyz", to="set.extxyz", out="run", method="gfn2", executor=thread)
    jsonschema.validate(result.summary, summary_schema())
    events = [event for event in read_events("run") if event["event"] == "label"]
    assert [event["step"] for event in events] == list(range(1, 9))
    assert "gfn2 accuracy=0.1" in Path("run/report.html").read_text()
    assert all(event["of"] == 8 and event["remaining_s"] >= 0 for event in events)


def test_help_imports_nothing_that_computes() -> None:
    code = (
        "import contextlib, io, sys\nfrom atomml.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    assert main(['data', 'label', '--help']) == 0\n"
        "heavy = ('torch', 'numpy', 'ase', 'pyscf', 'tblite', 'sqlite3', 'lmdb', 'yaml')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

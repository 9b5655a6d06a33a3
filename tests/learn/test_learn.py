"""The loop: what it leaves, that kills change nothing, that it stops for its reasons, and who may label."""

from __future__ import annotations

import hashlib
import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from atomml.checkpoint import save_model
from atomml.cli.main import main
from atomml.data.label import LabelSettings, engine_of
from atomml.errors import LabelError, MissingExtraError, ModelError, OptionError
from atomml.manifest import read_manifest
from atomml.potentials.mace import MACE
from atomml.registry import seeded_generator
from atomml.workflows import learn
from atomml.workflows.active.learning_choice import farthest

EMT_NAME = "ase:ase.calculators.emt:EMT"
FILES = ("rounds.csv", "round-00/model-0/model.safetensors", "round-01/model-1/model.safetensors")


@pytest.fixture(scope="module")
def copper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell of four atoms, and a MACE that knows nothing yet."""
    folder = tmp_path_factory.mktemp("copper")
    write(folder / "Cu.cif", bulk("Cu", cubic=True))
    with seeded_generator(1):
        shape = {"hidden": "4x0e", "max_degree": 1, "cutoff": 4.0, "readout": "4x0e", "neighbours": 18.0}
        save_model(MACE.fresh("tiny", (29,), shape), folder / "tiny.safetensors")
    return folder


def told(**changes: Any) -> dict[str, Any]:
    """Few steps, and models that soon disagree."""
    base = {
        "label": EMT_NAME,
        "budget": 9,
        "initial": 4,
        "test_size": 3,
        "committee": 2,
        "per_round": 2,
        "runs": 1,
        "stable_time": 0.1,
        "every": 2,
        "train_steps": 15,
        "learning_rate": 0.05,
        "uncertainty": 0.02,
        "temperature": "900",
        "device": "cpu",
    }
    return base | changes


def flags(options: dict[str, Any]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def test_labels_are_counted_and_rounds_are_written(copper: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = ["learn", str(copper / "Cu.cif"), "--model", str(copper / "tiny.safetensors"), *flags(told())]
    assert main([*call, "--out", str(out), "--quiet"]) == 3  # the budget went, and the models still differ
    summary = json.loads((out / "summary.json").read_text())
    found = summary["results"]
    assert found["n_labels"] == 9
    assert not found["stable"]
    assert [row["labels"] for row in found["rows"]] == [7, 9]
    assert all(row["forces_mae_meV_per_A"] > 0 for row in found["rows"])
    assert "raise --budget" in " ".join(summary["warnings"])
    done = {row.id: row.result for row in read_manifest(out / "manifest.sqlite")}
    assert done["round-00/chosen"]["labels"] == 2
    for file in found["committee"].split(","):
        assert Path(file).is_file()
    chosen = read(out / "round-00" / "chosen.extxyz", ":")
    for atoms in chosen:
        energy = atoms.get_potential_energy()
        atoms.calc = EMT()
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    page = (out / "report.html").read_text()
    assert "Errors on the test set" in page
    assert "<svg" in page
    assert main([*call[:-2], "--out", str(out), "--quiet", "--resume"]) == 2, "another device"
    more = [*call[: call.index("--budget")], "--budget", "10", *call[call.index("--budget") + 2 :]]
    assert main([*more, "--out", str(out), "--quiet", "--resume"]) == 3, "a larger budget goes on"
    assert json.loads((out / "summary.json").read_text())["results"]["n_labels"] == 10


def test_it_ends_when_no_run_is_uncertain(copper: Path, tmp_path: Path) -> None:
    found = learn(
        copper / "Cu.cif", copper / "tiny.safetensors", out=tmp_path / "run", **told(uncertainty=1e3)
    )
    assert found.stable
    assert found.converged
    assert found.n_labels == 7
    assert found.rows[-1]["shortest_run_ps"] == pytest.approx(0.1)


def test_random_frames_come_from_whole_runs(copper: Path, tmp_path: Path) -> None:
    """The control: nobody stops, and labels are spent on frames of the whole length."""
    found = learn(
        copper / "Cu.cif",
        copper / "tiny.safetensors",
        out=tmp_path / "run",
        **told(choice="random", budget=9, stable_time=0.03, uncertainty=1e-6),
    )
    assert found.n_labels == 9
    assert [row["runs_stopped"] for row in found.rows] == [0, 0]
    assert len(read(tmp_path / "run" / "round-00" / "chosen.extxyz", ":")) == 2


@pytest.mark.slow
def test_killed_anywhere_and_resumed_gives_the_same_files(copper: Path, tmp_path: Path) -> None:
    """SIGKILL after ever longer times, then to the end: models and table have the bits of an unbroken run."""
    call = [sys.executable, "-m", "atomml.cli.main", "learn", str(copper / "Cu.cif"), "--quiet"]
    call += ["--model", str(copper / "tiny.safetensors"), *flags(told()), "--out", "run", "--resume"]
    for name in ("whole", "broken"):  # data sets are known by the path that was given, among other things
        (tmp_path / name).mkdir()
    assert subprocess.run(call, check=False, cwd=tmp_path / "whole").returncode == 3
    wanted = ("initial", "round-00/model-1", "round-00/md-00", "round-01/model-0")
    for stage in wanted:
        process = subprocess.Popen(call, cwd=tmp_path / "broken")
        deadline = time.monotonic() + 240
        while (
            not _begun(tmp_path / "broken" / "run", stage)
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(call, check=False, cwd=tmp_path / "broken").returncode == 3
    assert digests(tmp_path / "whole" / "run") == digests(tmp_path / "broken" / "run")
    rows = [
        json.loads((tmp_path / n / "run" / "summary.json").read_text())["results"]["rows"]
        for n in ("whole", "broken")
    ]
    assert rows[0] == rows[1]


def _begun(folder: Path, stage: str) -> bool:
    file = folder / "manifest.sqlite"
    try:
        return file.exists() and any(row.id == stage for row in read_manifest(file))
    except Exception:  # it is being made
        return False


def test_the_farthest_come_first_and_copies_never() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 10.0], [0.2, 0.1]])
    weights = np.array([0.1, 0.5, 0.4, 0.2, 0.3])
    assert farthest(points, weights, np.empty((0, 2)), 3)[0] == 1
    assert set(farthest(points, weights, np.empty((0, 2)), 9)) == {0, 1, 3, 4}
    assert farthest(points, weights, points[3:4], 2) == [1, 0], "what is known already counts as chosen"


def script(folder: Path, body: str) -> str:
    """A program of the user's."""
    file = folder / "label.py"
    file.write_text(f"#!{sys.executable}\nimport sys\nfrom ase.io import read, write\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


GOOD = """
from ase.calculators.emt import EMT
atoms = read(sys.argv[1])
atoms.calc = EMT()
atoms.get_forces(), atoms.get_potential_energy(), atoms.get_stress()
write(sys.argv[2], atoms)
"""


def rattled() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_a_program_and_a_class_give_the_labels_of_the_calculator(tmp_path: Path) -> None:
    atoms = rattled()
    answers = [engine_of(name).label(atoms).labels for name in (script(tmp_path, GOOD), EMT_NAME)]
    atoms.calc = EMT()
    for found in answers:
        assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-7)
        assert found.stress is not None
        np.testing.assert_allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-7)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('no licence')", "no licence"),
        ("pass", "wrote no out.extxyz"),
        ("write(sys.argv[2], read(sys.argv[1]))", "no energy"),
        (GOOD.replace("write(", "atoms.positions += 1.0; write("), "moved the atoms"),
        (GOOD.replace("write(", "atoms = atoms[::-1][:3]; write("), "other atoms"),
        (GOOD.replace("write(", "atoms.calc.results['energy'] = float('nan'); write("), "finite|energy"),
    ],
)
def test_a_program_that_fails_gives_no_label(body: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=says):
        engine_of(script(tmp_path, body)).label(rattled())


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    """A licence server that does not answer must not hold a loop for ever, nor leave a program behind."""
    mark = tmp_path / "child"
    hanging = (
        "import subprocess, time\n"
        f"child = subprocess.Popen(['sleep', '600'])\nopen({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    engine = engine_of(script(tmp_path, hanging), LabelSettings(time_limit=3.0))
    with pytest.raises(LabelError, match="not ended after 3 s"):
        engine.label(rattled())
    status = Path("/proc", mark.read_text(), "stat")
    for _ in range(100):
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        raise AssertionError("what the program had started is still running")


def test_wrong_methods_are_refused() -> None:
    for method, kind in (
        ("ase:nowhere:EMT", MissingExtraError),
        ("ase:ase.calculators.emt:Nothing", ModelError),
        ("ase:EMT", ModelError),
        ("ase:ase:Atoms", ModelError),
        ("no-such-program-here", OptionError),
    ):
        with pytest.raises(kind):
            engine_of(method)


def test_wrong_input_is_refused_before_anything_is_written(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["learn", str(copper / "Cu.cif"), "--model", str(copper / "tiny.safetensors")]
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    for more, says in (
        ([], "--label"),
        (["--label", EMT_NAME, "--budget", "5"], "budget"),
        (["--label", EMT_NAME, "--initial", "0"], "--train"),
        (["--label", "gfn5"], "no method"),
        (["--label", EMT_NAME, "--committee", "1"], "committee"),
    ):
        assert main([*call, *more, *out]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_label_is_spent_on_what_cannot_be_trained_or_tested(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels are what costs: a model or a file that is wrong is found before the first of them."""
    with seeded_generator(1):
        shape = {"hidden": "4x0e", "max_degree": 1, "cutoff": 4.0, "heads": ["a", "b"], "head": None}
        save_model(MACE.fresh("two", (29,), shape), tmp_path / "two.safetensors")
    write(tmp_path / "Al.cif", bulk("Al", cubic=True))
    write(tmp_path / "bare.extxyz", bulk("Cu"), format="extxyz")
    model = str(copper / "tiny.safetensors")
    for structure, more, says in (
        (copper / "Cu.cif", ["--model", "nowhere.safetensors"], "nowhere.safetensors"),
        (copper / "Cu.cif", ["--model", str(tmp_path / "two.safetensors")], "MODEL@HEAD"),
        (tmp_path / "Al.cif", ["--model", model], "Al"),
        (copper / "Cu.cif", ["--model", model, "--test", "gone.extxyz"], "gone.extxyz"),
        (copper / "Cu.cif", ["--model", model, "--train", str(tmp_path / "bare.extxyz")], "bare.extxyz"),
    ):
        call = ["learn", str(structure), *more, "--label", EMT_NAME, "--out", str(tmp_path / "run")]
        for plan in ([], ["--dry-run"]):
            assert main([*call, *plan, "--quiet"]) == 2
            assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_it_goes_on_with_what_it_began_with_only_and_says_which_limit_ended_it(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounds of two data sets, models or programs in one folder would be nobody's."""
    kept = [tmp_path / name for name in ("Cu.cif", "tiny.safetensors")]
    for file in kept:
        file.write_bytes((copper / file.name).read_bytes())
    known = []
    for seed in range(3):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        known.append(atoms)
    more = [tmp_path / "known.extxyz", tmp_path / "test.extxyz"]
    for file, frames in ((more[0], known), (more[1], known[:2])):
        write(file, frames, format="extxyz")
    options = told(max_rounds=1, label=script(tmp_path, GOOD), initial=2, train_steps=2, stable_time=0.01)
    options |= {"train": more[0], "test": more[1]}
    call = ["learn", str(kept[0]), "--model", str(kept[1]), *flags(options), "--out", str(tmp_path / "run")]
    assert main([*call, "--quiet"]) == (0 if _stable(tmp_path / "run") else 3)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["model"]["sha256"]) == 64
    if not summary["results"]["stable"]:
        assert "raise --max-rounds" in " ".join(summary["warnings"])
    for file in (*kept, *more, tmp_path / "label.py"):
        before = file.read_bytes()
        if file == kept[0]:
            write(file, bulk("Cu", cubic=True, a=3.7))
        elif file == kept[1]:
            save_model(MACE.fresh("other", (29,), {"hidden": "4x0e", "max_degree": 1, "cutoff": 4.0}), file)
        else:
            file.write_bytes(before + (b"#\n" if file.suffix == ".py" else before))
        assert main([*call, "--quiet", "--resume"]) == 2
        assert "changed since the run" in capsys.readouterr().err
        file.write_bytes(before)
    assert main([*call, "--quiet", "--resume"]) in (0, 3)


def _stable(folder: Path) -> bool:
    return bool(json.loads((folder / "summary.json").read_text())["results"]["stable"])


def test_a_configuration_may_not_name_code(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that somebody sends must not start programs."""
    file = tmp_path / "sent.yaml"
    file.write_text(f"label: {EMT_NAME}\n")
    call = ["learn", str(copper / "Cu.cif"), "--config", str(file), "--out", str(tmp_path / "run"), "--quiet"]
    assert main(call) == 2
    assert "--allow-code" in capsys.readouterr().err
    labelling = ["data", "label", str(copper / "Cu.cif"), "--to", str(tmp_path / "x.extxyz"), "--quiet"]
    file.write_text(f"method: {EMT_NAME}\n")
    assert main([*labelling, "--config", str(file)]) == 2
    assert not (tmp_path / "x.extxyz").exists()
    assert main([*labelling, "--config", str(file), "--allow-code", "--out", str(tmp_path / "l")]) == 0


def test_a_plan_writes_nothing(copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From nothing too: a model of the preset's shape is timed."""
    config = tmp_path / "tiny.yaml"
    config.write_text("model: {family: mace, hidden: 4x0e, max_degree: 1, cutoff: 4.0}\n")
    call = ["learn", str(copper / "Cu.cif"), "--model", str(config), "--label", EMT_NAME, "--dry-run"]
    assert main([*call, "--out", str(tmp_path / "run")]) == 0
    assert "nothing is written" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()

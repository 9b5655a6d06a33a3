"""The job array that ``atomml slurm`` writes: words survive the shell, a task of it runs for real."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from atomml.cli.main import main

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.fixture
def structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Six files, one with a name that a shell would take apart."""
    monkeypatch.chdir(tmp_path)
    names = [f"ar-{number}.extxyz" for number in range(5)] + ['it\'s a $HOME `x` "y".extxyz']
    for number, name in enumerate(names):
        write(name, bulk("Ar", "fcc", a=5.2 + 0.02 * number), format="extxyz")
    return names


def stub(folder: Path, root: Path) -> dict[str, str]:
    """An environment in which ``atomml`` is the command of this tree."""
    folder.mkdir()
    (folder / "atomml").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m atomml.cli.main "$@"\n', encoding="utf-8"
    )
    (folder / "atomml").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(root)}


def test_the_script_keeps_every_word(structures: list[str], tmp_path: Path) -> None:
    """An ``atomml`` that writes down its words, called by bash as a task of the array."""
    words = [*structures, "--out", "a run", "--where", "'Li' in formula and x > \"$HOME\""]
    assert main(["slurm", "relax", *words, "--tasks", "7", "--script", "job.sh", "--cpus", "3"]) == 0
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/atomml").write_text('#!/bin/sh\nprintf "%s\\0" "$@" > words\nexit 3\n')
    (tmp_path / "bin/atomml").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "SLURM_ARRAY_TASK_ID": "5", "SLURM_SUBMIT_DIR": str(tmp_path)}
    subprocess.run(["bash", str(tmp_path / "job.sh")], env=given, check=True, cwd="/", timeout=60)
    told = Path("words").read_text(encoding="utf-8").split("\0")[:-1]
    kept = [*structures, "--where", words[-1]]
    more = ["--workers", "3", "--out", "a run", "--resume", "--shard", "5/7"]
    assert told == ["screen", "relax", *kept, *more]


def test_an_array_of_ligands_is_done_by_its_own_command(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task through bash with an ``atomml`` that writes down its words, and one for real."""
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "examples/poses.sdf", "it's a pose.sdf")
    words = ["it's a pose.sdf", "--conformers", "2", "--searches", "1", "--steps", "5", "--workers", "0"]
    more = ["--tasks", "4", "--script", "job.sh", "--out", "run"]
    assert main(["slurm", "ligand-strain", *words, *more]) == 0
    text = Path("job.sh").read_text(encoding="utf-8")
    assert "#SBATCH --job-name=atomml-ligand-strain\n" in text
    (command,) = [line for line in text.splitlines() if line.startswith("atomml ")]
    told = shlex.split(command.rstrip("\\"))
    assert told == ["atomml", "ligand-strain", *words, "--out", "run"]
    for task in ("1", "2", "3", "4"):
        assert main([*told[1:], "--resume", "--shard", f"{task}/4", "--quiet"]) in (0, 3)
    (gather,) = [line[1:].strip() for line in text.splitlines() if "--merge" in line]
    assert main([*shlex.split(gather)[1:], "--quiet"]) in (0, 3)
    assert len(Path("run/results.csv").read_text(encoding="utf-8").splitlines()) == 5
    assert main(["slurm", "ligand-strain", *words, "--shard", "1/2"]) == 2
    assert main(["slurm", "ligand-strain"]) == 2


@pytest.mark.slow
def test_the_script_keeps_every_word_and_its_tasks_do_the_whole(
    structures: list[str], tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tasks through bash, as Slurm calls them, then what the last line says to gather them."""
    words = [*structures, "--model", "lj-argon", "--out", "a run", "--workers", "0", "--where", "n_atoms > 0"]
    assert main(["slurm", "predict", *words, "--tasks", "2", "--script", "job.sh", "--memory", "2G"]) == 0
    assert "sbatch job.sh" in capsys.readouterr().out
    text = Path("job.sh").read_text(encoding="utf-8")
    assert "#SBATCH --array=1-2\n" in text
    assert "#SBATCH --mem=2G\n" in text
    assert "--tasks" not in text
    environment = stub(tmp_path / "bin", root)
    for task in ("1", "2", "2"):  # the last one finds everything done
        given = {**environment, "SLURM_ARRAY_TASK_ID": task, "SLURM_SUBMIT_DIR": str(tmp_path)}
        subprocess.run(["bash", str(tmp_path / "job.sh")], env=given, check=True, cwd="/", timeout=100)
    (gather,) = [
        line[1:].strip() for line in text.splitlines() if "--merge" in line and line.startswith("#  ")
    ]
    done = subprocess.run(["bash", "-c", gather], env=environment, check=False, cwd=tmp_path, timeout=100)
    assert done.returncode == 0
    rows = Path("a run/results.csv").read_text(encoding="utf-8")
    assert all(name.replace('"', '""') in rows for name in structures)


def test_what_a_directive_cannot_hold_is_refused(
    structures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slurm", "relax", *structures, "--partition", "gpu\n#SBATCH --wrap=x"]) == 2
    assert "cannot stand in a Slurm script" in capsys.readouterr().err
    assert main(["slurm", "relax", *structures, "--shard", "1/2"]) == 2
    assert main(["slurm", "relax", "a\ntouch owned\n", "--out", "x"]) == 2
    assert main(["slurm", "relax", *structures, "--out", "x\ntouch owned"]) == 2
    assert "the end of a line" in capsys.readouterr().err
    assert (
        main(["slurm", "relax", *structures, "--gpus", "1", "--at-once", "3", "--setup", "module load x"])
        == 0
    )
    text = capsys.readouterr().out
    assert "#SBATCH --gpus-per-task=1" in text
    assert "#SBATCH --array=1-8%3" in text
    assert "--device cuda" in text
    assert "\nmodule load x\n" in text
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0


def test_a_near_miss_of_any_command_that_can_stand_first_is_named(
    structures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slurm", "ligand-strian", *structures]) == 2
    assert "did you mean 'ligand-strain'?" in capsys.readouterr().err
    assert main(["screen", "ligand-strian", *structures]) == 2
    assert "ligand-strain" not in capsys.readouterr().err.split(";")[1]

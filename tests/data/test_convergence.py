"""Which self-consistent fields converged, as the outputs of the programs say it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import dft_outputs
import pytest
from ase import Atoms

from atomml.data.convergence import inspect_run

Frames = Callable[..., list[Atoms]]

MIXED = [True, False, True]


def test_vasprun(frames: Frames, tmp_path: Path) -> None:
    path = dft_outputs.vasprun(tmp_path / "vasprun.xml", frames(4), [12, 60, 59, 0])
    run = inspect_run(path)
    assert run is not None
    # 60 of 60 iterations: given up; none at all: VASP's own force field, no DFT.
    assert (run.converged, run.finished) == ((True, False, True, False), True)
    assert run.method == "VASP ENCUT=520.0 GGA=PE"


def test_vasprun_cut_short(frames: Frames, tmp_path: Path) -> None:
    path = dft_outputs.vasprun(tmp_path / "vasprun.xml", frames(3), [12, 12, 12], finished=False)
    run = inspect_run(path)
    assert run is not None
    assert (run.converged, run.finished) == ((True, True), False)


@pytest.mark.parametrize("version", [5, 6])
def test_outcar(frames: Frames, tmp_path: Path, version: int) -> None:
    path = dft_outputs.outcar(tmp_path / "OUTCAR", frames(3), MIXED, version=version)
    run = inspect_run(path)
    assert run is not None
    assert (run.converged, run.finished, run.program) == (tuple(MIXED), True, "vasp-out")


def test_outcar_compressed(frames: Frames, tmp_path: Path) -> None:
    path = dft_outputs.outcar(tmp_path / "OUTCAR", frames(3), MIXED)
    packed = tmp_path / "OUTCAR.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert inspect_run(packed) == inspect_run(path)


def test_espresso(frames: Frames, tmp_path: Path) -> None:
    run = inspect_run(dft_outputs.pwo(tmp_path / "pw.out", frames(3), MIXED))
    assert run is not None
    assert (run.converged, run.program) == (tuple(MIXED), "espresso")
    assert "Exchange-correlation=PBE" in run.method


@pytest.mark.parametrize(
    ("write", "program"),
    [
        (dft_outputs.cp2k_verdicts, "cp2k"),
        (dft_outputs.orca_verdicts, "orca"),
        (dft_outputs.aims, "aims"),
    ],
)
def test_other_programs(write: Callable[..., Path], program: str, tmp_path: Path) -> None:
    run = inspect_run(write(tmp_path / "job.out", MIXED))
    assert run is not None
    assert (run.converged, run.finished, run.program) == (tuple(MIXED), True, program)


def test_a_file_of_no_program(tmp_path: Path) -> None:
    (tmp_path / "notes.out").write_text("nothing of the kind\n", encoding="utf-8")
    assert inspect_run(tmp_path / "notes.out") is None

"""Laws of a run's report: rebuilt from the folder alone, finished or not, and true to its numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from atomml.errors import FileFormatError
from atomml.report import read_run, render_run, run_report
from atomml.report.run_folder import read_columns
from atomml.report.trajectory import sample_extxyz


def frames(n: int, atoms: Atoms | None = None) -> list[Atoms]:
    """``n`` rattled copies with a step, a time and an energy."""
    made = []
    for i in range(n):
        one = (atoms or bulk("Cu", cubic=True)).copy()
        one.rattle(0.05, seed=i)
        one.info.update(step=10 * i, time_fs=20.0 * i)
        one.calc = SinglePointCalculator(one, energy=-3.0 - i)
        made.append(one)
    return made


def write_run(folder: Path, command: str, log: str = "", config: str = "", **summary: Any) -> Path:
    """A run folder as a workflow leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(f"command: {command}\nversion: 0.1.0\n{config}")
    if summary:
        known = {"command": command, "version": "0.1.0", "converged": True, "warnings": []}
        (folder / "summary.json").write_text(json.dumps(known | summary))
    if log:
        (folder / "log.csv").write_text(log)
    return folder


def md_run(folder: Path) -> Path:
    """A finished molecular dynamics run with everything that one writes."""
    log = "step,time_fs,temperature_K,target_temperature_K,"
    log += "potential_energy_eV,conserved_eV,pressure_GPa,volume_A3\n"
    log += "".join(
        f"{i},{2 * i}.0,{300 + i % 7},300,{-3.5 - 0.01 * i},{1 + 1e-4 * i},{0.1 * i},47.0\n"
        for i in range(50)
    )
    write_run(
        folder,
        "md",
        log,
        "ensemble: nvt-langevin\ntimestep: 2.0  # fs\nlabel: 'a  # b'\nfix: null  # Å\n",
        results={
            "mean_temperature_K": 302.9,
            "pressure_GPa": 0.123,
            "pressure_error_GPa": 0.0456,
            "n_atoms": 4,
            "per_element": [{"element": "Cu", "msd_A2": 0.02}],
        },
        units={"mean_temperature_K": "K"},
        model={"name": "chgnet-0.3.0", "sha256": "ab" * 32},
        inputs=[{"path": "Cu.cif", "sha256": "cd" * 32}],
        timing={"total_s": 12.5, "ns_per_day": 2.8},
        warnings=["the cell is small"],
    )
    write(folder / "trajectory.extxyz", frames(5))
    (folder / "averages.csv").write_text("quantity,mean,standard_error\ntemperature_K,302.9,0.5\n")
    (folder / "rdf.csv").write_text("r_A,Cu-Cu\n" + "".join(f"{0.1 * i:.2f},{i % 5}\n" for i in range(1, 60)))
    return folder


def rendered(folder: Path) -> str:
    """The page that ``render_run`` writes."""
    render_run(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def headings(html: str) -> list[str]:
    """The page's section headings."""
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_the_report_of_md_shows_what_the_run_measured(tmp_path: Path) -> None:
    html = rendered(md_run(tmp_path))
    shown = headings(html)
    for title in (
        "Trajectory",
        "Temperature",
        "Energy since the start",
        "Drift of the conserved quantity",
        "Pressure",
        "Radial distribution function",
        "Settings",
        "Model",
        "Inputs",
        "Timing",
    ):
        assert title in shown
    assert "Volume" not in shown  # it never changes
    assert "Molecular dynamics of Cu4" in html
    assert "the cell is small" in html
    assert "ab" * 32 in html
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "Mean temperature 302.9 K" in text
    assert "Pressure 0.123 ± 0.046 GPa" in text
    assert "Temperature K 302.9 0.5" in text  # a line of averages.csv, its unit in a column of its own
    assert "timestep 2.0 fs" in text
    assert "label a # b fix –" in text  # neither a value nor nothing has a unit
    assert "Speed 2.8 ns/day" in text


def test_the_drift_is_per_atom_and_in_mev(tmp_path: Path) -> None:
    """0.1 meV a line over 49 lines and 4 atoms: 1.225 meV/atom at the end, so the axis reaches 1.2."""
    html = rendered(md_run(tmp_path))
    section = re.search(r"<h2>Drift of the conserved quantity</h2>(.*?)</section>", html, re.DOTALL)
    assert section is not None
    words = re.findall(r"<text[^>]*>([^<]*)</text>", section[1])
    assert "drift (meV/atom)" in words
    assert "1.2" in words


def test_rendering_twice_gives_the_same_bytes_and_touches_nothing_else(tmp_path: Path) -> None:
    md_run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    first = rendered(tmp_path)
    assert rendered(tmp_path) == first
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "report.html"
    } == before


def test_a_run_that_was_killed_can_be_shown(tmp_path: Path) -> None:
    """No summary, a torn last line of the log, a torn last frame: what is whole is shown."""
    write_run(tmp_path, "md", "step,time_fs,temperature_K\n0,0,300\n1,1,301\n2,2,30", "steps: 1000\n")
    (tmp_path / "log.csv").write_text("step,time_fs,temperature_K\n0,0,300\n1,1,301\n2,2")
    write(tmp_path / "trajectory.extxyz", frames(3))
    data = (tmp_path / "trajectory.extxyz").read_bytes()
    (tmp_path / "trajectory.extxyz").write_bytes(data[:-40])
    html = rendered(tmp_path)
    assert "not finished" in html
    assert "Temperature" in headings(html)
    run = read_run(tmp_path)
    assert len(run.log) == 2
    assert run.structures is not None
    assert run.structures.total == 2


def test_the_report_of_relax_compares_the_cell_before_and_after(tmp_path: Path) -> None:
    log = "step,energy_eV,fmax_eV_per_A,volume_A3\n0,-3.5,0.4,47\n1,-3.6,0.04,48\n2,-3.61,0.004,49\n"
    write_run(tmp_path, "relax", log, "fmax: 0.01\n", results={"energy_eV": -3.61}, converged=False)
    start, end = frames(2)
    end.set_cell(end.cell * 1.01, scale_atoms=True)
    write(tmp_path / "trajectory.extxyz", [start, end])
    html = rendered(tmp_path)
    assert {"Energy above the final one", "Forces", "Volume", "Cell before and after"} <= set(headings(html))
    assert "not converged" in html
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "a (Å) 3.61 3.6461 1 " in text
    assert "volume (Å³) 47.046 48.471 3.0301" in text  # 1.01³ = 1.030301


def test_the_report_of_predict_holds_its_table_and_every_structure(tmp_path: Path) -> None:
    rows = "".join(f"s{i}.cif,Cu4,{-3.5 + 0.01 * i},{0.1 * i}\n" for i in range(120))
    write_run(tmp_path, "predict", results={"n_structures": 120})
    (tmp_path / "predictions.csv").write_text("input,formula,energy_eV_per_atom,fmax_eV_per_A\n" + rows)
    write(tmp_path / "predictions.extxyz", [*frames(2), bulk("Si"), bulk("NaCl", "rocksalt", 5.6)])
    html = rendered(tmp_path)
    assert headings(html)[:4] == ["Summary", "Predictions", "Energy", "Largest force"]
    assert "Prediction of 4 structures" in html
    blocks = [json.loads(b) for b in re.findall(r'application/json">(.*?)</script>', html)]
    assert len(blocks[0]) == 120
    assert blocks[1]["counts"] == [4, 4, 2, 2]


def test_a_command_without_a_recipe_gets_its_log_and_tables(tmp_path: Path) -> None:
    write_run(tmp_path, "unheard-of", "step,pressure_GPa\n0,1\n1,2\n", results={"bulk_modulus_GPa": 140.2})
    (tmp_path / "curve.csv").write_text("volume_A3,energy_eV\n40,-1\n41,-2\n42,-1.5\n43,-1\n")
    (tmp_path / "sites.csv").write_text("site,energy_eV\nO1,-1\nO2,\n")
    assert headings(rendered(tmp_path)) == ["Summary", "Pressure", "Curve", "Sites"]


def test_a_workflow_can_add_its_own_sections(tmp_path: Path) -> None:
    report = run_report(md_run(tmp_path))
    report.text("Remark", "Lithium moves along c.")
    assert headings(report.html())[-1] == "Remark"


def test_hostile_names_in_a_run_stay_text(tmp_path: Path) -> None:
    bad = "</script><script>document.title=1</script>"
    log = f'step,"{bad}_K"\n0,1\n1,2\n'
    write_run(
        tmp_path, "predict", log, results={bad: bad}, model={bad: bad}, warnings=[bad], inputs=[{bad: bad}]
    )
    (tmp_path / "table.csv").write_text(f"{bad},b\n{bad},1\n")
    html = rendered(tmp_path)
    assert html.count("<script>") == 3
    assert html.count("</script>") == 3


# ------------------------------------------------------------------ reading


def test_a_sample_is_the_frames_it_says_it_is(tmp_path: Path) -> None:
    made = frames(23)
    write(tmp_path / "t.extxyz", made)
    sample = sample_extxyz(tmp_path / "t.extxyz", 5)
    assert sample.total == 23
    assert (sample.indices[0], sample.indices[-1], len(sample.indices)) == (0, 22, 5)
    for number, atoms in zip(sample.indices, sample.frames, strict=True):
        np.testing.assert_allclose(atoms.positions, made[number].positions, atol=1e-8)
    assert sample.values()["step"] == [10.0 * i for i in sample.indices]
    assert sample.values()["energy_eV"] == [-3.0 - i for i in sample.indices]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_last_frame_is_passed_over(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "t.extxyz", frames(4))
    data = (tmp_path / "t.extxyz").read_bytes()
    (tmp_path / "t.extxyz").write_bytes(data[:-cut])
    assert sample_extxyz(tmp_path / "t.extxyz", 10).total == 3


def test_a_frame_that_blew_up_is_left_out(tmp_path: Path) -> None:
    made = frames(3)
    made[1].positions[0, 0] = np.nan
    write(tmp_path / "t.extxyz", made)
    sample = sample_extxyz(tmp_path / "t.extxyz", 10)
    assert (sample.indices, sample.total) == ([0, 2], 3)


def test_columns_know_which_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name,n,x_eV,none\n"a, b",1,1.5,\nc,2,,\n')
    table = read_columns(tmp_path / "a.csv")
    assert sorted(table.numeric) == ["n", "x_eV"]
    assert table.rows(10) == [["a, b", 1, 1.5, None], ["c", 2, None, None]]
    assert np.isnan(table.numeric["x_eV"][1])


def test_a_long_log_is_sampled_over_its_length_and_a_long_table_from_its_top(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,x_eV\n" + "".join(f"{i},{i}\n" for i in range(1001)))
    log, table = read_columns(path, spread=True, limit=100), read_columns(path, limit=100)
    assert log.total == table.total == 1001
    assert table.cells["step"] == [str(i) for i in range(100)]
    steps = log.numeric["step"]
    assert (steps[0], steps[-1]) == (0, 1000)
    assert len(steps) <= 102
    assert set(np.diff(steps)[:-1]) == {11}


def test_a_torn_last_line_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a,b\n1,2\n3,4\n5")
    for spread in (False, True):
        table = read_columns(tmp_path / "log.csv", spread=spread)
        assert (table.total, len(table)) == (2, 2)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("summary.json", "{", "summary.json: not JSON"),
        ("summary.json", "[1]", "summary.json: not a summary"),
        ("config.yaml", "a: [", "config.yaml: not YAML"),
        ("log.csv", "a,a\n1,2\n", "occurs twice"),
        ("log.csv", "a,b\n1\n1,2\n", "line 2: 1 cells under 2 names"),
        ("trajectory.extxyz", "two\ncomment\n", "frame 0: no number of atoms"),
        ("trajectory.extxyz", "1\ncomment\nnot an atom at all\n", "frame 0: not extended XYZ"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    write_run(tmp_path, "md", results={})
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=re.escape(words)):
        render_run(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is not a run folder"):
        render_run(tmp_path)

"""The run folder: nothing of the user's is lost, what is written is whole, a resumed run is the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from atomml.cli.main import main
from atomml.errors import FileFormatError, OptionError
from atomml.run import (
    RunFolder,
    default_folder,
    listening,
    open_run,
    plain,
    read_config,
    read_events,
    summary_schema,
)

CONFIG = {"fmax": 0.01, "steps": 5, "names": ["a", "b: c # d"], "none": None}


def _open(path: Path, **changes: Any) -> RunFolder:
    settings: dict[str, Any] = {"command": "relax", "config": CONFIG, "units": {"fmax": "eV/Å"}}
    return RunFolder.open(path, **(settings | changes))


def _write_summary(run: RunFolder) -> dict[str, Any]:
    return run.write_summary(
        results={"energy_eV": np.float64(1.5), "bad": math.nan},
        units={"energy_eV": "eV"},
        model=None,
        inputs=[],
        timing={"total_s": 0.1},
        converged=True,
    )


def test_the_configuration_is_read_back_as_it_was_with_units_as_comments(tmp_path: Path) -> None:
    with _open(tmp_path / "run"):
        pass
    config = read_config(tmp_path / "run")
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert "fmax: 0.01  # eV/Å" in (tmp_path / "run/config.yaml").read_text("utf-8")


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for changes in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OptionError):
            _open(tmp_path, **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwrite_empties_only_a_folder_of_the_same_command(tmp_path: Path) -> None:
    with _open(tmp_path / "run") as run:
        run.file("log.csv").write_text("old")
        run.file("sub").mkdir()
        run.file("sub/frame").write_text("old")
    with pytest.raises(OptionError, match="written by 'atomml relax'"):
        _open(tmp_path / "run", command="md", overwrite=True)
    assert (tmp_path / "run/log.csv").exists()
    with _open(tmp_path / "run", overwrite=True):
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "events.jsonl"]


def test_overwrite_spares_links_inputs_and_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").write_text("x")
    with _open(tmp_path / "run") as run:
        run.file("link").symlink_to(tmp_path / "data")
        run.file("relaxed.cif").write_text("an input")
    needed = CONFIG | {"structure": str(tmp_path / "run/relaxed.cif")}
    with pytest.raises(OptionError, match=r"would delete .*relaxed\.cif"):
        _open(tmp_path / "run", overwrite=True, config=needed)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "run")
        with pytest.raises(OptionError, match="current folder"):
            _open(tmp_path / "run", overwrite=True)
    with _open(tmp_path / "run", overwrite=True):
        pass
    assert (tmp_path / "data/precious").read_text() == "x"


def test_a_resumed_run_must_be_the_same_but_for_what_may_change(tmp_path: Path) -> None:
    with _open(tmp_path / "run") as run:
        run.warn("once")
        run.warn("once")
    with pytest.raises(OptionError, match=r"fmax = 0\.01"):
        _open(tmp_path / "run", resume=True, config=CONFIG | {"fmax": 0.1})
    with _open(tmp_path / "run", resume=True, config=CONFIG | {"steps": 9}, may_change=("steps",)) as run:
        assert run.resumed
        assert run.warnings == ["once"]
    assert read_config(tmp_path / "run")["steps"] == 9


def test_resume_starts_anew_where_a_kill_left_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.config.yaml.abc.tmp").write_text("half")
    with _open(tmp_path / "run", resume=True) as run:
        assert not run.resumed
    assert not (tmp_path / "run/.config.yaml.abc.tmp").exists()


def test_two_processes_cannot_write_one_folder(tmp_path: Path) -> None:
    with _open(tmp_path / "run"), pytest.raises(OptionError, match="Another atomml process"):
        _open(tmp_path / "run", resume=True)
    with _open(tmp_path / "run", resume=True):
        pass


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_event_is_passed_over_and_cut_off(tmp_path: Path, cut: int) -> None:
    with _open(tmp_path / "run") as run:
        run.event("step", step=1)
    file = tmp_path / "run/events.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    assert [event["event"] for event in read_events(tmp_path / "run")] == ["started"] + ["step"] * (cut == 1)
    with _open(tmp_path / "run", resume=True) as run:
        run.event("step", step=2)
    assert [event.get("step") for event in read_events(tmp_path / "run")][-1] == 2


def test_damage_before_the_last_event_is_reported(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"event": 1\n{"event": "x"}\n')
    with pytest.raises(FileFormatError, match="line 1"):
        list(read_events(tmp_path))


def test_the_summary_has_no_number_that_json_lacks(tmp_path: Path) -> None:
    with _open(tmp_path / "run") as run:
        written = _write_summary(run)
    text = (tmp_path / "run/summary.json").read_text("utf-8")
    read = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert read == written
    assert read["results"] == {"energy_eV": 1.5, "bad": None}
    jsonschema.validate(read, summary_schema())


@pytest.mark.parametrize(
    "damage", [{"converged": "yes"}, {"units": {"x": 1}}, {"model": {"name": "x"}}, {"timing": {}}]
)
def test_the_schema_refuses_what_it_should(tmp_path: Path, damage: dict[str, Any]) -> None:
    with _open(tmp_path / "run") as run:
        written = _write_summary(run)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written | damage, summary_schema())


def test_without_out_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_run(None, command="relax", config={}) as run:
        path = run.path
        assert path.is_dir()
        assert not run.kept
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_listener_hears_what_is_written(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with listening(heard.append), _open(tmp_path / "run") as run:
        run.event("step", step=1, of=2)
    with _open(tmp_path / "other"):
        pass
    assert heard == list(read_events(tmp_path / "run"))


def test_an_error_is_the_last_event(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), _open(tmp_path / "run"):
        raise ZeroDivisionError("by design")
    last = list(read_events(tmp_path / "run"))[-1]
    assert (last["event"], last["reason"]) == ("stopped", "ZeroDivisionError")


def test_values_become_what_json_knows() -> None:
    value = {"a": np.arange(2), 1: (np.float32(0.5), Path("x")), "n": float("inf"), "b": np.True_}
    assert plain(value) == {"a": [0, 1], "1": [0.5, "x"], "n": None, "b": True}


def test_default_folders_are_named_after_command_and_file() -> None:
    names = {"a/LiCoO2.cif": "md-LiCoO2", "POSCAR": "md-POSCAR", ".hidden": "md-structure"}
    assert {name: str(default_folder("md", name)) for name in names} == names
    assert str(default_folder("md", None)) == "md-structure"


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "many.extxyz"],
        ["relax", "ar.extxyz", "--cell", "free"],
        ["relax", "many.extxyz@:2"],
        ["md", "ar.extxyz", "--steps", "4", "--every", "2", "--supercell", "2,2,2"],
        ["compare", "predict", "ar.extxyz", "--model", "ase:ase.calculators.lj:LennardJones"],
    ],
    ids=lambda argv: "-".join(argv[:2]),
)
def test_every_command_writes_a_summary_of_the_schema(argv: list[str], here: Path) -> None:
    assert main([*argv, "--model", "lj-argon", "--out", "run", "--quiet"]) == 0
    summary = json.loads(Path("run/summary.json").read_text("utf-8"))
    jsonschema.validate(summary, summary_schema())
    assert summary["command"] == argv[0]
    assert set(summary["units"]) <= set(summary["results"]) | set(summary["results"].get("spread", {}))
    config = read_config("run")
    assert config["model"] in ("lj-argon", ["ase:ase.calculators.lj:LennardJones", "lj-argon"])
    assert Path("run/report.html").stat().st_size < 2_000_000
    before = Path("run/report.html").read_bytes()
    Path("run/report.html").unlink()
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_bytes() == before

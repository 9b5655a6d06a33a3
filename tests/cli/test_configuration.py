"""Options: one definition for flags, YAML and Python; default < YAML < --set < flag; nothing unknown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atomml.cli.main import main
from atomml.cli.parsing import join_negative_values
from atomml.config import as_config, build_options, option_specs, parse_assignment, read_yaml, resolve
from atomml.errors import FileFormatError, OptionError
from atomml.options import option


@dataclass(frozen=True)
class Inner:
    """A group of options."""

    depth: int = option(1, "how deep", minimum=0, maximum=9)


@dataclass(frozen=True)
class Sample:
    """One option of each kind."""

    force: float = option(0.01, "a bound", unit="eV/Å", above=0)
    steps: int = option(10, "a count", minimum=0)
    repeat: tuple[int, int, int] = option((1, 1, 1), "three counts", minimum=1)
    names: tuple[str, ...] = option((), "any number of names")
    ramp: str = option("300", "text that looks like a number")
    limit: float | None = option(None, "may be absent")
    cell: str = option("free", "one of few", choices=("free", "none"))
    keep: bool = option(True, "a switch")
    inner: Inner = field(default_factory=Inner)


GOOD: list[tuple[str, Any, Any]] = [
    ("force", "1e-3", 1e-3),
    ("force", 2, 2.0),
    ("steps", "1e6", 1_000_000),
    ("steps", 3.0, 3),
    ("repeat", "3,2,1", (3, 2, 1)),
    ("repeat", [3, 2, 1], (3, 2, 1)),
    ("names", "a, b", ("a", "b")),
    ("names", "", ()),
    ("ramp", 300, "300"),
    ("limit", "none", None),
    ("limit", None, None),
    ("limit", "2", 2.0),
    ("keep", "no", False),
    ("keep", True, True),
    ("inner", {"depth": "4"}, Inner(4)),
]

BAD: list[tuple[str, Any]] = [
    ("force", 0),
    ("force", "nan"),
    ("force", "inf"),
    ("force", True),
    ("force", [1]),
    ("force", None),
    ("steps", 1.5),
    ("steps", -1),
    ("steps", "1e400"),
    ("repeat", "3,3"),
    ("repeat", 3),
    ("repeat", "0,1,1"),
    ("limit", "much"),
    ("cell", "all"),
    ("keep", "perhaps"),
    ("keep", 3),
    ("inner", 3),
    ("inner", {"width": 3}),
    ("inner", {"depth": 10}),
    ("forse", 1),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_values_of_any_source_become_the_type_of_the_option(name: str, value: Any, expected: Any) -> None:
    found = getattr(build_options(Sample, {name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_values_of_the_wrong_type_or_range_are_refused_in_one_sentence(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as error:
        build_options(Sample, {name: value}, "x.yaml")
    sentence = str(error.value)
    assert sentence.startswith("x.yaml: ")
    assert "\n" not in sentence
    assert len(sentence) < 300


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(OptionError, match="did you mean 'force'"):
        build_options(Sample, {"forse": 1})


def test_later_layers_win_and_groups_are_merged() -> None:
    specs = option_specs(Sample)
    layers = [
        ("a", {"force": 1, "steps": 1, "inner": {"depth": 2}}),
        ("b", {"steps": 2}),
        ("c", {"force": "3"}),
    ]
    values = resolve(specs, layers)
    assert (values["force"], values["steps"], values["inner"], values["cell"]) == (3.0, 2, Inner(2), "free")


@given(
    st.builds(
        Sample,
        force=st.floats(1e-300, 1e300),
        steps=st.integers(0, 2**70),
        names=st.lists(st.text(), max_size=3).map(tuple),
        ramp=st.text(),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        keep=st.booleans(),
        inner=st.builds(Inner, depth=st.integers(0, 9)),
    )
)
def test_what_is_written_to_yaml_is_read_back_the_same(sample: Sample) -> None:
    from atomml.run import plain

    text = yaml.safe_dump(plain(as_config(sample)), allow_unicode=True)
    assert build_options(Sample, yaml.safe_load(text)) == sample


def test_assignments_are_nested_by_dots() -> None:
    assert parse_assignment("a.b=c=d") == {"a": {"b": "c=d"}}
    for text in ("a", "=1", "a..b=1"):
        with pytest.raises(OptionError):
            parse_assignment(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"fmax: 1\nfmax: 2\n", "twice"),
        (b"a: &x [1]\nb: *x\n", "aliases"),
        (b"- 1\n", "name: value"),
        (b"fmax: [1\n", "not YAML"),
        (b"!!python/object/apply:os.system [ls]\n", "not YAML"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a: " + b"[" * 5000, "not YAML"),
        (b"#" * (1 << 21), "1 MB"),
    ],
)
def test_hostile_configurations_are_refused(text: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(FileFormatError, match=what) as error:
        read_yaml(path)
    assert "c.yaml" in str(error.value)


def test_negative_numbers_are_values_and_not_flags() -> None:
    argv = ["--pressure", "-1e-3", "-5", "--quiet", "--shift", "-1,0,2.5", "--a=-1", "-2"]
    assert join_negative_values(argv) == [
        "--pressure=-1e-3",
        "-5",
        "--quiet",
        "--shift=-1,0,2.5",
        "--a=-1",
        "-2",
    ]


def _plan(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*argv, "--dry-run", "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_defaults_yield_to_yaml_to_set_to_flags(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text("model: lj-argon\nfmax: 0.2\nsmax: 0.2\nsteps: 2\n")
    argv = [
        "relax",
        "ar.extxyz",
        "--config",
        "c.yaml",
        "--set",
        "smax=0.3",
        "--set",
        "steps=3",
        "--steps",
        "4",
    ]
    options = _plan(argv, capsys)["options"]
    assert (options["maxstep"], options["fmax"], options["smax"], options["steps"]) == (0.2, 0.2, 0.3, 4)


def test_a_dry_run_writes_nothing_and_counts_what_there_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    plan = _plan(["predict", "many.extxyz", "--model", "lj-argon"], capsys)
    assert (plan["structures"], plan["atoms"], plan["model"]["name"]) == (5, 20, "lj-argon")
    plan = _plan(["md", "ar.extxyz", "--model", "lj-argon", "--supercell", "2,2,2", "--steps", "7"], capsys)
    assert (plan["atoms"], plan["steps"]) == (32, 7)
    assert plan["estimated_s"] == pytest.approx(7 * plan["evaluation_s"])
    assert (
        main(["compare", "relax", "ar.extxyz", "--model", "lj-argon", "--model", "lj-argon", "--dry-run"])
        == 0
    )
    assert sorted(here.rglob("*")) == before


def test_a_run_is_repeated_from_its_own_configuration(here: Path) -> None:
    assert main(["relax", "ar.extxyz", "--model", "lj-argon", "--fmax", "0.02", "--out", "a", "--quiet"]) == 0
    assert main(["relax", "--config", "a/config.yaml", "--out", "b", "--quiet"]) == 0
    for name in ("config.yaml", "log.csv", "trajectory.extxyz", "relaxed.extxyz"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert main(["predict", "ar.extxyz", "--config", "a/config.yaml"]) == 2  # it is that of relax

"""Every options dataclass reads back what it writes; every result has keys of its own, with known units."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from atomml.config import as_config, build_options, convert, option_specs
from atomml.result import UNIT_SUFFIXES, Result
from atomml.run import plain


def classes(root: Path, end: str) -> Iterator[type]:
    """The public dataclasses of workflows and commands whose name ends so, but those without any field."""
    for room in ("workflows", "cli", "atomml/data", "atomml/electronic", "atomml/property"):
        for path in sorted((root / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if f"{end}:" not in text and f"{end}(" not in text:
                continue
            place = path.relative_to(root).with_suffix("")
            name = ".".join(place.parts if place.parts[0] == "atomml" else ("atomml", *place.parts))
            for found in vars(importlib.import_module(name)).values():
                own = inspect.isclass(found) and found.__module__ == name and found.__name__.endswith(end)
                if own and dataclasses.is_dataclass(found) and dataclasses.fields(found):
                    yield found


@pytest.fixture(scope="module")
def options(root: Path) -> list[type]:
    """Options whose fields all have defaults."""
    found = list(classes(root, "Options"))
    assert len(found) > 25
    return found


@pytest.fixture(scope="module")
def results(root: Path) -> list[type[Result]]:
    """What workflows return."""
    found = [kind for kind in classes(root, "Result") if issubclass(kind, Result)]
    assert len(found) > 25
    return found


def test_defaults_are_values_that_a_user_may_give(options: list[type]) -> None:
    """In range, among the choices, of the type; where a group is nested, so are its own."""
    for kind in options:
        for name, spec in option_specs(kind).items():
            if not spec.is_group:
                assert convert(spec, spec.default) == spec.default, (kind, name)


def test_a_configuration_that_was_written_is_the_same_when_it_is_read(options: list[type]) -> None:
    for kind in options:
        made = kind()
        written = yaml.safe_dump(plain(as_config(made)))
        read = build_options(kind, yaml.safe_load(written))
        assert read == made, kind


def test_every_option_has_its_help_and_none_is_longer_than_a_line(options: list[type]) -> None:
    for kind in options:
        for name, spec in option_specs(kind).items():
            assert spec.is_group or spec.help, (kind, name)
            assert "\n" not in spec.help, (kind, name)
            assert not spec.help.endswith(".") or spec.help.endswith(" ..."), (kind, name)


def _filled(kind: type[Result]) -> Result:
    """A result with another value in each field of its summary."""
    made: Mapping[str, Any] = {
        entry.name: f"value {number}"
        for number, entry in enumerate(dataclasses.fields(kind))
        if entry.metadata.get("summary", True)
    }
    bare = [f for f in dataclasses.fields(kind) if f.name not in made and f.default is dataclasses.MISSING]
    needed = {f.name: None for f in bare if f.default_factory is dataclasses.MISSING}
    return kind(**needed, **made)


def test_no_two_numbers_of_a_result_share_a_key(results: list[type[Result]]) -> None:
    for kind in results:
        made = _filled(kind)
        told = sum(entry.metadata.get("summary", True) for entry in dataclasses.fields(kind))
        assert len(made.results()) == told, kind


def test_the_end_of_a_key_is_the_unit_that_it_has(results: list[type[Result]]) -> None:
    for kind in results:
        made = _filled(kind)
        for key, unit in made.units().items():
            ends = [known for suffix, known in UNIT_SUFFIXES.items() if key.endswith(f"_{suffix}")]
            if "_per_atom" in key:  # volume_per_atom_A3
                ends += [f"{known}/atom" for known in ends]
            assert unit in ends or unit not in UNIT_SUFFIXES.values(), (kind, key, unit)


def test_a_summary_gives_its_result_back(results: list[type[Result]]) -> None:
    for kind in results:
        made = _filled(kind)
        if any(entry.metadata.get("summary", True) is False and _needed(entry) for entry in _fields(kind)):
            continue  # structures, which a summary does not hold
        summary = {"results": made.results(), "converged": False, "warnings": ["a"]}
        again = kind.from_summary(summary, Path("run"))
        assert again.results() == made.results(), kind
        assert (again.converged, again.warnings, again.folder) == (False, ["a"], Path("run"))


def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _needed(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING

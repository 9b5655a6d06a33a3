"""Conditions on rows: what they mean, where a value is missing, and that nothing in them is ever run."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomml.errors import OptionError
from atomml.workflows.row_selection import RowFilter, column_named, sorted_rows

ROW: dict[str, Any] = {
    "formula": "LiCoO2",
    "n_atoms": 12,
    "energy_eV": -60.0,
    "bulk_modulus_GPa": 120.0,
    "youngs_modulus_GPa": None,
    "converged": True,
    "warnings": None,
}
COLUMNS = list(ROW)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("bulk_modulus > 100", True),
        ("bulk_modulus_GPa > 120", False),
        ("100 < bulk_modulus <= 120 and converged", True),
        ("energy / n_atoms < -4.9 and energy / n_atoms > -5.1", True),
        ("not converged or n_atoms == 12", True),
        ("not (converged and n_atoms == 12)", False),
        ("formula == 'LiCoO2'", True),
        ("'Li' in formula and 'Na' not in formula", True),
        ("youngs_modulus > 0", False),
        ("youngs_modulus <= 0", False),
        ("not youngs_modulus > 0", True),
        ("youngs_modulus - bulk_modulus < 0", False),
        ("formula > 3", False),
        ("n_atoms / 0 > 1", False),
        ("-n_atoms < -11 and 1e2 < bulk_modulus", True),
    ],
)
def test_a_condition_means_what_it_says(condition: str, holds: bool) -> None:
    assert RowFilter(condition, COLUMNS)(ROW) is holds


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "bulk_modulus >",
        "__import__('os').system('touch owned')",
        "().__class__.__bases__",
        "formula.upper() == 'X'",
        "[x for x in formula]",
        "9 ** 9 ** 9 ** 9 > 1",
        "(lambda: 1)()",
        "formula[0] == 'L'",
        "n_atoms if converged else 3",
        "f'{formula}' == 'x'",
        "(n_atoms := 3)",
        "b'x' == formula",
        "n_atoms << 3 > 2",
        "1j > 0",
        "(" * 300 + "1" + ")" * 300,
        "1" * 2000,
    ],
)
def test_what_is_no_condition_is_refused_at_once_and_nothing_is_run(condition: str) -> None:
    started = time.monotonic()
    with pytest.raises(OptionError, match=r"cannot be read|There is no column"):
        RowFilter(condition)(ROW) and RowFilter(condition, COLUMNS)
    assert time.monotonic() - started < 1


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="nxb_()<>=!+-*/.,'\"0123456789 andorti:[]{}@\\\n", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(OptionError):
        RowFilter(text)(ROW)


def test_a_column_is_found_without_its_unit_unless_two_could_be_meant() -> None:
    assert column_named("energy", COLUMNS) == "energy_eV"
    with pytest.raises(OptionError, match=r"energy_eV or energy_meV"):
        column_named("energy", [*COLUMNS, "energy_meV"])
    with pytest.raises(OptionError, match="bulk_modulus_GPa"):
        column_named("bulk_modulus_Gpa", COLUMNS)
    with pytest.raises(OptionError, match="There is no column 'hardness'"):
        RowFilter("hardness > 3", COLUMNS)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False), st.text(max_size=3)), max_size=20),
    st.booleans(),
)
def test_a_ranking_loses_no_row_and_puts_what_is_missing_last(values: list[Any], descending: bool) -> None:
    rows = [{"x": value, "place": place} for place, value in enumerate(values)]
    ranked = sorted_rows(rows, "x", descending)
    assert sorted(row["place"] for row in ranked) == list(range(len(values)))
    known = [row["x"] for row in ranked if row["x"] is not None]
    assert [row["x"] for row in ranked[: len(known)]] == known
    numbers = [value for value in known if isinstance(value, float)]
    assert numbers == sorted(numbers, reverse=descending)

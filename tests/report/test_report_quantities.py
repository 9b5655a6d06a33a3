"""Laws of names and numbers: a key's unit is read off its end, and no number loses what matters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomml.report.quantities import (
    UNITS,
    exact_value,
    format_value,
    label_of,
    split_unit,
    with_error,
    with_unit,
)
from atomml.result import UNIT_SUFFIXES


@pytest.mark.parametrize(
    ("key", "label", "unit"),
    [
        ("temperature_K", "Temperature", "K"),
        ("fmax_eV_per_A", "Largest force", "eV/Å"),
        ("energy_eV_per_atom", "Energy", "eV/atom"),
        ("msd_A2", "MSD", "Å²"),
        ("msd_Li_A2", "MSD Li", "Å²"),
        ("n_atoms", "Atoms", ""),
        ("n_structures", "Structures", ""),
        ("ns_per_day", "Speed", "ns/day"),
        ("s_per_step", "Time per step", "s"),
        ("conserved_eV", "Conserved quantity", "eV"),
        ("r_A", "r", "Å"),
        ("total_s", "Total", "s"),
        ("total_eV", "Total energy", "eV"),
        ("step", "Step", ""),
        ("K", "K", ""),
        ("Li2O", "Li2O", ""),
        ("", "", ""),
    ],
)
def test_label_and_unit_of_a_key(key: str, label: str, unit: str) -> None:
    assert (label_of(key), split_unit(key)[1]) == (label, unit)
    assert with_unit(key) == (f"{label} ({unit})" if unit else label)


@pytest.mark.parametrize("suffix", sorted(UNITS))
def test_every_suffix_is_found_whole(suffix: str) -> None:
    """No unit is mistaken for a shorter one that it ends in."""
    assert split_unit(f"value_{suffix}") == ("value", UNITS[suffix])


@pytest.mark.parametrize("suffix", sorted(UNIT_SUFFIXES))
def test_every_unit_of_a_result_is_known_to_the_report(suffix: str) -> None:
    assert UNITS[suffix] == UNIT_SUFFIXES[suffix].replace("^2", "²").replace("^3", "³")


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-9))
def test_a_shown_number_is_right_to_four_digits(value: float) -> None:
    """Five significant digits round by at most 5e-5 of the value, an integer above 1e4 by 0.5: 5e-5 too."""
    assert float(format_value(value).replace(",", "")) == pytest.approx(value, rel=5.1e-5)


@given(st.floats(1, 9e6))
def test_an_energy_is_shown_to_a_tenth_of_a_mev(value: float) -> None:
    assert abs(float(format_value(-value, "eV")) + value) <= 5.1e-5


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (300.1234, 0.4567, "300.12 ± 0.46"),
        (-12345.6, 12.3, "-12,346 ± 12"),
        (1.0, 0.00123, "1.0000 ± 0.0012"),
        (2.0, 0.0, "2"),
        (2.0, math.nan, "2"),
    ],
)
def test_an_error_has_two_digits_and_its_value_as_many_decimals(
    value: float, error: float, words: str
) -> None:
    assert with_error(value, error) == words


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_setting_can_be_typed_again(value: float) -> None:
    assert float(exact_value(value)) == value


def test_a_long_list_is_cut_and_counted() -> None:
    assert exact_value(["a"] * 9) == ", ".join("a" * 9)
    assert exact_value(list(range(1000))) == "0, 1, 2, 3, 4, 5, 6, 7, 8 … 1,000 in all"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (np.int64(1234567), "1,234,567"),
        (np.float32(0.5), "0.5"),
        (math.nan, "NaN"),
        (-math.inf, "-∞"),
        ([1, 2.5, None], "1, 2.5, –"),
        ("text", "text"),
    ],
)
def test_what_is_no_plain_number_is_shown_in_words(value: object, words: str) -> None:
    assert format_value(value) == words

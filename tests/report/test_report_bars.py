"""Bars: one for each name, in order; text stays text."""

from __future__ import annotations

import pytest

from atomml.errors import InputError
from atomml.report import bar_plot
from atomml.report.markup import check_svg


def test_every_name_is_there_in_order() -> None:
    svg = check_svg(bar_plot(["Si", "O", "<b>"], [3, 6, 1], "atoms in the set"))
    assert svg.index(">Si<") < svg.index(">O<") < svg.index("&lt;b&gt;")
    assert "atoms in the set" in svg


def test_bars_are_the_same_bytes_for_the_same_data_and_few_of_many() -> None:
    names, values = [f"E{k}" for k in range(100)], list(range(100))
    svg = bar_plot(names, values, "count")
    assert svg == bar_plot(names, values, "count")
    assert "E59" in svg
    assert "E60" not in svg


def test_no_bars_and_too_few_names() -> None:
    assert "no finite values" in bar_plot([], [], "count")
    with pytest.raises(InputError, match="2 names for 1 values"):
        bar_plot(["a", "b"], [1.0], "count")


@pytest.mark.filterwarnings("error")
def test_long_names_leave_the_bars_their_room() -> None:
    """Descriptors have long names; where they are not cut, matplotlib gives the layout up and says so."""
    names = [f"the largest difference of a property between neighbours, number {n}" for n in range(20)]
    svg = bar_plot(names, list(range(20)), "share")
    assert "the largest difference of…" in svg
    assert "number" not in svg

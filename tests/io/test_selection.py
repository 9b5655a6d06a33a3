"""Expressions that choose atoms mean what logic says, in any nesting; nothing else is taken for one."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from atomml.errors import OptionError
from atomml.selection import check_selection, select

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Case = tuple[str, Callable[[Atoms], Mask]]
OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}
ELEMENTS = ("Li", "O", "Pt", "H")


def cell() -> Atoms:
    """Twelve atoms, some of them on whole coordinates, so that every comparison has its limit."""
    places = np.random.default_rng(0).uniform(-3, 6, (12, 3))
    places[::3] = np.round(places[::3])
    return Atoms([ELEMENTS[n % 4] for n in range(12)], positions=places)


def _column(atoms: Atoms, name: str) -> Any:
    return np.arange(len(atoms)) if name == "index" else atoms.positions[:, "xyz".index(name)]


@st.composite
def comparisons(draw: st.DrawFn) -> Case:
    """A comparison, and what it means in numpy."""
    blank = draw(st.sampled_from(["", " "]))
    if draw(st.booleans()):
        name, sign = draw(st.sampled_from(["x", "y", "z", "index"])), draw(st.sampled_from(list(OPERATORS)))
        value = draw(st.one_of(st.integers(-4, 12), st.floats(-4, 12, allow_nan=False).map(lambda v: v / 1)))
        found = OPERATORS[sign]
        return f"{name}{blank}{sign}{blank}{value!r}", lambda atoms: found(_column(atoms, name), value)
    symbols = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=3))
    unlike = draw(st.booleans())
    text = f"symbol{blank}{'!=' if unlike else '=='}{blank}{','.join(symbols)}"
    return text, lambda atoms: np.array([(one in symbols) != unlike for one in atoms.get_chemical_symbols()])


def _grown(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def both(word: str, join: Callable[[Mask, Mask], Mask]) -> st.SearchStrategy[Case]:
        return st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]}) {word} ({two[1][0]})", lambda a: join(two[0][1](a), two[1][1](a)))
        )

    turned = inner.map(lambda one: (f"not ({one[0]})", lambda a: ~one[1](a)))
    return st.one_of(both("and", np.logical_and), both("or", np.logical_or), turned)


@given(st.recursive(comparisons(), _grown, max_leaves=8))
def test_an_expression_means_what_it_says(case: Case) -> None:
    text, meaning = case
    atoms = cell()
    np.testing.assert_array_equal(select(atoms, text), meaning(atoms))


@given(comparisons(), comparisons(), comparisons())
def test_and_binds_closer_than_or_and_not_closest(a: Case, b: Case, c: Case) -> None:
    atoms = cell()
    first, second, third = (case[1](atoms) for case in (a, b, c))
    found = select(atoms, f"{a[0]} or {b[0]} and not {c[0]}")
    np.testing.assert_array_equal(found, first | (second & ~third))
    np.testing.assert_array_equal(select(atoms, f"not {a[0]} and {b[0]}"), ~first & second)


@given(st.text(alphabet="xyz index symbol<>=!(),.0123456789LiO-+e_'\n", max_size=30))
def test_any_text_is_an_expression_or_one_sentence(text: str) -> None:
    """And what is refused before a structure is at hand is what is refused with one."""
    atoms = cell()
    try:
        found = select(atoms, text)
    except OptionError as error:
        refused = str(error)
    else:
        assert (found.shape, found.dtype) == ((12,), bool)
        check_selection(text)
        return
    with pytest.raises(OptionError, match=re.escape(refused)):
        check_selection(text)


@pytest.mark.parametrize(
    ("text", "place"), [("z<", 3), ("z<5 z>2", 5), ("symbol==Xx", 9), ("(z<5", 5), ("w>1", 1), ("x<1,2", 5)]
)
def test_what_is_wrong_is_named_by_its_place(text: str, place: int) -> None:
    with pytest.raises(OptionError, match=f"at character {place}:"):
        select(cell(), text)


def test_depth_has_an_end() -> None:
    """Far below what Python's own stack holds."""
    assert select(cell(), "(" * 40 + "all" + ")" * 40).all()
    with pytest.raises(OptionError, match="too deeply"):
        select(cell(), "(" * 10_000 + "all" + ")" * 10_000)
    with pytest.raises(OptionError, match="too deeply"):
        select(cell(), "not " * 10_000 + "all")

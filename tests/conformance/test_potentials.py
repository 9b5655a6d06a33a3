"""Every built-in potential obeys the laws. A new model is one line here."""

from __future__ import annotations

import pytest

from atomml.registry import BUILT_IN
from atomml.testing import CheckResult, run_conformance

slow = pytest.mark.slow

POTENTIALS = [
    pytest.param("lj-argon"),
    pytest.param("chgnet-0.3.0"),
    pytest.param("mace-tiny-organic"),
    pytest.param("chgnet-0.2.0", marks=slow),
    pytest.param("chgnet-r2scan", marks=slow),
]


def _broken(results: list[CheckResult]) -> list[str]:
    return [
        f"{result.name}: {result.value:.3g} > {result.tolerance:.3g} {result.unit} ({result.detail})"
        for result in results
        if not result.passed
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", POTENTIALS)
def test_potential_obeys_the_laws(name: str, dtype: str) -> None:
    results = run_conformance(name, dtype=dtype, quick=True)
    assert len({result.name for result in results}) == len(results) > 20
    assert _broken(results) == []


@slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["lj-argon", "chgnet-0.3.0"])
def test_potential_obeys_the_laws_on_every_structure_and_in_dynamics(name: str, dtype: str) -> None:
    assert _broken(run_conformance(name, dtype=dtype)) == []


def test_no_built_in_potential_is_left_out() -> None:
    assert {entry.name for entry in BUILT_IN} == {parameter.values[0] for parameter in POTENTIALS}

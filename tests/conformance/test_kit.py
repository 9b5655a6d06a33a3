"""The kit's own contract: what it returns, what it refuses, and the structures it tries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from atomml.errors import OptionError
from atomml.graph import GraphBuilder
from atomml.potentials.lennard_jones import argon
from atomml.testing import Law, Measurement, law, run_conformance
from atomml.testing.conformance import KINDS, laws_for
from atomml.testing.structures import contact_radius, prototype, sample_structures, scaled_to_minimum


def test_results_name_their_law_and_carry_numbers_with_units() -> None:
    results = run_conformance(argon(), quick=True, only=["rotation", "forces"])
    assert [result.name for result in results] == [
        "forces/differences",
        "rotation/energy",
        "rotation/forces",
        "rotation/stress",
    ]
    assert [result.unit for result in results] == ["eV/Å", "eV/atom", "eV/Å", "eV/Å³"]
    assert all(result.passed and 0 <= result.value <= result.tolerance for result in results)


def test_the_model_under_test_is_left_as_it_was() -> None:
    model = argon().to(torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_conformance(model, dtype="float64", quick=True, only=["rotation"])
    assert model.dtype == torch.float32
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "word"),
    [({"kind": "oracle"}, "oracle"), ({"dtype": "float16"}, "float16"), ({"only": ["gravity"]}, "gravity")],
)
def test_what_does_not_exist_is_refused_by_name(options: dict[str, str], word: str) -> None:
    with pytest.raises(OptionError, match=word):
        run_conformance(argon(), **options)  # type: ignore[arg-type]


def test_every_law_says_in_a_line_what_it_demands() -> None:
    laws = laws_for("potential")
    assert len(laws) == len({found.name for found in laws}) >= 17
    assert all(found.summary.endswith(".") and found.kind == "potential" for found in laws)
    assert set(KINDS) == {"potential", "property"}


def test_a_law_cannot_be_stated_twice() -> None:
    laws_for("potential")
    with pytest.raises(ValueError, match="rotation"):
        law("potential")(next(found.check for found in laws_for("potential") if found.name == "rotation"))


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(min_value=0, max_value=1e3))
def test_a_verdict_is_the_comparison_and_nan_fails(value: float, tolerance: float) -> None:
    measured = Measurement("energy", abs(value), tolerance, "eV", "anywhere")
    (result,) = Law("one", "potential", lambda _: [measured], ("float64",), False).judge(None)
    assert result.passed == (abs(value) <= tolerance)
    assert not (result.passed and math.isnan(value))


def test_the_worst_of_many_is_kept() -> None:
    found = [Measurement("energy", value, 1.0, "eV", f"{value}") for value in (0.3, 2.0, math.nan, 0.1)]
    (result,) = Law("many", "potential", lambda _: found, ("float64",), False).judge(None)
    assert result.detail == "nan"
    assert not result.passed


ELEMENT_SETS = [(18,), (10, 18, 36, 54), (1, 6, 7, 8), tuple(range(1, 90)), (3, 8, 27), (92,)]


@pytest.mark.parametrize("elements", ELEMENT_SETS, ids=lambda elements: f"{len(elements)} from {elements[0]}")
def test_samples_hold_known_elements_at_sound_distances(elements: tuple[int, ...]) -> None:
    samples = sample_structures(elements, lambda _: 0.0, quick=False)
    for name, atoms in samples.items():
        assert set(atoms.numbers) <= set(elements), name
        assert len(atoms) <= 12, name
        if len(atoms) > 1:
            distances = atoms.get_all_distances(mic=bool(atoms.pbc.all()))
            shortest = distances[~np.eye(len(atoms), dtype=bool)].min()
            smallest = min(contact_radius(number) for number in elements)
            assert shortest > smallest, name


def test_samples_cover_every_sort_of_cell() -> None:
    samples = sample_structures(range(1, 90), lambda _: 0.0, quick=False)
    assert {int(atoms.pbc.sum()) for atoms in samples.values()} == {0, 1, 2, 3}
    assert np.linalg.det(samples["left-handed"].cell.array) < 0
    assert len(samples["small cell"]) == 2
    assert len(samples["atom"]) == 1
    angles = samples["skewed"].cell.angles()
    assert angles.max() > 125 or angles.min() < 55
    again = sample_structures(range(1, 90), lambda _: 0.0, quick=False)
    assert all(np.array_equal(samples[name].positions, again[name].positions) for name in samples)


@pytest.mark.parametrize(("symbol", "distance"), [("Ar", 3.72), ("Cu", 2.55), ("Fe", 2.49), ("Si", 2.35)])
def test_contact_radius_is_half_the_known_nearest_neighbour_distance(symbol: str, distance: float) -> None:
    # Lattice constants 5.26, 3.61, 2.87 and 5.43 Å (Ashcroft and Mermin, tables 4.1, 4.2, 4.3).
    assert 2 * contact_radius(int(Atoms(symbol).numbers[0])) == pytest.approx(distance, abs=0.01)


@pytest.mark.parametrize("start", [0.8, 1.0, 1.3])
def test_scaling_finds_the_crystal_of_the_model(start: float) -> None:
    model = argon()
    builder = GraphBuilder.for_model(model)

    def energy(atoms: Atoms) -> float:
        return float(model.predict(builder(atoms)).energy) / len(atoms)

    crystal = prototype([18], "fcc")
    crystal.set_cell(start * crystal.cell, scale_atoms=True)
    found = scaled_to_minimum(crystal, energy)
    neighbour = found.cell.lengths()[0]
    assert neighbour == pytest.approx(1.09 * 3.40, rel=0.06)  # the grid's step


def test_scaling_leaves_a_broken_model_to_the_laws() -> None:
    crystal = prototype([18], "fcc")
    assert scaled_to_minimum(crystal, lambda _: math.inf) == crystal

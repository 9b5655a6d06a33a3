"""Statistics from sums are those of the values themselves, whatever the sums were collected over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomml.data.bootstrap import Bootstrap
from atomml.data.error_statistics import (
    ANGLE_FLOOR,
    Block,
    angles_between,
    error_sums,
    fit_element_shifts,
    fractions_of,
    largest_error,
    statistics_of,
)
from atomml.data.error_tally import SHIFTED_ENERGY, ErrorTally, ShiftedEnergies, full_range
from atomml.data.resampled_errors import resampled_statistics


def direct(predicted: np.ndarray, reference: np.ndarray) -> list[float]:
    """MAE, RMSE, mean signed error and R² as their definitions say."""
    error = predicted - reference
    r_squared = 1 - (error**2).sum() / ((reference - reference.mean()) ** 2).sum()
    return [np.abs(error).mean(), np.sqrt((error**2).mean()), error.mean(), r_squared]


@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(-1e4, 1e4))
def test_sums_of_parts_give_the_statistics_of_the_whole(seed: int, n_parts: int, origin: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, n_parts)
    reference = [origin + rng.normal(size=n) for n in sizes]
    predicted = [r + rng.normal(0.1, 0.3, size=len(r)) for r in reference]
    rows = np.stack([error_sums(p, r, origin=origin) for p, r in zip(predicted, reference, strict=True)])
    found = statistics_of(rows[:, :6].sum(axis=0))
    wanted = direct(np.concatenate(predicted), np.concatenate(reference))
    # the labels lose 1e4 * 2^-53 to their size before anything here sees them
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)
    errors = np.abs(np.concatenate(predicted) - np.concatenate(reference))
    assert largest_error(rows) == errors.max()


def test_r_squared_keeps_its_digits_on_energies_that_are_large() -> None:
    """At -1e6 with a spread of 1e-2, squares without an origin would leave no digit of the spread."""
    rng = np.random.default_rng(0)
    reference = -1e6 + 0.01 * rng.normal(size=50)
    predicted = reference + 0.005 * rng.normal(size=50)
    found = statistics_of(error_sums(predicted, reference, origin=-1e6)[:6])[3]
    assert found == pytest.approx(direct(predicted, reference)[3], abs=1e-6)


def test_a_predictor_of_the_mean_has_no_skill_and_nothing_has_no_statistics() -> None:
    reference = np.arange(10.0)
    found = statistics_of(error_sums(np.full(10, reference.mean()), reference)[:6])
    assert found[3] == pytest.approx(0, abs=1e-12)
    assert np.isnan(statistics_of(np.zeros(6))).all()
    assert np.isnan(statistics_of(error_sums([1.0, 2.0], [3.0, 3.0])[:6])[3])  # labels that do not vary
    assert np.isnan(largest_error(np.zeros((0, 7))))


def test_angles_are_those_of_the_arc_cosine_and_exact_at_the_ends() -> None:
    rng = np.random.default_rng(1)
    p, r = rng.normal(size=(2, 100, 3))
    cosine = (p * r).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(r, axis=1)
    np.testing.assert_allclose(angles_between(p, r), np.degrees(np.arccos(cosine)), atol=1e-5)
    assert angles_between(3 * r, r).max() < 1e-6
    np.testing.assert_allclose(angles_between(-r, r), 180, atol=1e-6)


def test_small_forces_have_no_direction_and_no_prediction_has_a_right_angle() -> None:
    reference = np.array([[ANGLE_FLOOR, 0, 0], [0.99 * ANGLE_FLOOR, 0, 0], [1, 0, 0]])
    found = angles_between([[1, 0, 0], [1, 0, 0], [0, 0, 0]], reference)
    assert found[0] == 0
    assert np.isnan(found[1])
    assert found[2] == 90


@given(st.integers(0, 10_000))
def test_shifts_of_elements_are_found_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = [{1: int(a), 8: int(b), 14: int(c)} for a, b, c in rng.integers(1, 9, (12, 3))]
    counts += [{1: 1}, {8: 1}, {14: 1}]
    numbers, fractions = fractions_of(counts)
    shifts = rng.normal(size=3) * 100
    found, rank = fit_element_shifts(fractions, fractions @ shifts)
    assert (numbers, rank) == ([1, 8, 14], 3)
    np.testing.assert_allclose(found, shifts, rtol=1e-9, atol=1e-9)
    assert fractions.sum(axis=1) == pytest.approx(1)


def test_one_composition_determines_one_shift_and_still_takes_the_error_away() -> None:
    energies = ShiftedEnergies(range(5), [13.0] * 5, [10.0] * 5, [{1: 2, 8: 1}] * 5)
    assert energies.rank == 1
    np.testing.assert_allclose(energies.shifted, 0, atol=1e-12)


def _blocks(seed: int, n: int = 9) -> tuple[list[Block], ShiftedEnergies]:
    rng = np.random.default_rng(seed)
    counts = [{18: int(a), 36: int(b)} for a, b in rng.integers(1, 5, (n, 2))]
    reference = rng.normal(-3000, 50, n)
    energies = ShiftedEnergies(range(n), reference + rng.normal(20, 9, n), reference, counts)
    blocks = [energies.block(shifted=False), energies.block(shifted=True)]
    chosen = np.arange(n) % 2 == 0
    blocks += [block.of("group", "even", chosen) for block in blocks]
    return blocks, energies


def test_a_resample_has_the_statistics_of_a_data_set_with_copies() -> None:
    """Each resample, taken literally: structures repeated as often as they were drawn, shifts fitted anew."""
    blocks, energies = _blocks(0)
    bootstrap = Bootstrap(np.arange(9), n_resamples=40, seed=3)
    found = resampled_statistics(blocks, energies, bootstrap)
    drawn = np.concatenate(list(bootstrap.weights())).astype(int)
    for number, times in enumerate(drawn):
        copies = np.repeat(np.arange(9), times)
        errors, fractions = energies.errors[copies], energies.fractions[copies]
        shifts, _ = fit_element_shifts(fractions, errors)
        for block in blocks:
            mine = errors - (fractions @ shifts if block.quantity == SHIFTED_ENERGY else 0)
            keep = np.isin(copies, block.structures)
            if not keep.any():
                assert np.isnan(found[block.key][number]).all()
                continue
            reference = energies.reference[copies][keep]
            with np.errstate(all="ignore"):
                wanted = direct(reference + mine[keep], reference)
            if np.ptp(reference) == 0:  # one structure, drawn again and again: R² is not defined
                wanted[3] = np.nan
            np.testing.assert_allclose(found[block.key][number], wanted, rtol=1e-6, atol=1e-7)


def test_ranges_of_force_cover_everything_once() -> None:
    assert full_range((0.5, 1.0)) == ["0-0.5", "0.5-1", ">1"]
    assert full_range(()) == [">0"]


def test_an_empty_tally_says_nothing() -> None:
    tally = ErrorTally((0.5,))
    assert tally.blocks() == []
    assert tally.trivial() == {}
    assert tally.energies() is None

"""Intervals hold the truth as often as they say, and pairs tell models apart that intervals cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t

from atomml.data import bootstrap as module
from atomml.data.bootstrap import Bootstrap, interval, interval_of_mean, verdict

Values = NDArray[np.float64]


def ratio_samples(sums: Values, counts: Values, seed: int, n_resamples: int = 400) -> Values:
    """The pooled mean in each resample of structures."""
    weights = np.concatenate(list(Bootstrap(np.arange(len(sums)), n_resamples, seed).weights()))
    return (weights @ sums) / (weights @ counts)


def structures(rng: np.random.Generator, n: int) -> tuple[Values, Values]:
    """Sums of absolute errors and numbers of atoms: a structure is hard or easy, and so are all its atoms."""
    counts = rng.integers(5, 15, n).astype(float)
    scale = rng.lognormal(0.0, 0.5, n)
    sums = np.array([np.abs(rng.normal(0, s, int(c))).sum() for s, c in zip(scale, counts, strict=True)])
    return sums, counts


def coverage(draw: Callable[[np.random.Generator], tuple[float, float]], truth: float, n: int) -> float:
    """Share of ``n`` data sets whose interval holds the truth."""
    rng = np.random.default_rng(20)
    hits = [low <= truth <= high for low, high in (draw(rng) for _ in range(n))]
    return float(np.mean(hits))


TRUTH = float(np.sqrt(2 / np.pi) * np.exp(0.5**2 / 2))
"""Mean |error| of :func:`structures`: E|N(0, s)| = s sqrt(2/π), E s = exp(σ²/2) of a lognormal."""


@pytest.mark.parametrize("n", [12, 40])
def test_intervals_hold_the_truth_as_often_as_they_say(n: int) -> None:
    """95% aimed at; 600 data sets leave a standard error of 0.9%, skewed errors of few structures 3% more."""

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        return interval(ratio_samples(*structures(rng, n), seed=int(rng.integers(1 << 30))), n)

    assert 0.90 < coverage(draw, TRUTH, 600) < 0.975


def test_intervals_that_draw_atoms_would_be_far_too_narrow() -> None:
    """Why structures are drawn: the same data, its atoms taken for independent."""

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        counts = rng.integers(5, 15, 20)
        scale = rng.lognormal(0.0, 0.5, 20)
        atoms = np.concatenate([np.abs(rng.normal(0, s, c)) for s, c in zip(scale, counts, strict=True)])
        samples = ratio_samples(atoms, np.ones(len(atoms)), seed=int(rng.integers(1 << 30)), n_resamples=200)
        return interval(samples, len(atoms))

    assert coverage(draw, TRUTH, 200) < 0.85


@pytest.mark.parametrize("n", [5, 20])
def test_of_normal_values_it_is_students_interval(n: int) -> None:
    """The expanded percentiles of a mean are t * s / sqrt(n); 20,000 resamples leave 3% of noise."""
    values = np.random.default_rng(1).normal(size=n)
    low, high = interval(ratio_samples(values, np.ones(n), 0, 20_000), n)
    wanted = 2 * t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    # five values have lighter tails than the normal distribution that the expansion assumes
    assert high - low == pytest.approx(wanted, rel=0.05 if n == 20 else 0.2)


def test_one_structure_has_no_interval() -> None:
    assert np.isnan(interval([1.0, 1.0], 1)).all()
    assert np.isnan(interval([np.nan], 5)).all()


def test_the_same_seed_draws_the_same_whatever_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = np.arange(7)
    whole = np.concatenate(list(Bootstrap(clusters, 101, 5).weights()))
    monkeypatch.setattr(module, "_CHUNK", 30)
    pieces = list(Bootstrap(clusters, 101, 5).weights())
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert (whole.sum(axis=1) == 7).all()
    other = np.concatenate(list(Bootstrap(clusters, 101, 6).weights()))
    assert (other != whole).any()


def test_clusters_are_drawn_as_a_whole() -> None:
    clusters = np.array([0, 1, 0, 2, 1])
    weights = np.concatenate(list(Bootstrap(clusters, 50, 0).weights()))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def paired(n: int, factor: float, seed: int) -> tuple[str, bool]:
    """Verdict of pairs, and whether the two intervals overlap, for errors that differ by a factor."""
    rng = np.random.default_rng(seed)
    sums, counts = structures(rng, n)
    theirs = sums * rng.lognormal(0, 0.05, n)
    a, b = ratio_samples(factor * sums, counts, seed), ratio_samples(theirs, counts, seed)
    mine, other = interval(a, n), interval(b, n)
    return verdict(*interval(a - b, n)), mine[1] > other[0]


def test_pairs_see_an_improvement_that_separate_intervals_do_not() -> None:
    found = [paired(30, 0.9, seed) for seed in range(40)]
    assert all(said == "better" for said, _ in found)
    assert all(overlap for _, overlap in found)
    assert all(said == "worse" for said, _ in (paired(30, 1.1, seed) for seed in range(40)))


def test_equal_models_are_seldom_told_apart() -> None:
    """One in twenty by the level; of 300, more than 30 would be 4 standard deviations too many."""
    said = [paired(30, np.exp(0.05**2 / 2), seed)[0] for seed in range(300)]
    assert sum(word != "not distinguishable" for word in said) <= 30
    assert paired(30, 1.0, 0)[0] in ("better", "worse", "not distinguishable")
    assert verdict(0.0, 0.0) == "not distinguishable"
    assert verdict(float("nan"), float("nan")) == "not distinguishable"


def test_the_interval_of_a_mean_is_students_for_normal_values() -> None:
    """Of 400 normal values; 2,000 resamples place the ends within some percent of the width."""
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    half = t.ppf(0.975, 399) * values.std(ddof=1) / np.sqrt(400)
    low, high = interval_of_mean(values)
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)
    assert np.isnan(interval_of_mean([1.0])).all()

"""Scales of labels, intervals that hold, domains, and structures that are known again."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from atomml.errors import OptionError, StructureError
from atomml.property.conformal import calibrate, calibrate_classes, coverage_interval
from atomml.property.domain import Known, duplicates_within, make_domain
from atomml.property.folds import grouped_folds, prototype_of, random_folds
from atomml.property.judgement import class_sets
from atomml.property.scores import class_scores, number_scores
from atomml.property.targets import Target, parse_targets


@given(st.floats(-1e6, 1e6))
def test_scales_can_be_undone(value: float) -> None:
    for transform in ("none", "abs", "log", "signed-log"):
        x = abs(value) + 1e-3 if transform in ("abs", "log") else value
        target = Target("x", transform)
        assert float(target.value(target.learned(x))) == pytest.approx(x, rel=1e-9, abs=1e-9)


def test_a_scale_keeps_order_so_intervals_stay_intervals() -> None:
    x = np.sort(np.random.default_rng(0).normal(0, 100, 200))
    assert (np.diff(Target("x", "signed-log").learned(x)) > 0).all()


@pytest.mark.parametrize(
    ("target", "value", "word"),
    [
        (Target("x", "log"), -1.0, "signed-log"),
        (Target("x"), "much", "number"),
        (Target("x"), np.inf, "finite"),
        (Target("x", classes=("a", "b")), "c", "class"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_their_place(target: Target, value: object, word: str) -> None:
    with pytest.raises(StructureError, match=f"frame 7.*{word}"):
        target.encode(value, "f.extxyz, frame 7")


@pytest.mark.parametrize("texts", [[], ["x:cube"], ["x", "x"], [":log"]])
def test_targets_that_cannot_be_are_refused(texts: list[str]) -> None:
    with pytest.raises(OptionError):
        parse_targets(texts)


def test_missing_labels_are_missing_however_they_are_written() -> None:
    assert all(np.isnan(Target("x").encode(value, "")) for value in (None, "", "nan", np.nan))


@pytest.mark.parametrize("ensemble", [False, True])
def test_intervals_hold_nine_in_ten_values_whatever_the_model(ensemble: bool) -> None:
    """Errors of heavy tails whose size differs from structure to structure; mean coverage of 400 trials.

    Exchangeability gives 0.9 to 0.9 + 1/(n + 1); the mean over 400 trials of 100 is known to 0.002.
    """
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        size = rng.uniform(0.2, 3.0, 160)
        errors = size * rng.standard_t(3, 160)
        spread = size * rng.uniform(0.5, 1.5, 160) if ensemble else np.zeros(160)
        one = calibrate(errors[:60], spread[:60])
        shares.append((np.abs(errors[60:]) <= one.half_width(spread[60:])).mean())
    assert 0.892 < np.mean(shares) < 0.9 + 1 / 61 + 0.008


def test_sets_of_classes_hold_nine_in_ten() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(300):
        p = rng.dirichlet([1.0, 1.0, 1.0], 160)
        labels = np.array([rng.choice(3, p=row) for row in p]).astype(float)
        wrong = p**0.3 / (p**0.3).sum(1, keepdims=True)  # a model that is not calibrated
        one = calibrate_classes(wrong[:60], labels[:60])
        shares.append(class_sets(one, wrong[60:])[np.arange(100), labels[60:].astype(int)].mean())
    assert 0.89 < np.mean(shares) < 0.93


def test_too_few_structures_give_no_interval() -> None:
    assert np.isinf(calibrate(np.ones(8), np.zeros(8)).quantile)
    assert np.isfinite(calibrate(np.ones(9), np.zeros(9)).quantile)


def test_the_interval_of_a_coverage_holds_what_was_aimed_at() -> None:
    """In 95% of trials, give or take, though calibration and test set are both finite."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(1500):
        scores = rng.random(250 + 300)
        quantile = np.sort(scores[:250])[int(np.ceil(251 * 0.9)) - 1]
        low, high = coverage_interval(int((scores[250:] <= quantile).sum()), 300, 250)
        hits += low <= 0.9 <= high
    assert 0.93 < hits / 1500 < 0.975


def test_scores_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(size=200)
    p = y + 0.5 * rng.normal(size=200)
    y[3] = np.nan
    found = number_scores(y, p)
    known = np.isfinite(y)
    r2 = 1 - ((y - p)[known] ** 2).sum() / ((y[known] - y[known].mean()) ** 2).sum()
    assert found["n"] == 199
    assert found["r2"][0] == pytest.approx(r2)
    assert found["r2"][1] < r2 < found["r2"][2]
    assert found["mae"][0] == pytest.approx(np.abs(y - p)[known].mean())
    labels = np.array([0.0, 0, 0, 1, np.nan])
    classes = class_scores(labels, np.eye(2)[[0, 0, 1, 1, 0]])
    assert classes["accuracy"][0] == pytest.approx(0.75)
    assert classes["balanced_accuracy"][0] == pytest.approx((2 / 3 + 1) / 2)


def test_a_domain_tells_apart_what_training_saw() -> None:
    rng = np.random.default_rng(5)
    train, held = rng.normal(size=(400, 6)), rng.normal(size=(100, 6))
    domain = make_domain(train, held)
    like, far = domain.distance(rng.normal(size=(300, 6))), domain.distance(rng.normal(size=(50, 6)) + 8)
    assert 0.88 < (like <= 1).mean() < 0.99
    assert (far > 1).all()
    assert (make_domain(train, np.empty((0, 6))).distance(far[:, None] * np.ones(6)) > 1).all()


def test_training_structures_are_known_again_in_any_cell() -> None:
    salt, iodide = bulk("NaCl", "rocksalt", 5.64), bulk("CsI", "cesiumchloride", 4.5)
    known = Known.of([salt, iodide], ["salt", "iodide"])
    turned = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    turned.positions += 3.3
    assert known.same_as(turned[::-1]) == "salt"
    assert known.same_as(iodide * (2, 1, 1)) == "iodide"
    assert known.same_as(bulk("NaCl", "rocksalt", 5.8)) is None
    assert known.same_as(bulk("KCl", "rocksalt", 5.64)) is None
    pairs = duplicates_within([salt, iodide, turned], ["a", "b", "c"])
    assert pairs == [("a", "c")]


def test_folds_hold_every_structure_once_and_prototypes_whole() -> None:
    groups = [f"g{k % 7}" for k in range(50)]
    for folds in (random_folds(50, 5, 0), grouped_folds(groups, 5, 0)):
        assert sorted(np.concatenate(folds).tolist()) == list(range(50))
    for fold in grouped_folds(groups, 5, 0):
        inside = {groups[k] for k in fold}
        outside = {groups[k] for k in range(50) if k not in fold}
        assert not inside & outside
    assert prototype_of(bulk("NaCl", "rocksalt", 5.6, cubic=True)) == "AB-225"
    assert prototype_of(bulk("Si")) == "A-227"

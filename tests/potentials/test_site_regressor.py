"""Regression on features of sites: its closed forms, its honesty, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atomml.base_model import ModelInfo
from atomml.checkpoint import load_any_model, save_model
from atomml.errors import ModelError
from atomml.potentials.site_regressor import Fit, SiteRegressor, anchors_of, choose_smoother, fitted_to
from atomml.potentials.site_regressor.fitting import CONSTANT, kernel, nearest, standardised

Array = NDArray[np.float64]


@pytest.fixture
def planted() -> tuple[Array, Array, NDArray[np.int64]]:
    """Features of 120 sites in 12 groups, and a smooth function of them with a little noise."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(12), 10)
    features = rng.normal(size=(120, 6)) + 0.5 * rng.normal(size=(12, 6))[groups]
    labels = 2.0 + np.sin(features[:, 0]) + 0.3 * features[:, 1] + 0.05 * rng.normal(size=120)
    return features, labels, groups


def info(elements: tuple[int, ...] = (3, 8)) -> ModelInfo:
    return ModelInfo(name="r", family="site-regressor", cutoff=6.0, elements=elements, kind="property")


@pytest.mark.parametrize(("length", "ridge"), [(0.6, 1e-3), (2.5, 0.1)])
def test_what_is_left_out_was_not_there(planted: Any, length: float, ridge: float) -> None:
    """The closed form is the fit without the group: made anew, and whatever its labels say."""
    features, labels, groups = planted
    z, _, _ = standardised(features)
    anchors = z[anchors_of(z, 40)]
    found = Fit(z, anchors, length).left_out(labels, groups, ridge)
    lies = np.where(groups == 3, 99.0, labels)
    for group in (0, 3, 11):
        kept = groups != group
        weights = Fit(z[kept], anchors, length).coefficients(labels[kept], ridge)
        anew = kernel(z[~kept], anchors, length) @ weights
        np.testing.assert_allclose(found[~kept], anew, atol=1e-6)
    with_lies = Fit(z, anchors, length).left_out(lies, groups, ridge)
    np.testing.assert_allclose(with_lies[groups == 3], found[groups == 3], atol=1e-6)


def test_with_all_anchors_it_is_kernel_ridge_regression(planted: Any) -> None:
    """Coefficients (K + r)⁻¹ y, which the normal equations with K as design give too."""
    features, labels, _ = planted
    z, _, _ = standardised(features)
    weights = Fit(z, z, 1.2).coefficients(labels, 0.1)
    gram = kernel(z, z, 1.2)
    exact = gram @ np.linalg.solve(gram + 0.1 * np.eye(len(z)), labels)
    np.testing.assert_allclose(gram @ weights, exact, atol=1e-5)
    assert gram[0, 0] == CONSTANT + 1


def test_anchors_cover_and_none_is_taken_twice() -> None:
    rng = np.random.default_rng(1)
    points = np.repeat(rng.normal(size=(30, 4)), 3, axis=0)
    chosen = anchors_of(points, 60)
    assert len(chosen) == len(np.unique(points[chosen], axis=0)) == 30
    few = anchors_of(points, 8)
    assert nearest(points, points[few]).max() < nearest(points, points[:8]).max()
    assert nearest(points, points[chosen]).max() < 1e-6


def test_it_learns_and_falls_back_to_a_constant_far_away(planted: Any) -> None:
    features, labels, groups = planted
    z, _, _ = standardised(features)
    chosen = choose_smoother(z, z, labels, groups)
    error = Fit(z, z, chosen.length).left_out(labels, groups, chosen.ridge) - labels
    assert np.abs(error).mean() < 0.35 * np.abs(labels - labels.mean()).mean()
    fit = fitted_to(features, labels, groups, 120)
    assert fit.smoother == chosen
    model = SiteRegressor.fitted(fit, info(), target="e", unit="eV")
    far = model.answer(features + 1e3, np.full(120, 3)).value
    assert np.ptp(far) < 1e-9
    assert labels.min() < far[0] < labels.max()


def test_a_file_gives_the_same_answers_and_says_what_it_does_not_know(planted: Any, tmp_path: Path) -> None:
    features, labels, groups = planted
    facts: dict[str, Any] = {"target": "e", "unit": "eV", "known": 0.3, "new": 0.9, "reach": 1.5}
    fit = fitted_to(features, labels, groups, 50)
    model = SiteRegressor.fitted(fit, info(), **facts)
    np.testing.assert_array_equal(model.answer(features, np.full(120, 3)).value, fit.predict(features))
    save_model(model, tmp_path / "r.safetensors")
    loaded = load_any_model(tmp_path / "r.safetensors", "float32", "cpu")
    assert isinstance(loaded, SiteRegressor)
    assert loaded.anchors.dtype == torch.float64
    elements = np.array([3, 8, 9])
    sites = np.concatenate([features[:2], features[:1]])
    one, other = model.answer(sites, elements), loaded.answer(sites, elements)
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(other.half_width, [0.3, 0.3, 0.9])
    assert other.outside.tolist() == [False, False, True]  # fluorine was not among the training sites
    assert loaded.answer(features[:1] + 50, np.array([3])).outside.all()
    with pytest.raises(ModelError, match="6 features"):
        loaded.answer(features[:, :5], elements)

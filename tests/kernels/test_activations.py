"""Vectorised functions against the library's, and gates against torch with its autograd."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch

from atomml.kernels.activations import (
    exponential,
    gate_backward,
    gate_forward,
    sigmoid,
    sigmoids,
    silu_backward,
    silu_rows,
    sine_cosine,
)

PRECISIONS = [np.float32, np.float64]


@numba.njit(error_model="numpy")
def apply(x: Any, y: Any, which: int) -> None:
    for i in range(x.size):
        y[i] = exponential(x[i]) if which == 0 else sigmoid(x[i])


@numba.njit
def apply_waves(x: Any, s: Any, c: Any) -> None:
    for i in range(x.size):
        s[i], c[i] = sine_cosine(x[i])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_exponential_is_within_two_ulp(dtype: type[np.floating[Any]]) -> None:
    x = np.linspace(-80, 80, 200_001).astype(dtype)
    y = np.empty_like(x)
    apply(x, y, 0)
    exact = np.exp(x.astype(np.longdouble))
    assert float(np.abs(y / exact - 1).max()) < 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_far_arguments_saturate_without_overflow(dtype: type[np.floating[Any]]) -> None:
    x = np.array([-1e30, -1000, 1000, 1e30], dtype)
    y = np.empty_like(x)
    apply(x, y, 1)
    np.testing.assert_allclose(y, [0, 0, 1, 1], atol=1e-37)


@numba.njit(error_model="numpy")
def apply_sigmoids(a: Any, b: Any, p: Any, q: Any) -> None:
    for i in range(a.size):
        p[i], q[i] = sigmoids(a[i], b[i])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_two_sigmoids_by_one_division_are_those_of_two(dtype: type[np.floating[Any]]) -> None:
    """Far below zero they are tiny numbers, never NaN, whatever the other one is."""
    side = np.concatenate([np.linspace(-42, 42, 401), [-1e30, -1000, -90, -60, 60, 90, 1000, 1e30]])
    a, b = (grid.ravel().astype(dtype) for grid in np.meshgrid(side, side))
    p, q = np.empty_like(a), np.empty_like(b)
    apply_sigmoids(a, b, p, q)
    for value, x in ((p, a), (q, b)):
        exact = 1 / (1 + np.exp(np.minimum(-x.astype(np.longdouble), 11000)))
        # Two exponentials within two units, then four roundings.
        assert float(np.abs(value / exact - 1)[np.abs(x) <= 42].max()) < 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(value, exact.astype(float), atol=3e-19, rtol=8 * np.finfo(dtype).eps)


def test_sine_and_cosine_to_the_last_bits() -> None:
    x = np.linspace(-200, 200, 200_001)
    s, c = np.empty_like(x), np.empty_like(x)
    apply_waves(x, s, c)
    # One rounding of the result and one of the reduced argument.
    np.testing.assert_allclose(s, np.sin(x), atol=5e-16, rtol=0)
    np.testing.assert_allclose(c, np.cos(x), atol=5e-16, rtol=0)


def test_silu_and_its_derivative() -> None:
    rng = np.random.default_rng(0)
    h, upstream = rng.normal(size=(9, 6)) * 3, rng.normal(size=(4, 6))
    x = torch.tensor(h[3:7], requires_grad=True)
    torch.nn.functional.silu(x).backward(torch.tensor(upstream))
    gradient, s = upstream.copy(), np.empty((9, 6))
    silu_backward(h, 3, gradient, 4)
    silu_rows(h, s, 9)
    np.testing.assert_allclose(gradient, x.grad, atol=1e-14)
    np.testing.assert_allclose(s, torch.nn.functional.silu(torch.tensor(h)), atol=1e-14)


def test_gate_and_its_way_back_equal_torch() -> None:
    rng = np.random.default_rng(1)
    n, c, row = 5, 8, 2
    raw, upstream = rng.normal(size=(n, 2 * c)), rng.normal(size=(n, c))
    scale, shift = rng.normal(size=2 * c), rng.normal(size=2 * c)
    x = torch.tensor(raw, requires_grad=True)
    halves = [
        torch.nn.functional.layer_norm(x[:, part], (c,), torch.tensor(scale[part]), torch.tensor(shift[part]))
        for part in (slice(0, c), slice(c, None))
    ]
    expected = torch.nn.functional.silu(halves[0]) * torch.sigmoid(halves[1])
    expected.backward(torch.tensor(upstream))

    def centre(y: np.ndarray) -> np.ndarray:
        return np.hstack([half - half.mean(axis=1, keepdims=True) for half in np.split(y, 2, axis=1)])

    normed, inverse = np.empty((n + row, 2 * c)), np.empty((n + row, 2))
    message, again, back = np.empty((n, c)), np.empty((n, c)), np.empty((n, 2 * c))
    gate_forward(centre(raw), n, scale, shift, normed, row, inverse, message)
    gate_backward(upstream, n, scale, shift, normed, row, inverse, again, back)
    np.testing.assert_allclose(message, expected.detach(), atol=1e-13)
    np.testing.assert_allclose(again, message, atol=1e-15)
    np.testing.assert_allclose(centre(back), x.grad, atol=1e-13)

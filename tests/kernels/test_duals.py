"""Values that carry a tangent: finite differences forwards, the transpose of the same map backwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from atomml.kernels.duals import HALF, gate_duals, gate_duals_backward, silu_duals, silu_duals_backward

C = 8
Rows = np.ndarray
STEP = 1e-5
# Central differences of functions with third derivatives of order 1 to 10, values of order 1 to 100: the step
# leaves 1e-10 by truncation and 1e-16 / 1e-5 by rounding.
CLOSE = {"rtol": 1e-6, "atol": 2e-8}


def centred(rows: Rows) -> Rows:
    """Each half of each row without its mean, as the weights before a norm leave it."""
    return np.hstack([half - half.mean(axis=1, keepdims=True) for half in np.split(rows, 2, axis=1)])


def random(*shape: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).normal(size=shape)


def silu(x: Rows) -> Rows:
    result = np.empty_like(x)
    silu_duals(x, result)
    return result


def gate(y: Rows, scale: Rows, shift: Rows) -> Rows:
    message = np.empty((2 * HALF, C))
    gate_duals(y, scale, shift, message)
    return message


def moved(y: Rows, by: float) -> Rows:
    """Values moved along their own tangents, which stay as they are."""
    return np.vstack([y[:HALF] + by * y[HALF:], y[HALF:]])


def directional(function: Callable[[Rows], Rows], at: Rows, along: Rows) -> Rows:
    return np.asarray(function(at + STEP * along) - function(at - STEP * along)) / (2 * STEP)


def test_tangents_of_silu_are_its_directional_derivatives() -> None:
    x = 2 * random(2 * HALF, 5)
    along = (silu(moved(x, STEP))[:HALF] - silu(moved(x, -STEP))[:HALF]) / (2 * STEP)
    np.testing.assert_allclose(silu(x)[HALF:], along, **CLOSE)


def test_tangents_of_the_gate_are_its_directional_derivatives() -> None:
    y, scale, shift = centred(random(2 * HALF, 2 * C)), random(2 * C, seed=1), random(2 * C, seed=2)
    ahead, behind = (gate(moved(y, by), scale, shift)[:HALF] for by in (STEP, -STEP))
    np.testing.assert_allclose(gate(y, scale, shift)[HALF:], (ahead - behind) / (2 * STEP), **CLOSE)


def test_tangents_are_linear_and_do_not_touch_values() -> None:
    y, scale, shift = centred(random(2 * HALF, 2 * C)), random(2 * C, seed=1), random(2 * C, seed=2)
    twice = np.vstack([y[:HALF], -3 * y[HALF:]])
    one, other = gate(y, scale, shift), gate(twice, scale, shift)
    np.testing.assert_array_equal(one[:HALF], other[:HALF])
    np.testing.assert_allclose(other[HALF:], -3 * one[HALF:], rtol=1e-12, atol=1e-14)


def test_a_gate_without_scale_passes_only_its_shift() -> None:
    """Norms times zero forget the row: every message is silu(b) σ(b'), and no tangent is left."""
    shift = random(2 * C, seed=2)
    found = gate(centred(random(2 * HALF, 2 * C)), np.zeros(2 * C), shift)
    sigmoid = 1 / (1 + np.exp(-shift))
    expected = shift[:C] * sigmoid[:C] * sigmoid[C:]
    np.testing.assert_allclose(found[:HALF], np.tile(expected, (HALF, 1)), rtol=1e-14)
    np.testing.assert_array_equal(found[HALF:], 0)


def test_a_row_scaled_by_any_factor_gives_the_same_message() -> None:
    """A layer norm sees directions only, but for its epsilon: 1e-5 beside a variance of 1e6."""
    y, scale, shift = 1e3 * centred(random(2 * HALF, 2 * C)), random(2 * C, seed=1), random(2 * C, seed=2)
    np.testing.assert_allclose(gate(7 * y, scale, shift), gate(y, scale, shift), rtol=1e-9, atol=1e-10)


def test_silu_backwards_is_the_transpose_of_silu_forwards() -> None:
    x, upstream, along = (2 * random(2 * HALF, 5, seed=seed) for seed in range(3))
    gradient = upstream.copy()
    silu_duals_backward(x, gradient)
    # One number out of 160 products; their errors add up as in a random walk.
    assert (gradient * along).sum() == pytest.approx(
        (upstream * directional(silu, x, along)).sum(), rel=1e-6, abs=1e-7
    )


@pytest.mark.parametrize("part", ["values", "tangents"])
def test_the_gate_backwards_is_the_transpose_of_the_gate_forwards(part: str) -> None:
    """<g, J d> = <Jᵀ g, d> for the values' rows and the tangents' rows by themselves, and for both norms."""
    y, scale, shift = centred(random(2 * HALF, 2 * C)), random(2 * C, seed=1), random(2 * C, seed=2)
    upstream = random(2 * HALF, C, seed=3)
    upstream[HALF:] *= part == "tangents"
    upstream[:HALF] *= part == "values"
    message, back = np.empty((2 * HALF, C)), np.empty((2 * HALF, 2 * C))
    before = random(2, 2 * C, seed=4)
    scale_bar, shift_bar = before.copy()
    gate_duals_backward(y, scale, shift, upstream, message, back, scale_bar, shift_bar)
    np.testing.assert_allclose(message, gate(y, scale, shift), rtol=1e-12, atol=1e-14)
    along, by_scale, by_shift = centred(random(2 * HALF, 2 * C, seed=5)), *random(2, 2 * C, seed=6)
    wanted = (upstream * directional(lambda rows: gate(rows, scale, shift), y, along)).sum()
    assert (back * along).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-7)
    wanted = (upstream * directional(lambda s: gate(y, s, shift), scale, by_scale)).sum()
    assert ((scale_bar - before[0]) * by_scale).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-7)
    wanted = (upstream * directional(lambda s: gate(y, scale, s), shift, by_shift)).sum()
    assert ((shift_bar - before[1]) * by_shift).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-7)

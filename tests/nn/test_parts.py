"""Bases at their known values, the factored gate against its concatenation, sums that differentiate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atomml.nn import BesselBasis, FourierBasis, GatedMLP, polynomial_cutoff, segment_sum
from atomml.nn.segment import gather


@pytest.mark.parametrize("power", [5, 6, 8])
def test_the_envelope_ends_with_two_zero_derivatives(power: int) -> None:
    x = torch.tensor([1.0 - 1e-9], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(x, power)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    # The first derivative that is not zero is the third, -p(p+1)(p+2): times the distance 1e-9.
    assert abs(float(value.detach())) < 1e-15
    assert abs(float(first.detach())) < 1e-13
    third = power * (power + 1) * (power + 2)
    assert abs(float(second)) == pytest.approx(third * 1e-9, rel=1e-4)
    assert float(polynomial_cutoff(torch.zeros(1), power)) == 1.0
    assert float(polynomial_cutoff(torch.tensor([1.5]), power)) == 0.0


def test_bessel_functions_are_orthonormal_in_the_sphere() -> None:
    basis = BesselBasis(4, 5.0, power=8).double()
    r = torch.linspace(1e-6, 5.0, 200_001, dtype=torch.float64)
    bare = basis(r) / polynomial_cutoff(r[:, None] / 5.0, 8).clamp_min(1e-300)
    bare[-1] = 0
    overlap = torch.trapezoid((bare[:, :, None] * bare[:, None, :]) * r[:, None, None] ** 2, r, dim=0)
    np.testing.assert_allclose(overlap.detach(), np.eye(4), atol=1e-5)


def test_fourier_functions_are_orthogonal_on_the_circle() -> None:
    basis = FourierBasis(7).double()
    angle = torch.arange(0, 2 * math.pi, 2 * math.pi / 64, dtype=torch.float64)
    values = basis(angle).detach()
    overlap = values.T @ values * 2 * math.pi / 64
    # The constant carries float32's 1/sqrt(2): 2e-8 off.
    np.testing.assert_allclose(overlap, np.eye(7), atol=1e-7)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_the_gate_taken_apart_equals_the_gate_of_a_concatenation(hidden: bool, norm: bool) -> None:
    torch.manual_seed(0)
    mlp = GatedMLP((3, 2), 4, hidden=hidden, norm=norm).double()
    owners, rows = torch.randn(5, 3).double(), torch.randn(7, 2).double()
    index = torch.tensor([0, 4, 4, 1, 2, 2, 3])
    x = torch.cat([owners[index], rows], dim=1)
    core, gate = mlp.first(x).chunk(2, dim=1)
    if hidden:
        assert mlp.core is not None
        assert mlp.gate is not None
        core, gate = mlp.core(torch.nn.functional.silu(core)), mlp.gate(torch.nn.functional.silu(gate))
    if norm:
        assert mlp.core_norm is not None
        assert mlp.gate_norm is not None
        core, gate = mlp.core_norm(core), mlp.gate_norm(gate)
    expected = torch.nn.functional.silu(core) * torch.sigmoid(gate)
    torch.testing.assert_close(mlp([(owners, index), (rows, None)]), expected, atol=1e-14, rtol=1e-14)


def test_segment_sums_and_gathers_differentiate_twice() -> None:
    index = torch.tensor([2, 0, 2, 2, 1])
    values = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    table = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: segment_sum(v, index, 4), values)
    assert torch.autograd.gradgradcheck(lambda v: segment_sum(v, index, 4) ** 3, values)
    assert torch.autograd.gradgradcheck(lambda t: gather(t, index) ** 3, table)
    by_hand = [values[index == k].sum(dim=0) for k in range(4)]
    torch.testing.assert_close(segment_sum(values, index, 4), torch.stack(by_hand))

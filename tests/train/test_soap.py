"""SOAP against what it is in special cases, and against Adam where the coordinates are badly chosen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from atomml.train.soap import SOAP

DTYPE = torch.float64


def _rotation(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=DTYPE))[0]


def _gradients(count: int, shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=DTYPE) for _ in range(count)]


def _walk(optimiser: torch.optim.Optimizer, parameter: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(7,), (1,), (3, 4, 5)])
def test_what_is_no_matrix_moves_as_with_adamw(shape: tuple[int, ...]) -> None:
    ours, theirs = torch.ones(shape, dtype=DTYPE), torch.ones(shape, dtype=DTYPE)
    gradients = _gradients(30, shape)
    options = {"lr": 0.01, "betas": (0.95, 0.95), "weight_decay": 0.1}
    found = _walk(SOAP([{"params": [ours]}], **options), ours, gradients)  # type: ignore[arg-type]
    expected = _walk(torch.optim.AdamW([theirs], **options), theirs, gradients)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_an_embedding_moves_as_with_adamw() -> None:
    """Rows whose element never comes do not move at all."""
    ours, theirs = torch.ones(5, 4, dtype=DTYPE), torch.ones(5, 4, dtype=DTYPE)
    gradients = _gradients(30, (5, 4))
    for gradient in gradients:
        gradient[[1, 3]] = 0.0
    found = _walk(SOAP([{"params": [ours]}], 0.01, plain=[ours]), ours, gradients)
    expected = _walk(torch.optim.AdamW([theirs], 0.01, (0.95, 0.95), weight_decay=0), theirs, gradients)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(found[[1, 3]], torch.ones(2, 4, dtype=DTYPE))


def test_turned_coordinates_do_not_matter() -> None:
    """A turned problem is solved by turned steps: U W Vᵀ for every gradient U G Vᵀ; Adam's steps differ.

    Adam's step is not turned with the gradient: its coordinates are special. The bases of SOAP are
    fixed by the gradients (square ones, so that no eigenvalue is zero) up to signs, and signs cancel.
    """
    left, right = _rotation(6, 1), _rotation(6, 2)
    scales = torch.logspace(0, -1.5, 6, dtype=DTYPE)[:, None] * torch.logspace(0, -1, 6, dtype=DTYPE)
    gradients = [scales * gradient for gradient in _gradients(25, (6, 6))]
    turned = [left @ gradient @ right.T for gradient in gradients]

    def end(kind: type[torch.optim.Optimizer], steps: list[Tensor]) -> Tensor:
        parameter = torch.zeros(6, 6, dtype=DTYPE)
        return _walk(kind([{"params": [parameter]}], lr=0.01, betas=(0.9, 0.9)), parameter, steps)  # type: ignore[call-arg]

    expected = left @ end(SOAP, gradients) @ right.T
    torch.testing.assert_close(
        end(SOAP, turned), expected, rtol=1e-4, atol=1e-6
    )  # eigenvectors of close eigenvalues
    adam = torch.optim.Adam
    assert float((end(adam, turned) - left @ end(adam, gradients) @ right.T).abs().max()) > 1e-3


def test_bases_stay_orthogonal_and_come_to_diagonalise() -> None:
    """With gradients of one distribution, L in its basis becomes diagonal, largest eigenvalue first."""
    left = _rotation(8, 3)
    scales = torch.logspace(0, -2, 8, dtype=DTYPE)[:, None]
    parameter = torch.zeros(8, 8, dtype=DTYPE)
    optimiser = SOAP([{"params": [parameter]}], 1e-3, betas=(0.95, 0.999))
    _walk(optimiser, parameter, [left @ (scales * gradient) for gradient in _gradients(400, (8, 8))])
    state = optimiser.state[parameter]
    for side in ("left", "right"):
        basis = state[f"{side}_basis"]
        torch.testing.assert_close(basis.T @ basis, torch.eye(8, dtype=DTYPE), rtol=0, atol=1e-12)
    turned = state["left_basis"].T @ state["left"] @ state["left_basis"]
    values = turned.diagonal()
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    weight = values.sqrt()
    off = (turned - torch.diag(values)).abs() / (weight[:, None] * weight)
    assert float(off.max()) < 0.1


def test_long_sides_keep_the_identity() -> None:
    parameter = torch.zeros(6, 4, dtype=DTYPE)
    optimiser = SOAP([{"params": [parameter]}], 1e-3, largest=5)
    _walk(optimiser, parameter, _gradients(3, (6, 4)))
    assert set(optimiser.state[parameter]) == {"step", "first", "second", "right", "right_basis"}


def test_a_badly_conditioned_matrix_is_learnt_in_fewer_steps_than_with_adam() -> None:
    """Least squares with inputs and outputs mixed: |A (W - W*) B|², condition numbers of 100 each."""
    scales = torch.logspace(0, -2, 12, dtype=DTYPE)
    before = _rotation(12, 4) @ torch.diag(scales) @ _rotation(12, 5)
    after = _rotation(12, 6) @ torch.diag(scales) @ _rotation(12, 7)
    target = _gradients(1, (12, 12), 8)[0]

    def end(make: type[torch.optim.Optimizer]) -> float:
        parameter = torch.zeros(12, 12, dtype=DTYPE, requires_grad=True)
        optimiser = make([{"params": [parameter]}], lr=0.03, betas=(0.95, 0.95))  # type: ignore[call-arg]
        steps = 600
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 0.03 * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = (before @ (parameter - target) @ after).square().sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float((before @ (parameter.detach() - target) @ after).square().sum())

    assert end(SOAP) < 0.1 * end(torch.optim.Adam)

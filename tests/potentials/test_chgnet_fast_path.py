"""The fast path goes with the weights as they are, and its threads change no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import nn

from atomml import load_model
from atomml.graph import GraphBuilder
from atomml.model import Potential

STRUCTURE = bulk("Si", cubic=True) * (2, 1, 1)
STRUCTURE.rattle(0.1, seed=3)


@pytest.fixture
def model() -> Potential:
    """Weights that a test may change."""
    return load_model("chgnet-0.3.0", dtype="float64")


def _first(model: Potential) -> tuple[nn.Module, str, torch.Tensor]:
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() == 2 and min(weight.shape) > 1:
                return module, name, weight
    raise AssertionError("no matrix")


def _in_place(model: Potential) -> None:
    with torch.no_grad():
        _first(model)[2].mul_(1.01)


def _other_memory(model: Potential) -> None:
    weight = _first(model)[2]
    weight.data = weight.data * 1.01


def _other_parameter(model: Potential) -> None:
    module, name, weight = _first(model)
    setattr(module, name, nn.Parameter(weight.detach() * 1.01))


@pytest.mark.parametrize("change", [_in_place, _other_memory, _other_parameter])
def test_changed_weights_are_seen(model: Potential, change: Callable[[Potential], None]) -> None:
    """However they were changed: in place, by other memory, by another parameter."""
    graph = GraphBuilder.for_model(model)(STRUCTURE)
    before = model.predict(graph, path="fast").energy
    change(model)
    fast, plain = (model.predict(graph, path=path) for path in ("fast", "plain"))  # type: ignore[arg-type]
    assert abs(float(fast.energy - before)) > 1e-4
    torch.testing.assert_close(fast.energy, plain.energy, atol=1e-9, rtol=0)
    torch.testing.assert_close(fast.forces, plain.forces, atol=1e-8, rtol=0)


def test_the_number_of_threads_changes_no_bit() -> None:
    """Ranges end elsewhere with more threads, and each sum is within a range."""
    model = load_model("chgnet-0.3.0")
    graph = GraphBuilder.for_model(model)(bulk("Cu", cubic=True) * 3)
    before = torch.get_num_threads()
    found: list[list[Any]] = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            prediction = model.predict(graph, path="fast")
            found.append([prediction.energy, prediction.forces, prediction.stress, prediction.magmoms])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one.numpy(), two.numpy())

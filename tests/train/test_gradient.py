"""The gradient of a batch: right, the same however it is cut, and cut smaller when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from atomml.data.dataset import ListDataset
from atomml.errors import RunFailedError
from atomml.model import Potential
from atomml.train.batches import Limits
from atomml.train.losses import Loss
from atomml.train.potential_objective import PotentialObjective
from atomml.train.processes import Processes
from atomml.train.samples import Sample, Samples
from atomml.train.step import BatchGroup, Gradient, Gradients, is_out_of_memory
from atomml.train.validation import validate
from atomml.train.weights import WeightSchedule

WIDE = Limits(10_000, 10_000_000)


def loss_of(kind: str = "mse") -> Loss:
    weights = {"energy": 1.0, "forces": 3.0, "stress": 20.0, "magmoms": 0.0}
    return Loss(kind, 0.05, {name: WeightSchedule.parse(w, name) for name, w in weights.items()})


@pytest.fixture(scope="module")
def alone() -> Processes:
    return Processes("cpu")


@pytest.fixture
def samples(tiny: Callable[..., Potential], dataset: ListDataset) -> list[Sample]:
    whole = Samples(dataset, tiny())
    return [whole[k] for k in range(6)]


def gradient(
    model: Potential, samples: list[Sample], processes: Processes, limits: Limits = WIDE, **more: Any
) -> Gradient:
    return Gradients(model, PotentialObjective(loss_of()), processes, limits, **more)(
        [BatchGroup(samples)], 0.0
    )


def test_gradient_is_the_slope_of_the_loss(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes
) -> None:
    """Central differences along random directions of the weights.

    The loss holds forces and stress, so this is a mixed second derivative of the energy. Truncation goes as
    h², rounding as 1e-16/h: 1e-5 leaves about 1e-9 of values of order one.
    """
    model = tiny().requires_grad_(True)
    found = gradient(model, samples, alone)
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = sum(float((g * d).sum()) for g, d in zip(found.tensors, direction, strict=True))
        values = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=h)
            values.append(gradient(model, samples, alone).loss)
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=-h)
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("limits", [Limits(1, 1), Limits(4, 10**6), Limits(10**6, 150)])
def test_cutting_changes_nothing(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes, limits: Limits
) -> None:
    """float64: sums in another order agree to some 1e-13."""
    model = tiny().requires_grad_(True)
    whole, parts = gradient(model, samples, alone), gradient(model, samples, alone, limits)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    assert parts.errors.counts == whole.errors.counts
    for a, b in zip(whole.tensors, parts.tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def starve(model: Potential, most: int) -> list[int]:
    """Let the model run out of memory for more than ``most`` atoms; returns what it was asked for."""
    asked: list[int] = []
    whole = model.differentiable

    def hungry(graph: Any, **how: Any) -> Any:
        asked.append(graph.n_atoms)
        if graph.n_atoms > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")
        return whole(graph, **how)

    model.differentiable = hungry  # type: ignore[method-assign]
    return asked


def test_out_of_memory_is_answered_by_a_smaller_batch_and_a_message(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes
) -> None:
    expected = gradient(tiny().requires_grad_(True), samples, alone)
    model, said = tiny().requires_grad_(True), []
    asked = starve(model, 4)
    gradients = Gradients(model, PotentialObjective(loss_of()), alone, WIDE, said.append)
    found = gradients([BatchGroup(samples)], 0.0)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    for a, b in zip(expected.tensors, found.tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert said
    assert "Memory did not suffice" in said[0]
    asked.clear()
    gradients([BatchGroup(samples)], 0.0)
    assert max(asked) <= 6, "what did not fit once is not tried again"


def test_a_validation_too_large_for_the_memory_is_cut(
    tiny: Callable[..., Potential], dataset: ListDataset, alone: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes before the first step, whose gradient would have found the limits that hold."""
    model, objective = tiny(), PotentialObjective(loss_of())
    samples = Samples(dataset, model)
    expected = validate(model, samples, objective, alone, WIDE, parity=True)
    predict: Any = model.predict

    def hungry(graph: Any, **more: Any) -> Any:
        if graph.n_graphs > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(graph, **more)

    model.predict = hungry  # type: ignore[method-assign]
    found = validate(model, samples, objective, alone, WIDE, parity=True)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    assert found.errors.counts == expected.errors.counts
    assert found.parity is not None
    assert len(found.parity.table("energy")) == len(dataset)
    assert "Memory did not suffice to validate 10 structures" in caplog.text


def test_one_structure_that_does_not_fit_is_named(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes
) -> None:
    model = tiny().requires_grad_(True)
    starve(model, 0)
    with pytest.raises(RunFailedError, match=r"crystals, frame \d .* does not fit"):
        gradient(model, samples, alone, warn=lambda _: None)


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("expected scalar type Float but found Double"))


def test_a_loss_that_is_not_finite_stops_the_run(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes
) -> None:
    model = tiny().requires_grad_(True)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(RunFailedError, match="The loss is nan"):
        gradient(model, samples, alone)


def test_replayed_structures_count_by_their_weight_and_not_in_the_errors(
    tiny: Callable[..., Potential], samples: list[Sample], alone: Processes
) -> None:
    model = tiny().requires_grad_(True)
    mine, old = samples[:3], samples[3:]
    both = Gradients(model, PotentialObjective(loss_of()), alone, WIDE)(
        [BatchGroup(mine), BatchGroup(old, weight=0.5, reported=False)], 0.0
    )
    first, second = gradient(model, mine, alone), gradient(model, old, alone)
    assert both.loss == pytest.approx(first.loss + 0.5 * second.loss, rel=1e-12)
    assert both.errors == first.errors
    for a, b, c in zip(both.tensors, first.tensors, second.tensors, strict=True):
        torch.testing.assert_close(a, b + 0.5 * c, rtol=1e-9, atol=1e-12)

"""A loss that depends on every number that a potential predicts; laws of its gradients in the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Potential, Prediction

__all__ = ["assert_prediction_is_plain", "difference_along", "gradients", "insisting", "loss_of"]


def loss_of(found: Prediction, graph: AtomGraph, names: Iterable[str]) -> Tensor:
    """A smooth loss that asks every field for something else."""
    total = torch.zeros((), dtype=torch.float64)
    for k, name in enumerate(names):
        value = getattr(found, name)
        if name == "stress":
            value = 100 * value[graph.pbc.all(dim=1)]
        target = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape)
        total = total + ((value.double() - target) ** 2).mean() / (k + 1)
    return total


def gradients(model: Potential, graph: AtomGraph, names: Iterable[str]) -> dict[str, Tensor]:
    """Of the loss, by the path that ``differentiable`` takes; zeros where nothing depends."""
    model.zero_grad()
    loss_of(model.differentiable(graph, create_graph=True), graph, names).backward()
    return {
        name: torch.zeros_like(weights) if weights.grad is None else weights.grad.clone()
        for name, weights in model.named_parameters()
    }


def insisting(graph: AtomGraph) -> AtomGraph:
    """The same; positions that ask for a gradient insist on double backward."""
    return replace(graph, positions=graph.positions.clone().requires_grad_())


def difference_along(
    model: Potential,
    graph: AtomGraph,
    names: Iterable[str],
    along: Mapping[str, Tensor],
    path: Literal["plain", "fast"],
    step: float = 1e-4,
) -> float:
    """Slope of a path's loss along a direction of the weights, by differences of fourth order.

    The error falls as step^4, rounding grows as 1e-16 / step.
    """
    slope, wanted = 0.0, tuple(names)
    for point, weight in ((1, 2 / 3), (-1, -2 / 3), (2, -1 / 12), (-2, 1 / 12)):
        with torch.no_grad():
            for name, w in model.named_parameters():
                w += point * step * along[name]
            slope += weight / step * float(loss_of(model.predict(graph, path=path), graph, wanted))
            for name, w in model.named_parameters():
                w -= point * step * along[name]
    return slope


def assert_prediction_is_plain(model: Potential, graph: AtomGraph, names: Iterable[str]) -> None:
    """What a training path predicts is attached to the weights, and is what the plain path says."""
    ours, slow = model.differentiable(graph, create_graph=True), model.predict(graph, path="plain")
    for name in names:
        value, expected = getattr(ours, name), getattr(slow, name)
        assert value.requires_grad
        scale = float(expected.nan_to_num().abs().max())
        torch.testing.assert_close(value.detach(), expected, atol=1e-11 * scale, rtol=1e-11, equal_nan=True)

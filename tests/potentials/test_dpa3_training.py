"""DPA3's training path: same prediction and same weight gradients as double backward, and as differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from every_field import assert_prediction_is_plain, difference_along, gradients, insisting, loss_of
from test_dpa3 import FAST, PLAIN_ONLY, crystals, small
from torch import Tensor

from atomml.graph import build_graph
from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.dpa3 import DPA3
from atomml.potentials.dpa3.fast.bounded import bounded_parameters, value_and_bends_of_block
from atomml.potentials.dpa3.layers import activation
from atomml.potentials.dpa3.training import TrainingDPA3
from atomml.potentials.dpa3.training.network import activated

FIELDS = ("energy", "site_energies", "forces", "stress", "atom_features", "crystal_features")


@pytest.fixture(autouse=True)
def _one_thread_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def model_of(kind: str = "published kind", dtype: torch.dtype = torch.float64) -> DPA3:
    """Random weights that learn."""
    model = small(**(FAST | PLAIN_ONLY)[kind]).to(dtype)
    for weights in model.parameters():
        weights.requires_grad_()
    return model


def graph_of(copies: int = 1) -> AtomGraph:
    """Crystals, a layer, molecules, an atom alone; more bonds on an atom than a block has rows."""
    dense = bulk("Si", "fcc", 2.9)
    dense.rattle(0.05, seed=9)
    return build_graph([*crystals() * copies, dense, molecule("H2O")], 4.5, 3.5)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Sums of some ten thousand terms in float64, in another order."""
    scale = max(float(expected.abs().max()) for expected in theirs.values() if expected.numel())
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, atol=1e-12 * scale, rtol=1e-10, msg=name)


@pytest.mark.parametrize("kind", FAST)
def test_gradients_are_those_of_double_backward(kind: str) -> None:
    model, graph = model_of(kind), graph_of()
    assert isinstance(model.training_path(), TrainingDPA3)
    assert_same(gradients(model, graph, FIELDS), gradients(model, insisting(graph), FIELDS))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("names", [("forces",), ("stress",), ("energy",), ("energy", "forces")])
def test_each_label_alone_by_any_number_of_threads(names: tuple[str, ...], threads: int) -> None:
    model, graph = model_of(), graph_of(copies=2)
    torch.set_num_threads(threads)
    assert_same(gradients(model, graph, names), gradients(model, insisting(graph), names))


def test_one_structure_is_shared_by_threads_too() -> None:
    """Its parts add to copies of what they share."""
    model, graph = model_of(), build_graph(bulk("SiO", "zincblende", 4.6, cubic=True), 4.5, 3.5)
    torch.set_num_threads(2)
    assert_same(gradients(model, graph, FIELDS), gradients(model, insisting(graph), FIELDS))


def test_gradients_are_central_differences() -> None:
    model, graph = model_of(), graph_of()
    ours = gradients(model, graph, ("energy", "forces", "stress"))
    generator = torch.Generator().manual_seed(3)
    along = {
        name: torch.randn(w.shape, dtype=w.dtype, generator=generator) * (w.detach().abs().mean() + 1e-3)
        for name, w in model.named_parameters()
    }
    analytic = sum(float((ours[name] * along[name]).sum()) for name in along)
    numeric = difference_along(model, graph, ("energy", "forces", "stress"), along, "plain")
    assert numeric == pytest.approx(analytic, rel=1e-6)


@pytest.mark.parametrize("kind", ["published kind", "data sets"])
def test_the_prediction_is_that_of_the_plain_path(kind: str) -> None:
    model, graph = model_of(kind), graph_of()
    assert_prediction_is_plain(model, graph, FIELDS)


def test_float32_gradients_are_near_those_of_float64_with_the_same_bits_every_time() -> None:
    graph = graph_of()
    exact = gradients(model_of(), graph, FIELDS)
    model = model_of(dtype=torch.float32)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        first, second = gradients(model, graph, FIELDS), gradients(model, graph, FIELDS)
        for name, found in first.items():
            assert torch.equal(found, second[name])
            # Some hundred float32 roundings of 6e-8 on the way to each sum.
            error = float((found.double() - exact[name]).norm() / (exact[name].norm() + 1e-6))
            assert error < 2e-4, name


def test_atoms_alone_have_gradients_too() -> None:
    """No edge anywhere: labels of free atoms stand in many sets."""
    model, graph = model_of(), build_graph([molecule("O"), molecule("C")], 4.5, 3.5)
    names = ("energy", "forces")
    assert_same(gradients(model, graph, names), gradients(model, insisting(graph), names))


def test_frozen_weights_ask_for_nothing() -> None:
    model, graph = model_of(), graph_of()
    everything = gradients(model, graph, FIELDS)
    for name, weights in model.named_parameters():
        weights.requires_grad_("fitting" in name or "layers.1" in name)
    for name, found in gradients(model, graph, FIELDS).items():
        frozen = not ("fitting" in name or "layers.1" in name)
        expected = torch.zeros_like(found) if frozen else everything[name]
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_another_head_and_changed_weights_are_seen() -> None:
    """The path reads the model as it is at each call."""
    model, graph = model_of("data sets"), graph_of()
    before = gradients(model, graph, FIELDS)
    model.with_head("a")
    with torch.no_grad():
        model.embedding += 0.1
    after = gradients(model, graph, FIELDS)
    assert float((after["fitting.layers.0.weight"] - before["fitting.layers.0.weight"]).abs().max()) > 1e-3
    assert_same(after, gradients(model, insisting(graph), FIELDS))


def test_weights_changed_before_backward_are_refused() -> None:
    model, graph = model_of(), graph_of()
    loss = loss_of(model.differentiable(graph, create_graph=True), graph, FIELDS)
    with torch.no_grad():
        model.embedding += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", PLAIN_ONLY)
def test_other_kinds_are_trained_by_the_plain_path(kind: str) -> None:
    model, graph = model_of(kind), build_graph(crystals()[0], 4.5, 3.5)
    assert model.training_path() is None
    assert any(bool(found.any()) for found in gradients(model, graph, ("forces",)).values())


@pytest.mark.parametrize("name", ["silu", "tanh", "silut:3.0", "silut:10.0"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_derivatives_are_those_of_torch(name: str, dtype: type[np.floating]) -> None:
    x = np.linspace(-40, 40, 48 * 64).reshape(48, 64).astype(dtype)
    values, slopes, curvatures = x.copy(), np.empty_like(x), np.empty_like(x)
    parameters = bounded_parameters(name, np.dtype(dtype))
    assert parameters is not None
    value_and_bends_of_block(values, slopes, curvatures, 48, parameters)
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = activation(name)(at)
    (slope,) = torch.autograd.grad(wanted.sum(), at, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), at)
    allowed = 2e-6 if dtype == np.float32 else 1e-14  # some units in the last place of 10
    for found, right in ((values, wanted), (slopes, slope), (curvatures, curvature)):
        np.testing.assert_allclose(found, right.detach(), rtol=allowed, atol=allowed)
    both = activated(
        torch.stack([torch.tensor(x), torch.full(x.shape, 2.0, dtype=torch.tensor(x).dtype)]), parameters
    )
    np.testing.assert_allclose(both[0], wanted.detach(), rtol=allowed, atol=allowed)
    np.testing.assert_allclose(both[1], 2 * slope.detach(), rtol=2 * allowed, atol=2 * allowed)

"""The training path: same prediction and same weight gradients as double backward, and as differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from every_field import difference_along, loss_of
from torch import Tensor

from atomml.graph import build_graph, collate
from atomml.graph.atom_graph import AtomGraph
from atomml.model import ModelInfo
from atomml.potentials.chgnet.model import CHGNet, CHGNetConfig
from atomml.potentials.chgnet.training.functions import Gates, Messages, Rows

FIELDS = ("energy", "site_energies", "forces", "stress", "magmoms", "atom_features", "crystal_features")


@pytest.fixture(autouse=True)
def _one_thread_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def small_model(dtype: torch.dtype = torch.float64) -> CHGNet:
    """Random weights of the published shape, but 32 channels."""
    torch.manual_seed(1)
    info = ModelInfo("small", "chgnet", 6.0, tuple(range(1, 90)), bond_cutoff=3.0)
    model = CHGNet(CHGNetConfig(n_channels=32, readout_widths=(32, 32)), info)
    for weights in model.parameters():
        weights.requires_grad_()
        if weights.dim() == 1 and weights.shape[0] == 32:  # norms and biases off their start
            weights.data += 0.2 * torch.randn_like(weights)
    return model.to(dtype)


def rattled(atoms: Atoms, seed: int) -> Atoms:
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, atoms.positions.shape)
    return atoms


def graph_of(*, molecules: bool = True) -> AtomGraph:
    """Crystals with and without angles, an atom without neighbours, and a molecule without stress."""
    cells = [
        rattled(bulk("NaCl", "rocksalt", 5.64), 0),  # bonds, no two shorter than 3 Å at some atoms
        rattled(bulk("Si", cubic=True), 1),
        Atoms("Na", cell=[20, 20, 20], pbc=True),
        rattled(bulk("MgO", "rocksalt", 4.21), 2),
    ]
    if molecules:
        cells.append(rattled(molecule("H2O"), 3))
    return collate([build_graph(atoms, 6.0, 3.0) for atoms in cells])


def gradients(model: CHGNet, graph: AtomGraph, names: tuple[str, ...] = FIELDS) -> dict[str, Tensor]:
    """Of the loss, by the path that ``differentiable`` takes."""
    model.zero_grad()
    loss_of(model.differentiable(graph, create_graph=True), graph, names).backward()
    return {
        name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None
    }


def plain(model: CHGNet, graph: AtomGraph) -> tuple[AtomGraph, CHGNet]:
    """The same, made to go by double backward: positions that ask for a gradient insist on it."""
    return replace(graph, positions=graph.positions.clone().requires_grad_()), model


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "names", [FIELDS, ("forces",), ("stress",), ("energy",), ("magmoms",), ("energy", "forces")]
)
def test_gradients_are_those_of_double_backward(names: tuple[str, ...], threads: int) -> None:
    model, graph = small_model(), graph_of()
    torch.set_num_threads(threads)
    ours = gradients(model, graph, names)
    slow_graph, _ = plain(model, graph)
    model.zero_grad()
    loss_of(model.differentiable(slow_graph, create_graph=True), graph, names).backward()
    scale = max(float(w.grad.abs().max()) for w in model.parameters() if w.grad is not None)
    for name, weights in model.named_parameters():
        expected = torch.zeros_like(weights) if weights.grad is None else weights.grad
        # Sums of some thousand terms in float64, in another order.
        torch.testing.assert_close(ours[name], expected, atol=1e-11 * scale, rtol=1e-9, msg=name)


def test_gradients_are_central_differences() -> None:
    model, graph = small_model(), graph_of(molecules=False)
    ours = gradients(model, graph)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        along = {
            name: torch.randn(w.shape, dtype=w.dtype, generator=generator) * (w.detach().abs().mean() + 1e-3)
            for name, w in model.named_parameters()
        }
        analytic = sum(float((ours[name] * along[name]).sum()) for name in along)
        numeric = difference_along(model, graph, FIELDS, along, "fast", 3e-4)
        assert numeric == pytest.approx(analytic, rel=1e-6)


def test_the_prediction_is_that_of_the_plain_path() -> None:
    model, graph = small_model(), graph_of()
    ours, slow = model.differentiable(graph, create_graph=True), model.predict(graph, path="plain")
    for name in FIELDS:
        value, expected = getattr(ours, name), getattr(slow, name)
        assert value.requires_grad
        torch.testing.assert_close(value.detach(), expected, atol=1e-12, rtol=1e-12, equal_nan=True)


def test_float32_gradients_are_near_those_of_float64() -> None:
    graph = graph_of(molecules=False)
    exact = gradients(small_model(), graph)
    for name, found in gradients(small_model(torch.float32), graph).items():
        # Some hundred float32 roundings of 6e-8 on the way to each sum.
        error = float((found.double() - exact[name]).norm() / (exact[name].norm() + 1e-6))
        assert error < 2e-4, name


def test_same_bits_every_time() -> None:
    model, graph = small_model(torch.float32), graph_of()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        first, second = gradients(model, graph), gradients(model, graph)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_frozen_weights_get_no_gradient_and_change_no_other() -> None:
    model, graph = small_model(), graph_of(molecules=False)
    free = gradients(model, graph)
    for name, weights in model.named_parameters():
        weights.requires_grad_(not name.startswith(("embedding", "atom_layers.0", "angle_layers")))
    some = gradients(model, graph)
    assert set(some) == {name for name, weights in model.named_parameters() if weights.requires_grad}
    for name, found in some.items():
        torch.testing.assert_close(found, free[name], atol=1e-12, rtol=1e-10)


def test_weights_changed_before_backward_are_refused() -> None:
    model, graph = small_model(), graph_of(molecules=False)
    loss = loss_of(model.differentiable(graph, create_graph=True), graph, FIELDS)
    with torch.no_grad():
        model.embedding.weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_step_down_the_gradient_lowers_the_loss() -> None:
    model, graph = small_model(torch.float32), graph_of(molecules=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = loss_of(model.predict(graph), graph, FIELDS)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model.differentiable(graph, create_graph=True), graph, FIELDS).backward()
        optimizer.step()
    assert loss_of(model.predict(graph), graph, FIELDS) < before


def rows_of(parts: list[int], copies: list[int]) -> Rows:
    """Five owners of 13 rows that read random rows of three inputs."""
    random = np.random.default_rng(0)
    owner = np.sort(random.integers(0, 5, 13)).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=5))])
    one, two, three, weight = (random.integers(0, 4, 13).astype(np.int32) for _ in range(4))
    return Rows(np.array(parts), np.array(copies), start, owner, (one, two, three), weight)


@pytest.mark.parametrize(("parts", "copies"), [([0, 5], [0]), ([0, 2, 5], [0, 1])])
@pytest.mark.parametrize("own", [True, False])
def test_messages_and_gates_pass_gradcheck(own: bool, parts: list[int], copies: list[int]) -> None:
    torch.manual_seed(0)
    c = 32
    rows = rows_of(parts, copies)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    tables = [some(2, 4, 2 * c) for _ in range(3)] + [some(2, 13 if own else 0, 2 * c)]
    halves = [w - w.mean(0) for w in (some(c, c).detach() / 6, some(c, c).detach() / 6)]
    core, gate = (half.requires_grad_() for half in halves)
    norms = [some(2 * c) for _ in range(3)]
    fast = {"fast_mode": True, "atol": 1e-6, "rtol": 1e-5}

    # Kernels give the gradient for centred rows, whose mean the centred weights take off.
    def messages(*arguments: Tensor) -> Tensor:
        *inputs, core, gate, bias, scale, shift, weights = arguments
        core, gate = core - core.mean(0), gate - gate.mean(0)
        bias = torch.cat([half - half.mean() for half in bias.chunk(2)])
        return Messages.apply(rows, *inputs, core, gate, bias, scale, shift, weights)  # type: ignore[no-untyped-call,no-any-return]

    def gates(*arguments: Tensor) -> Tensor:
        *inputs, scale, shift = arguments
        inputs = [torch.cat([h - h.mean(2, keepdim=True) for h in x.chunk(2, 2)], 2) for x in inputs]
        return Gates.apply(rows, *inputs, scale, shift)  # type: ignore[no-untyped-call,no-any-return]

    assert torch.autograd.gradcheck(messages, (*tables, core, gate, *norms, some(2, 4, c)), **fast)
    assert torch.autograd.gradcheck(gates, (*tables, *norms[1:]), **fast)

"""MACE's training path: same prediction and same weight gradients as double backward, and as differences."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from ase.build import bulk, molecule
from every_field import assert_prediction_is_plain, difference_along, gradients, insisting
from test_mace import small
from test_mace_fast import KINDS, crystals

from atomml.graph import build_graph
from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.mace import MACE
from atomml.potentials.mace.training import TrainingMACE

FIELDS = ("energy", "site_energies", "forces", "stress", "atom_features", "crystal_features")


@pytest.fixture(autouse=True)
def _one_thread_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def model_of(kind: str = "residual", dtype: torch.dtype = torch.float64) -> MACE:
    """Random weights that learn, two heads, of which the second answers."""
    model = small(**{"max_degree": 2, **KINDS[kind], "heads": ["a", "b"], "head": "b"})
    for weights in model.parameters():
        weights.requires_grad_()
    return model.to(dtype)


def graph_of(copies: int = 1) -> AtomGraph:
    """Crystals, a layer, a molecule, an atom alone; more elements than a block of atoms has of one."""
    large = bulk("Si", cubic=True) * (2, 2, 1)
    large.rattle(0.1, seed=9)
    return build_graph([*crystals() * copies, large, molecule("H2O")], 4.0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_double_backward(kind: str) -> None:
    model, graph = model_of(kind), graph_of()
    assert TrainingMACE.supports(model)
    ours, theirs = gradients(model, graph, FIELDS), gradients(model, insisting(graph), FIELDS)
    scale = max(float(expected.abs().max()) for expected in theirs.values() if expected.numel())
    for name, expected in theirs.items():
        # Sums of some thousand terms in float64, in another order.
        torch.testing.assert_close(ours[name], expected, atol=1e-11 * scale, rtol=1e-9, msg=name)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("names", [("forces",), ("stress",), ("energy",), ("energy", "forces")])
def test_each_label_alone_by_any_number_of_threads(names: tuple[str, ...], threads: int) -> None:
    model, graph = model_of(), graph_of(copies=2)
    torch.set_num_threads(threads)
    ours, theirs = gradients(model, graph, names), gradients(model, insisting(graph), names)
    scale = max(float(expected.abs().max()) for expected in theirs.values() if expected.numel())
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, atol=1e-11 * scale, rtol=1e-9, msg=name)


def test_gradients_are_central_differences() -> None:
    model, graph = model_of("density"), graph_of()
    ours = gradients(model, graph, ("energy", "forces"))
    generator = torch.Generator().manual_seed(3)
    along = {
        name: torch.randn(w.shape, dtype=w.dtype, generator=generator) for name, w in model.named_parameters()
    }
    analytic = sum(float((ours[name] * along[name]).sum()) for name in along)
    numeric = difference_along(model, graph, ("energy", "forces"), along, "plain")
    assert numeric == pytest.approx(analytic, rel=1e-6)


@pytest.mark.parametrize("kind", ["residual", "density", "shared, cut late"])
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
            assert error < 5e-4, name


def test_atoms_alone_have_gradients_too() -> None:
    """No edge anywhere: labels of free atoms stand in many sets."""
    model, graph = model_of(), build_graph([molecule("O"), molecule("C")], 4.0)
    ours = gradients(model, graph, ("energy", "forces"))
    theirs = gradients(model, insisting(graph), ("energy", "forces"))
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, atol=1e-12, rtol=1e-9, msg=name)


def test_heads_that_do_not_answer_learn_nothing() -> None:
    model = model_of()
    found = gradients(model, graph_of(), ("energy", "forces"))
    first = found["readouts.0.weights"]
    assert not first[:, 0].any()
    assert first[:, 1].all()


def test_frozen_weights_ask_for_nothing() -> None:
    model, graph = model_of(), graph_of()
    everything = gradients(model, graph, FIELDS)
    for name, weights in model.named_parameters():
        weights.requires_grad_("readouts" in name)
    some = gradients(model, graph, FIELDS)
    for name, found in some.items():
        expected = everything[name] if "readouts" in name else torch.zeros_like(found)
        torch.testing.assert_close(found, expected, atol=0.0, rtol=1e-9)

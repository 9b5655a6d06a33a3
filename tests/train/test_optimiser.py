"""Learning rates, averages and groups of weights against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from atomml.errors import ModelError, OptionError
from atomml.model import Potential
from atomml.potentials.chgnet import CHGNet
from atomml.potentials.lennard_jones import argon
from atomml.train.averaging import MovingAverage
from atomml.train.low_rank import OwnWeights
from atomml.train.optimiser import (
    OPTIMISERS,
    LearningRate,
    Plateau,
    freeze,
    load_optimiser,
    make_optimiser,
    optimiser_arrays,
    set_rate,
)


def test_an_exponential_falls_in_stairs_to_its_end() -> None:
    rate = LearningRate("exponential", 0, 0.001, stair=50)
    for step in range(0, 200, 3):
        assert rate.factor(step, 200) == pytest.approx(0.001 ** (step // 50 * 50 / 200), rel=1e-9)
    assert LearningRate("exponential", 0, 0.01).factor(100, 200) == pytest.approx(0.1)


def test_cosine_after_a_warm_up() -> None:
    rate = LearningRate("cosine", 4, 0.1)
    assert [rate.factor(step, 105) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate.factor(4, 105) == 1.0
    assert rate.factor(54, 105) == pytest.approx(0.55)  # half way between 4 and 104
    assert rate.factor(104, 105) == pytest.approx(0.1)
    x = 25 / 100
    assert rate.factor(29, 105) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * x)))
    falling = [rate.factor(step, 105) for step in range(4, 105)]
    assert falling == sorted(falling, reverse=True)


def test_plateau_falls_after_its_patience_and_not_below_its_floor() -> None:
    rate, plateau = LearningRate("plateau", 0, 0.2), Plateau()
    losses = [5.0, 4.0, 4.0, 4.5, 4.1, 3.9, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    factors = []
    for loss in losses:
        plateau.report(loss, patience=2, decay=0.5, smallest=rate.final)
        factors.append(rate.factor(10, 100, plateau.factor))
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]
    assert plateau.best == 3.9


def test_constant_is_constant() -> None:
    assert {LearningRate("constant", 0, 0.0).factor(step, 10) for step in range(20)} == {1.0}


def test_average_follows_its_recursion(tiny: Callable[..., Potential]) -> None:
    """A = d a + (1 - d) w with d = min(decay, (1 + t) / (10 + t)), computed here by hand."""
    model = tiny()
    average = MovingAverage(OwnWeights(model), 0.5)
    name, weights = next(iter(model.named_parameters()))
    expected = weights.detach().clone()
    for step in range(1, 12):
        with torch.no_grad():
            weights.add_(1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights.detach()
        torch.testing.assert_close(average.weights[name], expected, rtol=1e-13, atol=1e-13)
    assert average.decay_at(1) == 2 / 11
    assert average.decay_at(1000) == 0.5


def test_average_stands_in_and_leaves_no_trace(tiny: Callable[..., Potential]) -> None:
    model = tiny()
    average = MovingAverage(OwnWeights(model), 0.9)
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    for tensor in average.weights.values():
        tensor.zero_()
    with average.in_place():
        assert all(float(p.detach().abs().max()) == 0 for p in model.parameters())
    assert all(torch.equal(p, own[name]) for name, p in model.named_parameters())
    assert MovingAverage(OwnWeights(model), 0.0).weights == {}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_frozen_weights_do_not_move(tiny: Callable[..., CHGNet], kind: str) -> None:
    """Neither by a gradient, nor by decay, nor by the average."""
    model = tiny()
    frozen = tuple(block for block in model.blocks() if block not in model.tuned_blocks())
    learning = set(freeze(model, frozen))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = make_optimiser(OwnWeights(model), kind, 0.1, 0.5, 1.0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    set_rate(optimiser, 1.0)
    optimiser.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == learning
    assert moved
    assert set(MovingAverage(OwnWeights(model), 0.9).weights) == learning


def test_blocks_hold_every_parameter_once(tiny: Callable[..., CHGNet]) -> None:
    for model in (tiny(), argon()):
        names = [name for block in model.blocks().values() for name in block]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert set(model.tuned_blocks()) <= set(model.blocks())
    assert list(tiny().blocks()) == [
        "embedding",
        "bases",
        "interaction-1",
        "interaction-2",
        "magmom",
        "readout",
    ]


def test_unknown_and_too_many_frozen_blocks_are_refused(tiny: Callable[..., CHGNet]) -> None:
    with pytest.raises(OptionError, match=r"no block 'readuot'.*readout"):
        freeze(tiny(), ("readuot",))
    with pytest.raises(OptionError, match="leave one"):
        freeze(tiny(), tuple(tiny().blocks()))


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_what_decays_and_how_fast_it_learns(tiny: Callable[..., CHGNet], kind: str) -> None:
    """Matrices decay; vectors and the embedding do not. Each block learns by 0.5 slower than the next."""
    model = tiny()
    optimiser = make_optimiser(OwnWeights(model), kind, 1e-3, 0.1, 0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    of = {names[id(p)]: group for group in optimiser.param_groups for p in group["params"]}
    assert len(of) == len(names)
    assert of["readout.0.weight"]["weight_decay"] == 0.1
    for name in ("embedding.weight", "readout.0.bias", "radial.frequencies", "readout_norm.weight"):
        assert of[name]["weight_decay"] == 0.0, name
    depth = {name: k for k, block in enumerate(model.blocks().values()) for name in block}
    last = max(depth.values())
    set_rate(optimiser, 0.25)
    for name, group in of.items():
        assert group["lr"] == pytest.approx(0.25e-3 * 0.5 ** (last - depth[name]))


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_optimisers_memory_survives_the_trip(tiny: Callable[..., CHGNet], kind: str) -> None:
    def run(model: CHGNet, optimiser: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for k, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, math.sin(step + k))
            optimiser.step()

    whole, first, second = tiny(), tiny(), tiny()
    run(whole, make_optimiser(OwnWeights(whole), kind, 1e-2, 0.1, 1.0), range(25))
    before = make_optimiser(OwnWeights(first), kind, 1e-2, 0.1, 1.0)
    run(first, before, range(13))
    second.load_state_dict(first.state_dict())
    after = make_optimiser(OwnWeights(second), kind, 1e-2, 0.1, 1.0)
    load_optimiser(after, optimiser_arrays(before))
    run(second, after, range(13, 25))
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fresh_weights_follow_from_the_seed_and_touch_no_generator(tiny: Callable[..., CHGNet]) -> None:
    state = torch.get_rng_state()
    first, again, other = tiny(1), tiny(1), tiny(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    with pytest.raises(ModelError, match="n_chanels"):
        CHGNet.fresh("x", (29,), {"n_chanels": 8})
    with pytest.raises(ModelError, match="cannot be trained from nothing"):
        type(argon()).fresh("x", (18,), {})

"""Losses against numbers computed by hand, and what missing labels do to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atomml.errors import OptionError
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Prediction
from atomml.train.losses import Loss, Targets, conditional_delta, point_loss
from atomml.train.weights import WeightSchedule

NAN = float("nan")
F64 = torch.float64


def graph_of(*sizes: int) -> AtomGraph:
    """Structures of these sizes, without edges."""
    n = sum(sizes)
    empty = torch.zeros((2, 0), dtype=torch.int64)
    return AtomGraph(
        numbers=torch.full((n,), 14),
        positions=torch.zeros(n, 3, dtype=F64),
        cell=torch.eye(3, dtype=F64).repeat(len(sizes), 1, 1),
        pbc=torch.ones(len(sizes), 3, dtype=torch.bool),
        batch=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        edge_index=empty,
        edge_shift=torch.zeros(0, 3, dtype=torch.int64),
        edge_reverse=empty[0],
        cutoff=5.0,
        charge=torch.zeros(len(sizes)),
        spin=torch.zeros(len(sizes)),
    )


def loss_of(kind: str = "mse", delta: float = 0.5, **weights: float | str) -> Loss:
    names = ("energy", "forces", "stress", "magmoms")
    return Loss(kind, delta, {name: WeightSchedule.parse(weights.get(name, 0), name) for name in names})


@pytest.fixture
def case() -> tuple[Prediction, AtomGraph, Targets]:
    """Two structures of two and one atoms; the second has neither forces nor a stress."""
    forces = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [9.0, 9.0, 9.0]], dtype=F64)
    prediction = Prediction(
        energy=torch.tensor([2.0, 5.0], dtype=F64),
        site_energies=torch.zeros(3, dtype=F64),
        forces=forces,
        stress=torch.full((2, 3, 3), 0.3, dtype=F64),
        magmoms=torch.tensor([1.0, 1.0, 1.0], dtype=F64),
    )
    targets = Targets(
        energy=torch.tensor([1.0, 2.0], dtype=F64),
        forces=torch.tensor([[0.0] * 3, [0.0] * 3, [NAN] * 3], dtype=F64),
        stress=torch.stack([torch.zeros(3, 3, dtype=F64), torch.full((3, 3), NAN, dtype=F64)]),
        magmoms=torch.tensor([NAN, 0.5, NAN], dtype=F64),
        weight=torch.tensor([1.0, 2.0], dtype=F64),
    )
    return prediction, graph_of(2, 1), targets


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # energies per atom are off by 0.5 and 3, with weights 1 and 2: (0.25 + 2 * 9) / 2
        ({"energy": 1}, 9.125),
        # six labelled components, of which two are off by 1 and 2
        ({"forces": 1}, 5 / 6),
        ({"stress": 1}, 0.09),
        ({"magmoms": 4}, 1.0),
        ({"energy": 2, "forces": 6}, 2 * 9.125 + 5),
    ],
)
def test_mean_square_by_hand(
    case: tuple[Prediction, AtomGraph, Targets], weights: dict[str, float], expected: float
) -> None:
    prediction, graph, targets = case
    value, _ = loss_of(**weights)(prediction, graph, targets, targets.counts())
    assert float(value) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", ["forces", "stress", "magmoms"])
def test_a_structures_weight_multiplies_each_of_its_labels(
    case: tuple[Prediction, AtomGraph, Targets], name: str
) -> None:
    """Only the first structure has these labels, so three times its weight is three times the loss."""
    prediction, graph, targets = case
    loss = loss_of(**{name: 1.0})
    once, _ = loss(prediction, graph, targets, targets.counts())
    heavy = replace(targets, weight=torch.tensor([3.0, 1.0], dtype=F64))
    thrice, _ = loss(prediction, graph, heavy, targets.counts())
    assert float(thrice) == pytest.approx(3 * float(once), rel=1e-14)


def test_errors_are_plain_absolute_ones(case: tuple[Prediction, AtomGraph, Targets]) -> None:
    """Weights of structures do not enter; labels that count nothing are not reported."""
    prediction, graph, targets = case
    _, errors = loss_of(energy=3, forces=1)(prediction, graph, targets, targets.counts())
    assert errors.mae("energy") == pytest.approx(1.75)
    assert errors.mae("forces") == pytest.approx(0.5)
    assert errors.mae("stress") is None


def test_a_missing_label_gives_no_gradient(case: tuple[Prediction, AtomGraph, Targets]) -> None:
    prediction, graph, targets = case
    forces = prediction.forces
    assert forces is not None
    forces = forces.clone().requires_grad_()
    value, _ = loss_of(forces=1)(replace(prediction, forces=forces), graph, targets, targets.counts())
    (gradient,) = torch.autograd.grad(value, forces)
    assert torch.equal(gradient[2], torch.zeros(3, dtype=F64))
    assert float(gradient[0, 0]) == pytest.approx(2 * 1.0 / 6)


def test_parts_add_up_to_the_whole(case: tuple[Prediction, AtomGraph, Targets]) -> None:
    """A batch that is cut gives the same loss, because the counts are those of the whole."""
    prediction, graph, targets = case
    loss = loss_of("huber", energy=1, forces=2, stress=3)
    whole, _ = loss(prediction, graph, targets, targets.counts())
    total = 0.0
    for k, (atoms, one) in enumerate(zip((slice(0, 2), slice(2, 3)), prediction.split(graph), strict=True)):
        part = Targets(
            targets.energy[k : k + 1],
            targets.forces[atoms],
            targets.stress[k : k + 1],
            targets.magmoms[atoms],
            targets.weight[k : k + 1],
        )
        value, _ = loss(one, graph_of(2 - k), part, targets.counts())
        total += float(value)
    assert total == pytest.approx(float(whole), rel=1e-14)


def test_huber_by_hand_and_smooth() -> None:
    """Half the square below the threshold, a straight line beyond, equal value and slope where they meet."""
    d = torch.tensor([0.0, 0.1, -0.5, 2.0], dtype=F64)
    expected = torch.tensor([0.0, 0.005, 0.125, 0.5 * (2.0 - 0.25)], dtype=F64)
    torch.testing.assert_close(point_loss("huber", d, 0.5), expected, rtol=1e-15, atol=0)
    x = torch.tensor([0.5 - 1e-9, 0.5 + 1e-9], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(point_loss("huber", x, 0.5).sum(), x)
    torch.testing.assert_close(slope, torch.full_like(slope, 0.5), rtol=0, atol=2e-9)
    assert point_loss("l1", d, 0.5).tolist() == [0.0, 0.1, 0.5, 2.0]


@pytest.mark.parametrize(
    ("size", "factor"), [(0.0, 1.0), (99.9, 1.0), (100.1, 0.7), (200.1, 0.4), (299.9, 0.4), (300.1, 0.1)]
)
def test_the_threshold_falls_with_the_force(size: float, factor: float) -> None:
    """1, 0.7, 0.4, 0.1 below 100, 200, 300 eV/Å and beyond; the direction does not matter."""
    direction = torch.tensor([[2.0, -1.0, 2.0]], dtype=F64) / 3
    assert float(conditional_delta(size * direction)) == factor


def test_conditional_huber_uses_the_label_and_forces_only() -> None:
    """A force of 250 eV/Å predicted 10 off: threshold 0.2, so 0.2 (10 - 0.1) over three components."""
    prediction = Prediction(
        energy=torch.tensor([10.0], dtype=F64),
        site_energies=torch.zeros(1, dtype=F64),
        forces=torch.tensor([[260.0, 0, 0]], dtype=F64),
    )
    targets = Targets(
        energy=torch.zeros(1, dtype=F64),
        forces=torch.tensor([[250.0, 0, 0]], dtype=F64),
        stress=torch.full((1, 3, 3), NAN, dtype=F64),
        magmoms=torch.full((1,), NAN, dtype=F64),
        weight=torch.ones(1, dtype=F64),
    )
    kind = "conditional-huber"
    forces, _ = loss_of(kind, 0.5, forces=1)(prediction, graph_of(1), targets, targets.counts())
    energy, _ = loss_of(kind, 0.5, energy=1)(prediction, graph_of(1), targets, targets.counts())
    assert float(forces) == pytest.approx(0.2 * (10 - 0.1) / 3)
    assert float(energy) == pytest.approx(0.5 * (10 - 0.25))


def test_a_weight_that_changes_counts_as_it_stands(case: tuple[Prediction, AtomGraph, Targets]) -> None:
    prediction, graph, targets = case
    loss = loss_of(energy="1:10@0.75")
    values = [
        float(loss(prediction, graph, targets, targets.counts(), share)[0])
        for share in (0.0, 0.74, 0.75, 1.0)
    ]
    assert values == pytest.approx([9.125, 9.125, 91.25, 91.25])


@pytest.mark.parametrize(
    ("text", "at_quarter", "at_end"),
    [("2", 2, 2), (3.0, 3, 3), ("1:5", 2, 5), ("1:10@0.25", 10, 10), ("4:1@0.5", 4, 1), ("1e2", 100, 100)],
)
def test_weight_schedules(text: str | float, at_quarter: float, at_end: float) -> None:
    schedule = WeightSchedule.parse(text, "energy_weight")
    assert schedule.at(0.25) == pytest.approx(at_quarter)
    assert schedule.at(1.0) == pytest.approx(at_end)
    assert schedule.at(7.0) == pytest.approx(at_end)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1:-2", "1:2:3", "1>2", "1:2@0", "1:2@1", "nan", "inf", "1:x@0.5"]
)
def test_weights_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="energy_weight"):
        WeightSchedule.parse(text, "energy_weight")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # energies of the whole structures are off by 1 and 3, over 2 atoms and 1, with weights 1 and 2
        ({"energy": 1}, (1 / 2 + 2 * 9 / 1) / 2),
        ({"forces": 1}, 5 / 6),
        # a virial is minus a stress times the volume, here 1: 0.09 over 2 atoms
        ({"stress": 1}, 0.045),
    ],
)
def test_squares_as_deepmd_kit_weights_them(
    case: tuple[Prediction, AtomGraph, Targets], weights: dict[str, float], expected: float
) -> None:
    prediction, graph, targets = case
    loss, _ = loss_of("deepmd", **weights)(prediction, graph, targets, targets.counts())
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_a_weight_follows_an_exponential_in_stairs() -> None:
    """DeePMD-kit: limit + (start - limit) lr / lr_0, where the rate falls each ``decay_steps`` steps."""
    weight = WeightSchedule.parse("0.2:20~0.01/10", "energy_weight")
    for step in range(0, 1001, 7):
        rate = 0.01 ** ((step // 100) * 100 / 1000)
        assert weight.at(step / 1000) == pytest.approx(20 + (0.2 - 20) * rate, rel=1e-9)
    smooth = WeightSchedule.parse("1:3~0.25", "energy_weight")
    assert smooth.at(0.5) == pytest.approx(3 - 2 * 0.5)


@pytest.mark.parametrize("text", ["1:2~0", "1:2~2", "1:2~x", "-1:2~0.5", "1:2~0.5/-3", "1~0.5"])
def test_falls_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="energy_weight"):
        WeightSchedule.parse(text, "energy_weight")

"""A skin changes how often neighbours are searched, and no bit of any graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms

from atomml.errors import OptionError, StructureError
from atomml.graph import AtomGraph, GraphBuilder, build_graph
from atomml.registry import load_model

SameGraph = Callable[[AtomGraph, AtomGraph], None]


def fresh(atoms: Atoms) -> AtomGraph:
    return GraphBuilder(4.0, 2.9)(atoms)


def test_a_random_walk_with_skin_gives_the_bits_of_fresh_graphs(oxide: Atoms, assert_same: SameGraph) -> None:
    rng = np.random.default_rng(1)
    builder = GraphBuilder(4.0, 2.9, skin=0.8)
    counts = set()
    for _ in range(60):
        oxide.positions += rng.normal(scale=0.02, size=(len(oxide), 3))
        graph = builder(oxide)
        assert_same(graph, fresh(oxide))
        counts.add(graph.n_edges)
    assert len(counts) > 5  # edges came and went
    assert 1 < builder.searches < 20


@pytest.mark.parametrize("scale_atoms", [True, False])
def test_a_walk_of_the_cell_gives_the_bits_of_fresh_graphs(
    oxide: Atoms, assert_same: SameGraph, scale_atoms: bool
) -> None:
    rng = np.random.default_rng(2)
    builder = GraphBuilder(4.0, 2.9, skin=0.4)
    for _ in range(60):
        strain = np.eye(3) + rng.normal(scale=0.01, size=(3, 3))
        oxide.set_cell(oxide.cell @ strain, scale_atoms=scale_atoms)
        oxide.positions += rng.normal(scale=0.01, size=(len(oxide), 3))
        assert_same(builder(oxide), fresh(oxide))
    assert 1 < builder.searches < 60


@pytest.mark.parametrize("pbc", [[True, True, False], [False, False, True], [False] * 3])
def test_partly_periodic_walks_too(oxide: Atoms, assert_same: SameGraph, pbc: list[bool]) -> None:
    rng = np.random.default_rng(3)
    oxide.pbc = pbc
    builder = GraphBuilder(4.0, skin=0.2)
    for _ in range(30):
        oxide.set_cell(oxide.cell @ (np.eye(3) + rng.normal(scale=0.01, size=(3, 3))), scale_atoms=True)
        assert_same(builder(oxide), GraphBuilder(4.0)(oxide))
    assert 1 < builder.searches < 30


def test_the_worst_move_that_a_skin_allows_loses_no_edge() -> None:
    """Two atoms just outside cutoff + skin run at each other, by a little less or more than skin / 2 each."""
    for speed, searches in ((0.9, 1), (1.1, 2)):
        pair = Atoms("Ar2", positions=[[0, 0, 0], [6.01, 0, 0]])
        builder = GraphBuilder(5.0, skin=1.0)
        assert builder(pair).n_edges == 0
        pair.positions += [[0.5 * speed, 0, 0], [-0.5 * speed, 0, 0]]
        assert builder(pair).n_edges == (2 if 6.01 - speed < 5.0 else 0)
        assert builder.searches == searches


def test_rounding_at_the_very_limit_of_the_skin_loses_no_edge(assert_same: SameGraph) -> None:
    """Far from the origin, 6 Å apart and half the skin each may round to an edge just below 5 Å.

    The atoms sit on either side of a power of two: there their sums round to different grids.
    """
    rng = np.random.default_rng(4)
    counts = set()
    for start in 2.0 ** rng.integers(7, 11, 200) - rng.uniform(1, 5, 200):
        pair = Atoms("Ar2", positions=[[start, 0, 0], [start + 6.0, 0, 0]])
        builder = GraphBuilder(5.0, skin=1.0)
        builder(pair)
        step = rng.uniform()  # no short binary number: both atoms' sums are rounded
        pair.positions += [[step, 0, 0], [step - 1, 0, 0]]
        graph = builder(pair)
        assert_same(graph, GraphBuilder(5.0)(pair))
        counts.add(graph.n_edges)
    assert counts == {0, 2}  # rounding did go both ways


def test_the_worst_squeeze_that_a_skin_allows_loses_no_edge() -> None:
    """A small cell whose 15th image comes into the cutoff: what the cell moves an image by grows with it."""
    for factor, searches in ((0.95, 1), (0.85, 2)):
        atom = Atoms("H", cell=[0.4, 30, 30], pbc=[True, False, False])
        builder = GraphBuilder(5.0, skin=0.7)
        assert builder(atom).n_edges == 24
        atom.set_cell([0.4 * factor, 30, 30], scale_atoms=True)
        assert builder(atom).n_edges == 2 * int(5.0 / (0.4 * factor))
        assert builder.searches == searches


def test_drifting_together_needs_no_new_search(oxide: Atoms, assert_same: SameGraph) -> None:
    builder = GraphBuilder(4.0, 2.9, skin=0.5)
    for _ in range(10):
        oxide.positions += [0.3, -0.2, 0.4]
        assert_same(builder(oxide), fresh(oxide))
    assert builder.searches == 1


def test_without_a_skin_nothing_is_searched_twice_until_something_moves(oxide: Atoms) -> None:
    builder = GraphBuilder(4.0)
    builder(oxide)
    builder(oxide.copy())
    assert builder.searches == 1
    oxide.positions[3] += 1e-3
    builder(oxide)
    assert builder.searches == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda atoms: atoms.wrap(),
        lambda atoms: atoms.set_pbc([True, False, True]),
        lambda atoms: atoms.pop(),
        lambda atoms: atoms.numbers.__setitem__(0, 11),
        lambda atoms: atoms.set_cell(atoms.cell * 0.9),
    ],
    ids=["wrap", "pbc", "count", "element", "cell"],
)
def test_any_change_between_calls_is_seen(
    oxide: Atoms, assert_same: SameGraph, change: Callable[[Atoms], None]
) -> None:
    builder = GraphBuilder(4.0, 2.9, skin=0.5)
    oxide.positions -= [0.2, 0.2, 0.2]  # some atoms leave the cell, for wrap to bring back
    builder(oxide)
    change(oxide)
    assert_same(builder(oxide), fresh(oxide))
    assert builder.searches == 2


def test_a_graph_outlives_what_happens_to_the_atoms(oxide: Atoms, assert_same: SameGraph) -> None:
    graph, again = fresh(oxide), fresh(oxide.copy())
    oxide.positions += 1.0
    oxide.numbers[:] = 1
    oxide.cell[:] = 0.0
    assert_same(graph, again)


def test_types_and_shapes_are_those_of_the_documentation(oxide: Atoms) -> None:
    graph = build_graph(oxide, 4.0, 2.9)
    assert graph.numbers.dtype == graph.batch.dtype == graph.edge_index.dtype == torch.int64
    assert (
        graph.positions.dtype == graph.cell.dtype == graph.charge.dtype == graph.spin.dtype == torch.float64
    )
    assert graph.edge_shift.dtype == torch.int32
    assert graph.pbc.dtype == torch.bool
    assert graph.cell.shape == (1, 3, 3)
    assert graph.pbc.shape == (1, 3)
    assert graph.edge_shift.shape == (graph.n_edges, 3)
    assert float(graph.edge_vectors().norm(dim=1).max()) < graph.cutoff == 4.0


def test_charge_and_spin_come_from_info_each_time(oxide: Atoms) -> None:
    builder = GraphBuilder(4.0, skin=1.0)
    assert (builder(oxide).charge.tolist(), builder(oxide).spin.tolist()) == ([0.0], [0.0])
    oxide.info.update(charge=-1, spin=np.int64(2))
    assert (builder(oxide).charge.tolist(), builder(oxide).spin.tolist()) == ([-1.0], [2.0])
    for wrong in ("two", float("nan"), [1, 2]):
        oxide.info["charge"] = wrong
        with pytest.raises(StructureError, match=r"set.xyz: its charge is .*finite number"):
            builder(oxide, "set.xyz")


def test_a_model_brings_its_cutoffs(oxide: Atoms) -> None:
    model = load_model("lj-argon", device="cpu")
    builder = GraphBuilder.for_model(model, skin=0.5)
    assert (builder.cutoff, builder.bond_cutoff) == (model.info.cutoff, model.info.bond_cutoff)
    assert builder.skin == 0.5


def test_angles_can_be_left_out(oxide: Atoms) -> None:
    graph, full = GraphBuilder(4.0, 2.9, angles=False)(oxide), GraphBuilder(4.0, 2.9)(oxide)
    assert graph.bond_graph is None
    assert torch.equal(graph.edge_index, full.edge_index)


@pytest.mark.parametrize("skin", [0.0, 2.0])
def test_structures_that_no_model_can_take_are_refused_at_any_step(oxide: Atoms, skin: float) -> None:
    faults: dict[str, Callable[[Atoms], None]] = {
        "not finite": lambda atoms: atoms.positions.__setitem__((4, 1), np.nan),
        "infinite|not finite": lambda atoms: atoms.positions.__setitem__((4, 1), np.inf),
        "no volume|flat": lambda atoms: atoms.cell.__setitem__(2, atoms.cell[1]),
        "cell is not finite": lambda atoms: atoms.cell.__setitem__((0, 0), np.nan),
        "cell vector is zero": lambda atoms: atoms.cell.__setitem__(0, 0.0),
        "no element": lambda atoms: atoms.numbers.__setitem__(2, 0),
        "duplicate": lambda atoms: atoms.positions.__setitem__(4, atoms.positions[5] + 0.01),
    }
    for sentence, fault in faults.items():
        builder, atoms = GraphBuilder(4.0, skin=skin), oxide.copy()
        builder(atoms)
        fault(atoms)
        with pytest.raises(StructureError, match=f"frame 3: .*({sentence})"):
            builder(atoms, "frame 3")


def test_the_place_in_a_list_is_named(oxide: Atoms) -> None:
    bad = oxide.copy()
    bad.positions[0] = np.nan
    with pytest.raises(StructureError, match=r"structure 1: .*atom 0"):
        build_graph([oxide, bad], 4.0)


@pytest.mark.parametrize(
    "options",
    [{"cutoff": 0.0}, {"cutoff": np.nan}, {"bond_cutoff": 4.5}, {"bond_cutoff": -1.0}, {"skin": -0.1}],
)
def test_senseless_cutoffs_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="Å; it must"):
        GraphBuilder(**{"cutoff": 4.0, "bond_cutoff": 3.0, "skin": 0.0, **options})

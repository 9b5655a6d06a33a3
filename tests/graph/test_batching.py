"""A batch is its graphs side by side, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from atomml.errors import StructureError
from atomml.graph import AtomGraph, build_graph, collate

SameGraph = Callable[[AtomGraph, AtomGraph], None]


@pytest.fixture
def structures(oxide: Atoms) -> list[Atoms]:
    """A crystal, a molecule, an atom without any edge, a cell smaller than the cutoff."""
    charged = molecule("H2O")
    charged.info.update(charge=1, spin=1)
    return [oxide, charged, Atoms("He"), bulk("Cu")]


def test_each_part_of_a_batch_is_its_graph(structures: list[Atoms]) -> None:
    batch = build_graph(structures, 4.0, 2.7)
    singles = [build_graph(atoms, 4.0, 2.7) for atoms in structures]
    assert batch.n_graphs == 4
    assert batch.atoms_per_graph().tolist() == [12, 3, 1, 1]
    owner = batch.batch[batch.edge_index[0]]
    atom = edge = 0
    for k, one in enumerate(singles):
        atoms, edges = batch.batch == k, owner == k
        assert torch.equal(batch.numbers[atoms], one.numbers)
        assert torch.equal(batch.positions[atoms], one.positions)
        for name in ("cell", "pbc", "charge", "spin"):
            assert torch.equal(getattr(batch, name)[k : k + 1], getattr(one, name))
        assert torch.equal(batch.edge_index[:, edges] - atom, one.edge_index)
        assert torch.equal(batch.edge_shift[edges], one.edge_shift)
        assert torch.equal(batch.edge_reverse[edges] - edge, one.edge_reverse)
        ours, theirs = batch.bond_graph, one.bond_graph
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours.bonds[owner[ours.bonds] == k] - edge, theirs.bonds)
        assert torch.equal(ours.angle_index[:, owner[ours.angle_index[0]] == k] - edge, theirs.angle_index)
        atom, edge = atom + one.n_atoms, edge + one.n_edges


def test_edges_of_a_batch_keep_lengths_order_and_reverses(structures: list[Atoms]) -> None:
    batch = build_graph(structures, 4.0, 2.7)
    vectors = batch.edge_vectors()
    singles = torch.cat([build_graph(atoms, 4.0).edge_vectors() for atoms in structures])
    torch.testing.assert_close(vectors, singles, rtol=0, atol=1e-14)  # sums in another order, below 10 Å
    torch.testing.assert_close(vectors[batch.edge_reverse], -vectors, rtol=0, atol=1e-14)
    assert bool((batch.edge_index[0].diff() >= 0).all())


def test_batches_of_batches_are_batches(structures: list[Atoms], assert_same: SameGraph) -> None:
    graphs = [build_graph(atoms, 4.0, 2.7) for atoms in structures]
    nested = collate([collate(graphs[:2]), graphs[2], collate(graphs[3:])])
    assert_same(nested, collate(graphs))
    assert_same(nested, build_graph(structures, 4.0, 2.7))


def test_a_list_of_one_is_that_one(oxide: Atoms, assert_same: SameGraph) -> None:
    assert_same(build_graph([oxide], 4.0, 2.7), build_graph(oxide, 4.0, 2.7))


def test_graphs_that_do_not_belong_together_are_refused(oxide: Atoms) -> None:
    with pytest.raises(StructureError, match="at least one"):
        collate([])
    with pytest.raises(StructureError, match=r"cutoffs \(4.0 and 5.0\)"):
        collate([build_graph(oxide, 4.0), build_graph(oxide, 5.0)])
    with pytest.raises(StructureError, match=r"bond cutoffs \(2.7 and None\)"):
        collate([build_graph(oxide, 4.0), build_graph(oxide, 4.0, 2.7)])

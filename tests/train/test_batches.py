"""Batches follow from the seed, every structure has its turn, and parts keep within their limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry, Labels
from atomml.model import Potential
from atomml.train.batches import Limits, Order, cut, cycle
from atomml.train.samples import Samples, join


@given(n=st.integers(1, 200), size=st.integers(1, 50), seed=st.integers(0, 2**31), epoch=st.integers(0, 99))
def test_an_epoch_shows_every_structure_once(n: int, size: int, seed: int, epoch: int) -> None:
    order = Order(n, size, seed)
    batches = [order.batch(epoch, k) for k in range(order.n_batches)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert all(len(batch) == size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= size


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    first, again = Order(50, 7, 3), Order(50, 7, 3)
    _ = [first.batch(9, k) for k in range(3)]  # what was asked for before makes no difference
    assert np.array_equal(first.batch(4, 2), again.batch(4, 2))
    assert not np.array_equal(first.batch(4, 0), first.batch(5, 0))
    assert not np.array_equal(first.batch(4, 0), Order(50, 7, 4).batch(4, 0))


@given(n=st.integers(1, 30), per_batch=st.integers(1, 40), seed=st.integers(0, 1000))
def test_replay_goes_round_evenly(n: int, per_batch: int, seed: int) -> None:
    """After any number of steps the structures' turns differ by one at most, and none is left out."""
    seen = np.concatenate([cycle(n, per_batch, seed, step) for step in range(5)])
    turns = np.bincount(seen, minlength=n)
    assert turns.max() - turns.min() <= 1
    assert turns.sum() == 5 * per_batch


@pytest.mark.parametrize(("atoms", "edges"), [(1000, 10**6), (6, 10**6), (1000, 300), (1, 1)])
def test_parts_hold_each_sample_once_within_the_limits(
    tiny: Callable[..., Potential], dataset: ListDataset, atoms: int, edges: int
) -> None:
    samples = Samples(dataset, tiny())
    chosen = [samples[k] for k in range(len(samples))]
    parts = list(cut(chosen, Limits(atoms, edges)))
    assert sorted(s.where for part in parts for s in part) == sorted(s.where for s in chosen)
    for part in parts:
        assert len(part) == 1 or sum(s.graph.n_atoms for s in part) <= atoms
        assert len(part) == 1 or sum(s.graph.n_edges for s in part) <= edges
    if atoms == 1000 and edges == 10**6:
        assert len(parts) == 1


def test_a_molecule_without_stress_stands_apart(tiny: Callable[..., Potential], entries: list[Entry]) -> None:
    """The derivative of the stress that a molecule does not have is NaN, and must reach nobody."""
    molecule = Entry(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]]), Labels(-1.0, stress=np.eye(3)))
    samples = Samples(ListDataset([entries[0], molecule, entries[1]]), tiny())
    parts = list(cut([samples[k] for k in range(3)], Limits(1000, 10**6)))
    assert [len(part) for part in parts] == [2, 1]
    assert parts[1][0].kind == ("", True)


def test_graphs_are_kept_within_the_memory_given(
    tiny: Callable[..., Potential], dataset: ListDataset
) -> None:
    kept, none = Samples(dataset, tiny()), Samples(dataset, tiny(), max_bytes=0)
    assert kept[3] is kept[3]
    assert none[3] is not none[3]
    assert torch.equal(kept[3].graph.edge_index, none[3].graph.edge_index)


def test_labels_come_in_the_order_of_the_atoms(tiny: Callable[..., Potential], entries: list[Entry]) -> None:
    """Joined, each label stands where its atom or structure does; weights of groups multiply."""
    data = ListDataset(
        [replace(e, group="x", weight=3.0) if k == 1 else e for k, e in enumerate(entries[:3])]
    )
    samples = Samples(data, tiny(), {"x": 0.5})
    graph, targets = join([samples[k] for k in range(3)], torch.device("cpu"))
    forces = np.concatenate([e.labels.forces for e in entries[:3] if e.labels.forces is not None])
    assert np.array_equal(targets.forces.numpy(), forces)
    assert targets.energy.tolist() == [e.labels.energy for e in entries[:3]]
    assert targets.weight.tolist() == [1.0, 1.5, 1.0]
    assert np.array_equal(graph.numbers.numpy(), np.concatenate([e.atoms.numbers for e in entries[:3]]))
    assert samples.counts == targets.counts()

"""Sets made of sets: slices, selections, rows of sets and heads are what the same does to a list."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from atomml.data.dataset import ConcatDataset, Dataset, HeadDataset, ListDataset
from atomml.data.entry import LABELS, Entry, Labels

Tree = tuple[Dataset, list[Entry]]


def leaf(number: int, size: int) -> Tree:
    """Entries of one to four atoms, each with a name of its own, some without forces."""
    entries = []
    for k in range(size):
        n = 1 + (number + k) % 4
        forces = np.full((n, 3), float(k)) if k % 2 else None
        atoms = Atoms("H" * n, np.arange(3.0 * n).reshape(n, 3))
        entries.append(Entry(atoms, Labels(float(k), forces, None, None), source=f"set-{number}", frame=k))
    return ListDataset(entries, [{"path": f"set-{number}", "sha256": None}]), entries


@st.composite
def leaves(draw: st.DrawFn) -> Tree:
    return leaf(draw(st.integers(0, 99)), draw(st.integers(0, 5)))


def grown(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    @st.composite
    def sliced(draw: st.DrawFn) -> Tree:
        found, entries = draw(inner)
        cut = draw(st.slices(max(len(entries), 1)))
        return found[cut], entries[cut]

    @st.composite
    def chosen(draw: st.DrawFn) -> Tree:
        found, entries = draw(inner)
        places = draw(st.lists(st.integers(-len(entries), len(entries) - 1), max_size=6)) if entries else []
        return found.subset(places), [entries[place] for place in places]

    @st.composite
    def several(draw: st.DrawFn) -> Tree:
        parts = draw(st.lists(inner, max_size=3))
        return ConcatDataset([part for part, _ in parts]), [one for _, part in parts for one in part]

    @st.composite
    def headed(draw: st.DrawFn) -> Tree:
        found, entries = draw(inner)
        head = draw(st.sampled_from(["a", "b"]))
        return HeadDataset(found, head), [replace(entry, head=head) for entry in entries]

    return st.one_of(sliced(), chosen(), several(), headed())


trees = st.recursive(leaves(), grown, max_leaves=5)


def names(entries: Any) -> list[tuple[str, int, str]]:
    return [(entry.source, entry.frame, entry.head) for entry in entries]


@given(trees)
def test_a_set_of_sets_is_the_list_of_its_entries(tree: Tree) -> None:
    found, entries = tree
    assert len(found) == len(entries)
    assert names(found) == names(entries)
    assert names(found[k] for k in range(-len(entries), len(entries))) == names(entries + entries)
    assert found.n_atoms.tolist() == [len(entry.atoms) for entry in entries]
    assert found.n_atoms.dtype == np.int64
    counts = Counter(name for entry in entries for name in entry.labels.names)
    assert found.label_counts == {name: counts[name] for name in LABELS}
    for outside in (len(entries), -len(entries) - 1):
        with pytest.raises(IndexError, match=f"of a set of {len(entries)}"):
            _ = found[outside]


@given(trees)
def test_another_process_reads_the_same(tree: Tree) -> None:
    again = pickle.loads(pickle.dumps(tree[0]))
    assert names(again) == names(tree[1])
    assert again.digest == tree[0].digest


@given(st.integers(0, 9), st.lists(st.integers(0, 4), max_size=6))
def test_a_digest_is_of_the_entries_and_their_order(number: int, places: list[int]) -> None:
    """The same by whatever selection, another once anything differs: order, number, a label, the head."""
    found, entries = leaf(number, 5)
    part = found.subset(places)
    assert part.digest == ListDataset([entries[place] for place in places]).digest
    assert ConcatDataset([part]).digest == part.digest
    turned = places[::-1]
    assert (found.subset(turned).digest == part.digest) == (turned == places)
    assert found.subset([*places, 0]).digest != part.digest
    assert HeadDataset(part, "a").digest not in (part.digest, HeadDataset(part, "b").digest)
    if places:
        first = entries[places[0]]
        other = replace(first, labels=replace(first.labels, energy=first.labels.energy + 1e-12))
        changed = [other, *(entries[place] for place in places[1:])]
        assert ListDataset(changed).digest != part.digest


def test_an_index_outside_is_refused_when_the_selection_is_made() -> None:
    found, _ = leaf(0, 3)
    for places in ([3], [-4], [0, 7]):
        with pytest.raises(IndexError, match="set of 3 entries"):
            found.subset(places)
    with pytest.raises(IndexError, match="set of 0 entries"):
        leaf(0, 0)[0].subset([0])

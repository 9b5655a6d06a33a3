"""Edges are what a search through all pairs and images finds, in one order, whatever the cell."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomml.errors import StructureError
from atomml.graph.neighbours import (
    EdgeList,
    complete_cell,
    find_edges,
    lexicographic_order,
    reverse_edges,
)

CUTOFF = 4.5


def brute_force(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> list[tuple]:
    """Every pair of atoms in every image that could be near, one image after the other."""
    positions, cell = np.asarray(positions, float), np.asarray(cell, float)
    ranges = [range(1)] * 3
    for axis in np.flatnonzero(pbc):
        # thickness of the cell along this direction, among the periodic ones only
        others = cell[[k for k in np.flatnonzero(pbc) if k != axis]]
        normal = cell[axis] - (cell[axis] @ np.linalg.pinv(others)) @ others if len(others) else cell[axis]
        height = np.linalg.norm(normal)
        spread = np.ptp(positions @ normal / height)
        most = int(np.ceil((cutoff + spread) / height))
        ranges[axis] = range(-most, most + 1)
    found = []
    for shift in itertools.product(*ranges):
        vectors = positions[None] - positions[:, None] + np.array(shift) @ cell
        near = np.linalg.norm(vectors, axis=2) < cutoff
        if shift == (0, 0, 0):
            np.fill_diagonal(near, False)
        found += [(int(i), int(j), *shift) for i, j in np.argwhere(near)]
    return sorted(found)


def as_tuples(edges: EdgeList) -> list[tuple]:
    return [(*pair, *shift) for pair, shift in zip(edges.index.T.tolist(), edges.shift.tolist(), strict=True)]


def find(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float = CUTOFF) -> EdgeList:
    pbc = np.asarray(pbc, dtype=bool)
    return find_edges(np.asarray(positions, float), complete_cell(np.asarray(cell, float), pbc), pbc, cutoff)


def assert_reverse(edges: EdgeList) -> None:
    """The reverse of (i, j, S) is (j, i, -S); going there twice comes back."""
    assert np.array_equal(edges.index[:, edges.reverse], edges.index[::-1])
    assert np.array_equal(edges.shift[edges.reverse], -edges.shift)
    assert np.array_equal(edges.reverse[edges.reverse], np.arange(len(edges.reverse)))


@pytest.mark.parametrize("n_atoms", [1, 5])
@pytest.mark.parametrize("spread", [1.0, 4.0], ids=["inside", "outside"])
def test_edges_are_those_of_brute_force(
    cell: np.ndarray, pbc: np.ndarray, n_atoms: int, spread: float
) -> None:
    rng = np.random.default_rng(n_atoms)
    positions = rng.uniform((1 - spread) / 2, (1 + spread) / 2, (n_atoms, 3)) @ cell
    edges = find(positions, cell, pbc)
    # equality of the lists is set equality, no duplicates, and the canonical order in one
    assert as_tuples(edges) == brute_force(positions, cell, pbc, CUTOFF)
    assert_reverse(edges)


@given(
    entries=st.lists(st.floats(-6, 6), min_size=9, max_size=9),
    fractions=st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=4),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_edges_of_any_cell(entries: list[float], fractions: list[tuple], pbc: tuple) -> None:
    cell = np.array(entries).reshape(3, 3)
    lengths = np.linalg.norm(cell, axis=1)
    # flatter cells have so many images within reach that brute force takes too long
    if not abs(np.linalg.det(cell)) > 0.3 * np.prod(lengths) or lengths.min() < 1.5:
        cell = np.diag(2.0 + np.abs(entries[:3]))
    positions = np.array(fractions) @ cell
    # hypothesis likes round numbers; irrational offsets keep all distances off the cutoff's last digits
    positions += np.sqrt(np.arange(2.0, 2 + positions.size)).reshape(positions.shape) % 0.1
    edges = find(positions, cell, pbc, 3.7 + np.pi * 1e-3)
    assert as_tuples(edges) == brute_force(positions, cell, np.array(pbc), 3.7 + np.pi * 1e-3)
    assert_reverse(edges)


def test_the_canonical_order_does_not_rest_on_the_order_of_the_search() -> None:
    keys = np.random.default_rng(11).integers(-4, 5, (5, 3000))
    ordered = keys[:, lexicographic_order(keys)]
    assert np.array_equal(ordered, np.array(sorted(keys.T.tolist())).T)
    assert lexicographic_order(keys[:, :0]).shape == (0,)


def test_one_atom_alone_has_no_edges_and_knows_its_images() -> None:
    assert find([[1.0, 2.0, 3.0]], np.zeros((3, 3)), [False] * 3).index.shape == (2, 0)
    # a simple cubic lattice has 6, 12, 8, 6, 24 points at 1, √2, √3, 2, √5 lattice constants
    for cutoff, count in ((0.9, 0), (1.1, 6), (1.5, 18), (1.8, 26), (2.1, 32), (2.3, 56)):
        edges = find([[0.3, 0.1, 0.2]], np.eye(3) * 3.0, [True] * 3, cutoff * 3.0)
        assert edges.index.shape == (2, count)
        assert_reverse(edges)


def test_the_cutoff_itself_is_out() -> None:
    pair = [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    assert find(pair, np.zeros((3, 3)), [False] * 3, 3.0).index.shape[1] == 0
    assert find(pair, np.zeros((3, 3)), [False] * 3, np.nextafter(3.0, 4.0)).index.shape[1] == 2


def test_rounding_at_the_cutoff_never_parts_an_edge_from_its_reverse() -> None:
    """In a perfect crystal whole shells lie at the cutoff and rounding decides for each edge."""
    rng = np.random.default_rng(3)
    counts = set()
    for _ in range(20):
        cell = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 4.0
        fractions = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) + rng.normal(size=3)
        edges = find(fractions @ cell, cell, [True] * 3, 4.0)
        counts.add(edges.index.shape[1])
        assert_reverse(edges)  # find_edges raises too if an edge has no reverse
    assert len(counts) > 1  # rounding did decide, else this test looks at nothing


def test_rows_without_periodicity_say_nothing() -> None:
    rng = np.random.default_rng(5)
    positions = rng.uniform(-4, 9, (12, 3))
    for pbc in ([True, False, False], [False, True, True], [False, False, False]):
        rows = np.diag([4.0, 5.0, 6.0]) * np.array(pbc)[:, None]
        boxed = rows + ~np.array(pbc)[:, None] * rng.normal(size=(3, 3))
        assert as_tuples(find(positions, rows, pbc)) == as_tuples(find(positions, boxed, pbc))


def test_moving_atoms_by_lattice_vectors_keeps_every_vector() -> None:
    rng = np.random.default_rng(6)
    cell = np.array([[3.0, 0.1, 0.0], [1.0, 3.5, 0.0], [0.2, -0.7, 4.1]])
    positions = rng.uniform(size=(4, 3)) @ cell
    moved = positions + rng.integers(-9, 10, (4, 3)) @ cell

    def vectors(at: np.ndarray) -> np.ndarray:
        edges = find(at, cell, [True] * 3)
        difference = at[edges.index[1]] - at[edges.index[0]] + edges.shift @ cell
        return np.column_stack([edges.index.T, difference])

    # within a pair of atoms the order of shifts is that of vectors in the lattice's frame: same order
    assert np.allclose(vectors(positions), vectors(moved), rtol=0, atol=1e-12)  # ~50 Å times 2e-16, summed


def test_relabelling_atoms_relabels_edges() -> None:
    rng = np.random.default_rng(8)
    cell, order = np.diag([3.0, 4.0, 5.0]), rng.permutation(6)
    positions = rng.uniform(size=(6, 3)) @ cell
    relabelled = [
        (int(order[i]), int(order[j]), *s) for i, j, *s in as_tuples(find(positions[order], cell, [True] * 3))
    ]
    assert sorted(relabelled) == as_tuples(find(positions, cell, [True] * 3))


@pytest.mark.parametrize("length", [1e4, 1e6])
@pytest.mark.parametrize("periodic", [True, False])
def test_vacuum_costs_nothing(length: float, periodic: bool) -> None:
    """Long empty cells: a search over all of the box would take minutes, or divide by zero bins."""
    rng = np.random.default_rng(9)
    cell = np.diag([3.0, 4.0, length])
    positions = np.concatenate(
        [rng.uniform(0, 6, (6, 3)), [[0.0, 0.0, 0.6 * length], [0.0, 0.0, length - 1]]]
    )
    pbc = np.array([True, True, periodic])
    start = time.perf_counter()
    edges = find(positions, cell, pbc)
    assert time.perf_counter() - start < 60  # compiling included
    assert as_tuples(edges) == brute_force(positions, cell, pbc, CUTOFF)


def test_a_thin_sheet_with_a_hundred_thousand_bins() -> None:
    """More bins than the search takes, in a box one bin thick."""
    rng = np.random.default_rng(10)
    cell = np.diag([1.1 * CUTOFF, 350 * CUTOFF, 350 * CUTOFF])
    positions = rng.uniform(size=(1500, 3)) @ cell
    edges = find(positions, cell, [True] * 3)
    images = np.concatenate([positions + s * cell[0] for s in (-1, 0, 1)])
    near = []
    for atom in positions:
        difference = images - atom
        difference -= np.round(difference @ np.diag([0, 1, 1]) / np.diag(cell)) @ cell
        near.append(np.count_nonzero(np.linalg.norm(difference, axis=1) < CUTOFF) - 1)
    assert np.array_equal(np.bincount(edges.index[0], minlength=1500), near)
    assert edges.index.shape[1] > 0


def test_atoms_too_far_for_their_digits_are_refused() -> None:
    positions = [[0.0, 0.0, 0.0], [0.0, 5e6, 0.0]]
    with pytest.raises(StructureError, match=r"Atom 1 .* wrap"):
        find(positions, np.eye(3) * 3.0, [True] * 3)
    assert find(positions, np.zeros((3, 3)), [False] * 3).index.shape[1] == 0


def test_completed_rows_are_unit_normals(cell: np.ndarray, pbc: np.ndarray) -> None:
    completed = complete_cell(cell, pbc)
    assert np.array_equal(completed[pbc], cell[pbc])
    products = completed[~pbc] @ completed.T
    expected = np.eye(3)[~pbc]
    assert np.allclose(products, expected, atol=1e-14)  # a few roundings of numbers up to 6


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 0, 0], [0, 3, 0], [0, 0, 3]],
        [[1, 2, 3], [2, 4, 6], [0, 0, 1]],
        [[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_a_flat_periodic_cell_is_refused(rows: list) -> None:
    with pytest.raises(StructureError, match=r"flat|not finite"):
        complete_cell(np.array(rows, float), np.array([True, True, False]))


def test_a_list_without_reverses_is_refused() -> None:
    edges = find([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.zeros((3, 3)), [False] * 3)
    with pytest.raises(StructureError, match="canonical"):
        reverse_edges(3, edges.index[:, 1:], edges.shift[1:])
    with pytest.raises(StructureError, match="canonical"):
        reverse_edges(3, edges.index[:, ::-1].copy(), edges.shift)
    shift = edges.shift.copy()
    shift[0, 2] = 1
    with pytest.raises(StructureError, match="canonical"):
        reverse_edges(3, edges.index, shift)

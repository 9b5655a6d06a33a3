"""How a batch's rows are dealt to threads: all of them, once, and never two threads at one number."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atomml.kernels.parts import PARTS_PER_THREAD, Parts

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=40)


def batch(sizes: list[int], degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of each structure, and where the edges of each atom begin; some atoms have none."""
    atoms = np.array(sizes)
    degrees = np.arange(atoms.sum()) % (degree + 1)
    return atoms, np.concatenate([[0], np.cumsum(degrees)])


@given(sizes=SIZES, degree=st.integers(0, 7), threads=st.integers(1, 9))
def test_parts_hold_every_atom_once_in_order(sizes: list[int], degree: int, threads: int) -> None:
    atoms, edge_start = batch(sizes, degree)
    parts = Parts.of(atoms, edge_start, threads)
    assert parts.atoms[0] == 0
    assert parts.atoms[-1] == atoms.sum()
    assert (np.diff(parts.atoms) > 0).all()
    assert len(parts.copies) == len(parts.atoms) - 1
    assert len(parts.copies) <= PARTS_PER_THREAD * threads


@given(sizes=SIZES, degree=st.integers(0, 7), threads=st.integers(1, 9))
def test_parts_that_share_a_copy_never_cut_a_structure(sizes: list[int], degree: int, threads: int) -> None:
    """Rows of one structure add to the same numbers: in one copy they belong to one part."""
    atoms, edge_start = batch(sizes, degree)
    parts = Parts.of(atoms, edge_start, threads)
    if len(np.unique(parts.copies)) == len(parts.copies):
        return
    first_atoms = np.concatenate([[0], np.cumsum(atoms)])
    assert set(parts.atoms.tolist()) <= set(first_atoms.tolist())


@given(n=st.integers(16, 60), threads=st.integers(2, 4))
def test_equal_structures_are_dealt_out_evenly(n: int, threads: int) -> None:
    """No part has more than one structure over its share: none can be cut finer."""
    atoms, edge_start = np.full(n, 3), np.arange(0, 3 * n * 5 + 1, 5)
    parts = Parts.of(atoms, edge_start, threads)
    most = np.diff(edge_start[parts.atoms]).max()
    share = edge_start[-1] / (PARTS_PER_THREAD * threads if n >= 2 * threads else threads)
    assert most < share + 2 * 15

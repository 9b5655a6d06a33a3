"""Taking an atom out of a graph: the same bits as building the graph without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from atomml.errors import StructureError
from atomml.graph import AtomGraph, GraphBuilder, collate
from atomml.graph.removal import without_atom

Same = Callable[[AtomGraph, AtomGraph], None]


@pytest.mark.parametrize("angles", [True, False])
def test_it_is_the_graph_of_the_smaller_structure(
    cell: np.ndarray, pbc: np.ndarray, angles: bool, assert_same: Same
) -> None:
    """In every periodicity, also where an atom is its own neighbour, for the first, a middle and the last."""
    rng = np.random.default_rng(3)
    atoms = Atoms([3, 8, 27, 8, 3], positions=rng.random((5, 3)) @ cell * 1.7, cell=cell, pbc=pbc)
    builder = GraphBuilder(4.0, 3.0, angles=angles)
    whole = builder(atoms)
    for atom in (0, 2, 4):
        smaller = atoms.copy()
        del smaller[atom]
        assert_same(without_atom(whole, atom), GraphBuilder(4.0, 3.0, angles=angles)(smaller))


def test_what_makes_no_sense_is_refused(oxide: Atoms) -> None:
    graph = GraphBuilder(4.0)(oxide)
    with pytest.raises(StructureError, match="no atom 12"):
        without_atom(graph, 12)
    with pytest.raises(StructureError, match="batch"):
        without_atom(collate([graph, graph]), 0)
    with pytest.raises(StructureError, match="only atom"):
        without_atom(GraphBuilder(4.0)(oxide[:1]), 0)

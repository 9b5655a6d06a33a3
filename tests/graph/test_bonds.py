"""The bond graph holds every ordered pair of short edges with a common centre, sorted."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from atomml.graph import build_graph
from atomml.graph.bonds import bond_graph


def test_angles_are_all_ordered_pairs_of_bonds_at_a_centre(oxide: Atoms) -> None:
    graph = build_graph(oxide, 5.0, 2.9)
    bonds = graph.bond_graph
    assert bonds is not None
    short = torch.nonzero(graph.edge_vectors().norm(dim=1) < 2.9)[:, 0].tolist()
    centre = graph.edge_index[0].tolist()
    pairs = [[a, b] for a in short for b in short if a != b and centre[a] == centre[b]]
    assert bonds.bonds.tolist() == short
    assert bonds.angle_index.T.tolist() == pairs  # made in sorted order
    assert bonds.cutoff == 2.9
    assert len(pairs) > 100


def test_bonds_come_with_their_reverse_and_n_bonds_make_n_times_n_minus_one_angles(oxide: Atoms) -> None:
    graph = build_graph(oxide, 5.0, 2.9)
    assert graph.bond_graph is not None
    bonds = graph.bond_graph.bonds
    assert torch.equal(graph.edge_reverse[bonds].sort().values, bonds)
    per_atom = torch.bincount(graph.edge_index[0, bonds], minlength=graph.n_atoms)
    assert graph.bond_graph.n_angles == int((per_atom * (per_atom - 1)).sum())


def test_images_of_one_atom_enclose_angles() -> None:
    """Simple cubic: 6 bonds of one atom, 30 ordered pairs, of which 6 are straight and 24 right."""
    graph = build_graph(Atoms("Po", cell=[3.3] * 3, pbc=True), 4.0, 3.5)
    assert graph.bond_graph is not None
    first, second = graph.edge_vectors()[graph.bond_graph.angle_index]
    cosine = (first * second).sum(dim=1) / 3.3**2
    assert sorted(cosine.round().tolist()) == [-1.0] * 6 + [0.0] * 24


def test_the_bond_cutoff_itself_is_out() -> None:
    centre = np.zeros(3, dtype=np.int64)
    lengths = np.array([1.0, 2.0, np.nextafter(2.0, 0.0)])
    assert bond_graph(centre, lengths, 2.0).bonds.tolist() == [0, 2]
    assert bond_graph(centre, lengths, 2.0).angle_index.tolist() == [[0, 2], [2, 0]]


def test_no_short_edge_no_bond() -> None:
    found = bond_graph(np.array([0, 1]), np.array([3.0, 3.0]), 2.0)
    assert found.bonds.shape == (0,)
    assert found.angle_index.shape == (2, 0)
    assert found.n_angles == 0
    assert found.angle_index.dtype == torch.int64

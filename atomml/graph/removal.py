"""A graph without one of its atoms, out of the graph with it: nobody searches for neighbours again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from atomml.errors import StructureError
from atomml.graph.atom_graph import AtomGraph
from atomml.graph.bonds import bond_graph

__all__ = ["without_atom"]


def without_atom(graph: AtomGraph, atom: int) -> AtomGraph:
    """The graph that a builder makes of the same structure with one atom left out, bit for bit.

    The edges that stay keep their order, which is canonical, because taking away an atom lowers every
    later number by one and so changes no comparison.

    Args:
        graph: Of one structure.
        atom: Which atom goes.

    Raises:
        StructureError: A graph of several structures, an atom that there is not, or the only atom.
    """
    if graph.n_graphs != 1:
        raise StructureError("An atom is taken out of the graph of one structure, and this is a batch.")
    if not 0 <= atom < graph.n_atoms:
        raise StructureError(f"There is no atom {atom} in a graph of {graph.n_atoms}.")
    if graph.n_atoms == 1:
        raise StructureError("Without its only atom a structure is none.")
    index = graph.edge_index.cpu().numpy()
    stays = (index != atom).all(axis=0)
    place = np.cumsum(stays) - 1
    index = index[:, stays]
    index -= index > atom
    atoms = torch.arange(graph.n_atoms, device=graph.device) != atom
    kept = torch.from_numpy(stays).to(graph.device)
    reverse = place[graph.edge_reverse.cpu().numpy()[stays]]
    smaller = replace(
        graph,
        numbers=graph.numbers[atoms],
        positions=graph.positions[atoms],
        batch=graph.batch[atoms],
        edge_index=torch.from_numpy(index).to(graph.device),
        edge_shift=graph.edge_shift[kept],
        edge_reverse=torch.from_numpy(reverse).to(graph.device),
    )
    if graph.bond_graph is None:
        return smaller
    length = torch.linalg.vector_norm(smaller.edge_vectors().detach(), dim=1).cpu().numpy()
    bonds = bond_graph(index[0], length, graph.bond_graph.cutoff)
    found = replace(bonds, bonds=bonds.bonds.to(graph.device), angle_index=bonds.angle_index.to(graph.device))
    return replace(smaller, bond_graph=found)

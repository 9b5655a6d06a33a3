"""A graph with shorter cutoffs, out of one that reaches farther."""

from __future__ import annotations

from dataclasses import replace

import torch

from atomml.errors import OptionError
from atomml.graph.atom_graph import AtomGraph, BondGraph
from atomml.graph.bonds import bond_graph

__all__ = ["shorter"]


def shorter(graph: AtomGraph, cutoff: float, bond_cutoff: float | None, *, angles: bool = False) -> AtomGraph:
    """The graph that a builder with these cutoffs makes of the same structures.

    Args:
        graph: One or many structures.
        cutoff: Å, at most the graph's.
        bond_cutoff: Å; None for no bond graph.
        angles: Whether a graph without a bond graph gets one; else the result has none either.

    Raises:
        OptionError: A cutoff beyond the graph's.
    """
    if cutoff > graph.cutoff:
        raise OptionError(f"The graph reaches {graph.cutoff} Å, which is less than {cutoff} Å.")
    lengths = torch.linalg.vector_norm(graph.edge_vectors().detach(), dim=1)
    if cutoff < graph.cutoff:
        kept = torch.nonzero(lengths < cutoff).squeeze(1)
        place = torch.full((graph.n_edges,), -1, dtype=torch.int64, device=graph.device)
        place[kept] = torch.arange(len(kept), device=graph.device)
        graph = replace(
            graph,
            edge_index=graph.edge_index[:, kept],
            edge_shift=graph.edge_shift[kept],
            edge_reverse=place[graph.edge_reverse[kept]],
            cutoff=cutoff,
        )
        lengths = lengths[kept]
        if graph.bond_graph is not None:  # its numbers are those of the edges that were
            graph = replace(graph, bond_graph=_bonds(graph, lengths, graph.bond_graph.cutoff))
    had = None if graph.bond_graph is None else graph.bond_graph.cutoff
    if bond_cutoff == had or (had is None and not angles):
        return graph
    bonds = None if bond_cutoff is None else _bonds(graph, lengths, bond_cutoff)
    return replace(graph, bond_graph=bonds)


def _bonds(graph: AtomGraph, lengths: torch.Tensor, cutoff: float) -> BondGraph:
    found = bond_graph(graph.edge_index[0].cpu().numpy(), lengths.double().cpu().numpy(), cutoff)
    return replace(found, bonds=found.bonds.to(graph.device), angle_index=found.angle_index.to(graph.device))

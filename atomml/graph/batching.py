"""Many graphs as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atomml.errors import StructureError
from atomml.graph.atom_graph import AtomGraph, BondGraph

__all__ = ["collate"]


def collate(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """One graph of many, in the order given; batches may be batched again.

    Raises:
        StructureError: No graphs, or graphs built with different cutoffs.
    """
    if not graphs:
        raise StructureError("There is no structure to batch; give at least one.")
    if len(graphs) == 1:
        return graphs[0]
    for name, cutoffs in (
        ("cutoffs", {graph.cutoff for graph in graphs}),
        ("bond cutoffs", {graph.bond_graph.cutoff if graph.bond_graph else None for graph in graphs}),
    ):
        if len(cutoffs) > 1:
            found = " and ".join(sorted(map(str, cutoffs)))
            raise StructureError(
                f"Graphs with different {name} ({found}) cannot be batched: build them alike."
            )
    atoms = _offsets([graph.n_atoms for graph in graphs])
    structures = _offsets([graph.n_graphs for graph in graphs])
    edges = _offsets([graph.n_edges for graph in graphs])
    return AtomGraph(
        numbers=torch.cat([graph.numbers for graph in graphs]),
        positions=torch.cat([graph.positions for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        pbc=torch.cat([graph.pbc for graph in graphs]),
        batch=_joined([graph.batch for graph in graphs], structures),
        edge_index=_joined([graph.edge_index for graph in graphs], atoms),
        edge_shift=torch.cat([graph.edge_shift for graph in graphs]),
        edge_reverse=_joined([graph.edge_reverse for graph in graphs], edges),
        cutoff=graphs[0].cutoff,
        charge=torch.cat([graph.charge for graph in graphs]),
        spin=torch.cat([graph.spin for graph in graphs]),
        bond_graph=_join_bonds([graph.bond_graph for graph in graphs if graph.bond_graph], edges),
    )


def _join_bonds(parts: list[BondGraph], edges: list[int]) -> BondGraph | None:
    if not parts:
        return None
    return BondGraph(
        cutoff=parts[0].cutoff,
        bonds=_joined([part.bonds for part in parts], edges),
        angle_index=_joined([part.angle_index for part in parts], edges),
    )


def _joined(tensors: list[Tensor], offsets: list[int]) -> Tensor:
    """Index tensors side by side along their last axis, each moved by its offset."""
    return torch.cat([tensor + offset for tensor, offset in zip(tensors, offsets, strict=True)], dim=-1)


def _offsets(sizes: list[int]) -> list[int]:
    """How many things come before each graph's own."""
    before = [0]
    for size in sizes[:-1]:
        before.append(before[-1] + size)
    return before

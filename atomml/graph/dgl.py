"""Graphs for DGL and back, exactly.

One DGL heterograph holds a graph or a batch, so that ``dgl.batch`` and DGL's message passing work:

- node type ``atom``: ``numbers``, ``positions``.
- edge type ``("atom", "edge", "atom")``, in canonical order: source the neighbour, destination
  the centre, as messages flow; ``shift``, and ``is_bond`` where there is a bond graph.
- node type ``bond``, one for each edge with ``is_bond``, in their order.
- edge type ``("bond", "angle", "bond")``: destination the first bond of the pair, source the second.
- node type ``structure``, one for each: ``cell``, ``pbc``, ``charge``, ``spin``, ``cutoff``,
  ``bond_cutoff`` (NaN without a bond graph).
- edge type ``("atom", "in", "structure")``: each atom to its structure, for readouts.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from atomml.errors import MissingExtraError, StructureError
from atomml.graph.atom_graph import AtomGraph, BondGraph
from atomml.graph.neighbours import reverse_edges

__all__ = ["from_dgl", "to_dgl"]

_EDGE = ("atom", "edge", "atom")
_ANGLE = ("bond", "angle", "bond")
_MEMBER = ("atom", "in", "structure")


def to_dgl(graph: AtomGraph) -> Any:
    """The graph as a ``dgl.DGLGraph`` with the layout in this module's documentation.

    A batch becomes a batched DGL graph.

    Raises:
        MissingExtraError: DGL is not installed.
    """
    dgl = _import_dgl()
    bonds = graph.bond_graph
    is_bond = torch.zeros(graph.n_edges, dtype=torch.bool, device=graph.device)
    first = second = torch.empty(0, dtype=torch.int64, device=graph.device)
    if bonds is not None:
        is_bond[bonds.bonds] = True
        first, second = torch.searchsorted(bonds.bonds, bonds.angle_index)
    n_bonds = int(is_bond.sum())
    centre, neighbour = graph.edge_index
    result = dgl.heterograph(
        {
            _EDGE: (neighbour, centre),
            _ANGLE: (second, first),
            _MEMBER: (torch.arange(graph.n_atoms, device=graph.device), graph.batch),
        },
        num_nodes_dict={"atom": graph.n_atoms, "bond": n_bonds, "structure": graph.n_graphs},
        device=graph.device,
    )
    result.nodes["atom"].data.update(numbers=graph.numbers, positions=graph.positions)
    result.edges[_EDGE].data.update(shift=graph.edge_shift, is_bond=is_bond)
    per_structure = torch.ones(graph.n_graphs, dtype=torch.float64, device=graph.device)
    result.nodes["structure"].data.update(
        cell=graph.cell,
        pbc=graph.pbc,
        charge=graph.charge,
        spin=graph.spin,
        cutoff=per_structure * graph.cutoff,
        bond_cutoff=per_structure * (math.nan if bonds is None else bonds.cutoff),
    )
    _mark_batch(result, graph, is_bond, first)
    return result


def from_dgl(graph: Any) -> AtomGraph:
    """The :class:`AtomGraph` of a DGL graph with the layout in this module's documentation.

    Raises:
        StructureError: The DGL graph has another layout, or its structures have different cutoffs.
    """
    structure, atom, edge = _features(graph)
    neighbour, centre = graph.edges(etype=_EDGE)
    index = torch.stack([centre, neighbour])
    reverse = reverse_edges(graph.num_nodes("atom"), index.cpu().numpy(), edge["shift"].cpu().numpy())
    bonds = None
    bond_cutoff = _one(structure["bond_cutoff"], "bond cutoffs")
    if not math.isnan(bond_cutoff):
        positions = torch.nonzero(edge["is_bond"])[:, 0]
        second, first = graph.edges(etype=_ANGLE)
        bonds = BondGraph(bond_cutoff, positions, positions[torch.stack([first, second])])
    return AtomGraph(
        numbers=atom["numbers"],
        positions=atom["positions"],
        cell=structure["cell"],
        pbc=structure["pbc"],
        batch=graph.edges(etype=_MEMBER)[1],
        edge_index=index,
        edge_shift=edge["shift"],
        edge_reverse=torch.from_numpy(reverse).to(index.device),
        cutoff=_one(structure["cutoff"], "cutoffs"),
        charge=structure["charge"],
        spin=structure["spin"],
        bond_graph=bonds,
    )


def _features(graph: Any) -> tuple[Any, Any, Any]:
    """Features of structures, atoms and edges."""
    if set(getattr(graph, "canonical_etypes", ())) != {_EDGE, _ANGLE, _MEMBER}:
        raise StructureError("The DGL graph has node and edge types of its own: give one made by to_dgl.")
    return graph.nodes["structure"].data, graph.nodes["atom"].data, graph.edges[_EDGE].data


def _mark_batch(result: Any, graph: AtomGraph, is_bond: Tensor, first: Tensor) -> None:
    """Tell DGL how many nodes and edges each structure has."""
    of_edge = graph.batch[graph.edge_index[0]]
    of_bond = of_edge[is_bond]
    ones = torch.ones(graph.n_graphs, dtype=torch.int64, device=graph.device)

    def count(owner: Tensor) -> Tensor:
        """How many of these rows each graph owns."""
        return torch.bincount(owner, minlength=graph.n_graphs)

    atoms = count(graph.batch)
    result.set_batch_num_nodes({"atom": atoms, "bond": count(of_bond), "structure": ones})
    result.set_batch_num_edges({_EDGE: count(of_edge), _ANGLE: count(of_bond[first]), _MEMBER: atoms})


def _one(values: Tensor, what: str) -> float:
    """The value that all structures share; NaN counts as a value."""
    found = {str(value): value for value in values.tolist()}
    if len(found) != 1:
        raise StructureError(f"The DGL graph has structures with different {what}: {', '.join(found)}.")
    return float(next(iter(found.values())))


def _import_dgl() -> Any:
    with _environment("DGLBACKEND", "pytorch"):
        try:
            return importlib.import_module("dgl")
        except ImportError:
            raise MissingExtraError.for_extra("dgl", "dgl") from None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable set for a moment: without it, DGL writes a file into the user's home folder."""
    before = os.environ.get(name)
    os.environ[name] = before or value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

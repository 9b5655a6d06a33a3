"""Atoms in, AtomGraph out: neighbours, bond graphs, batches and interoperation.

Graphs are made of torch's tensors, which take a second to import; checks of structures need none
of it, and the processes that read data only check.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.graph.atom_graph import AtomGraph, BondGraph
    from atomml.graph.batching import collate
    from atomml.graph.builder import GraphBuilder, build_graph

__all__ = ["AtomGraph", "BondGraph", "GraphBuilder", "build_graph", "collate"]

_HOME = {
    "AtomGraph": "atom_graph",
    "BondGraph": "atom_graph",
    "GraphBuilder": "builder",
    "build_graph": "builder",
    "collate": "batching",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home at first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'atomml.graph' has no attribute {name!r}")
    return getattr(import_module(f"atomml.graph.{_HOME[name]}"), name)

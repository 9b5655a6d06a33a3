"""Atoms in, AtomGraph out: neighbours, bond graphs, batches and interoperation."""

from __future__ import annotations

from atomml.graph.atom_graph import AtomGraph, BondGraph
from atomml.graph.batching import collate
from atomml.graph.builder import GraphBuilder, build_graph

__all__ = ["AtomGraph", "BondGraph", "GraphBuilder", "build_graph", "collate"]

"""Where the work of each phase is cut into ranges for the threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atomml.kernels.gemm import BLOCK, TILE_ROWS
from atomml.kernels.threads import split_evenly, split_weighted
from atomml.potentials.chgnet.fast.topology import Topology

__all__ = ["Bounds"]

PARTS_PER_THREAD = 3
"""Ranges per thread: one that is disturbed, or has harder ranges, leaves its rest to the others."""

TINY = 600
"""Edges below which a phase is not split at all: calling for help costs more than it saves."""


@dataclass
class Bounds:
    """How each kind of work is split over threads: first of each range, and the end of the last."""

    edges: list[int]
    bonds: list[int]
    pairs: list[int]
    angles: list[int]
    atoms_by_edges: list[int]
    atoms_by_angles: list[int]

    @classmethod
    def of(cls, topology: Topology, n_edges: int) -> Bounds:
        """Ranges of about equal work for the threads that torch may use."""
        threads = torch.get_num_threads()
        parts = 1 if threads == 1 or n_edges < TINY else PARTS_PER_THREAD * threads
        return cls(
            edges=split_evenly(n_edges, parts),
            bonds=split_evenly(len(topology.primary), parts, BLOCK),
            pairs=split_evenly(len(topology.pair), parts, TILE_ROWS),
            angles=split_evenly(len(topology.angles), parts, BLOCK),
            atoms_by_edges=split_weighted(topology.edge_start, parts),
            atoms_by_angles=split_weighted(topology.angle_start + topology.edge_start // 8, parts),
        )

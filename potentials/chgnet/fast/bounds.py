"""Where the work of each phase is cut into ranges for the threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.kernels.gemm import BLOCK, TILE_ROWS
from atomml.kernels.threads import split_tapered, split_weighted
from atomml.potentials.chgnet.fast.topology import Topology

__all__ = ["Bounds"]

TINY = 600
"""Edges below which a phase is not split at all: calling for help costs more than it saves."""


@dataclass
class Bounds:
    """How each kind of work is split over threads: first of each range, and the end of the last."""

    bonds: NDArray[np.int64]
    pairs: NDArray[np.int64]
    angles: NDArray[np.int64]
    atoms_by_edges: NDArray[np.int64]
    atoms_by_angles: NDArray[np.int64]

    @classmethod
    def of(cls, topology: Topology, n_edges: int) -> Bounds:
        """Ranges of about equal work for the threads that torch may use."""
        threads = 1 if n_edges < TINY else torch.get_num_threads()
        edges, angles = topology.edge_start, topology.angle_start
        return cls(
            bonds=split_tapered(len(topology.primary), threads, BLOCK, BLOCK),
            pairs=split_tapered(len(topology.pair), threads, TILE_ROWS, TILE_ROWS),
            angles=split_tapered(len(topology.angles), threads, BLOCK, BLOCK),
            atoms_by_edges=split_weighted(edges, threads, BLOCK),
            atoms_by_angles=split_weighted(angles + edges // 8, threads, BLOCK),
        )

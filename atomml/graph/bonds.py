"""The bond graph: pairs of short edges that leave the same atom."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.graph.atom_graph import BondGraph
from atomml.kernels.compile import kernel

__all__ = ["bond_graph"]


def bond_graph(centre: NDArray[np.int64], distance: NDArray[np.float64], cutoff: float) -> BondGraph:
    """All ordered pairs of distinct edges that are shorter than the cutoff and share their centre.

    Args:
        centre: ``(n_edges,)`` centre of each edge, ascending.
        distance: ``(n_edges,)`` Å.
        cutoff: Å; edges strictly shorter are bonds.
    """
    bonds, angles = _pairs_of_bonds(centre, distance, cutoff)
    return BondGraph(cutoff, torch.from_numpy(bonds), torch.from_numpy(angles))


@kernel
def _pairs_of_bonds(centre: NDArray[np.int64], distance: NDArray[np.float64], cutoff: float) -> Any:
    """Bonds and ``(2, n_angles)`` pairs, sorted by first, then second edge."""
    n_bonds = 0
    for e in range(len(distance)):
        n_bonds += distance[e] < cutoff
    bonds = np.empty(n_bonds, dtype=np.int64)
    start = np.empty(n_bonds, dtype=np.int64)
    b = n_angles = 0
    for e in range(len(distance)):
        if distance[e] < cutoff:
            bonds[b] = e
            start[b] = start[b - 1] if b > 0 and centre[bonds[b - 1]] == centre[e] else b
            n_angles += 2 * (b - start[b])
            b += 1
    angles = np.empty((2, n_angles), dtype=np.int64)
    a = 0
    first = 0
    while first < n_bonds:
        last = first
        while last < n_bonds and start[last] == first:
            last += 1
        for one in range(first, last):
            for other in range(first, last):
                if one != other:
                    angles[0, a] = bonds[one]
                    angles[1, a] = bonds[other]
                    a += 1
        first = last
    return bonds, angles

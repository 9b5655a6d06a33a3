"""How the rows of a batch are split over threads that add to what rows share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts"]

Array = NDArray[Any]

PARTS_PER_THREAD = 4
"""Parts per thread where structures share nothing: a thread that is done takes the next."""


@dataclass(frozen=True)
class Parts:
    """How the rows of a batch are split over threads.

    What the rows of two structures add to never meets, so parts end between structures where there
    are enough of them. Otherwise each part adds to a copy of its own, and copies are summed in order.

    Attributes:
        atoms: ``(n_parts + 1,)`` first atom of each part.
        copies: ``(n_parts,)`` which copy each part adds to.
    """

    atoms: Array
    copies: Array

    @classmethod
    def of(cls, atoms_per_graph: Array, edge_start: Array, threads: int) -> Parts:
        """Parts of about equal numbers of edges.

        Args:
            atoms_per_graph: ``(n_graphs,)``.
            edge_start: ``(n_atoms + 1,)`` first edge of each atom.
            threads: How many threads may be used.
        """
        graph_start = np.concatenate([[0], np.cumsum(atoms_per_graph)])
        alone = threads == 1 or len(atoms_per_graph) < 2 * threads
        allowed = np.arange(len(edge_start)) if alone else graph_start
        n_parts = threads if alone else PARTS_PER_THREAD * threads
        wanted = edge_start[-1] * np.arange(1, n_parts) / n_parts
        inner = allowed[np.searchsorted(edge_start[allowed], wanted)]
        atoms = np.unique(np.concatenate([[0], inner, graph_start[-1:]])).astype(np.int64)
        n = max(1, len(atoms) - 1)
        return cls(atoms, np.arange(n) if alone else np.zeros(n, np.int64))

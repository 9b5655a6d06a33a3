"""The graph of nearest neighbours: every shell that the k-th neighbour lies in, whole.

CGCNN and ALIGNN look at the twelve nearest neighbours of an atom. Where the twelfth lies in a shell of
several at one distance, CGCNN's public code takes whichever its sort leaves first, so that its answer
depends on the order of atoms; here each of such a shell counts by the same part, which is the average over
those choices (:func:`shell_weights`). ALIGNN takes the whole shell, and adds the reverse of each edge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from atomml.graph import AtomGraph, GraphBuilder
from atomml.kernels.compile import kernel

__all__ = ["SAME_SHELL", "nearest_graph", "shell_weights"]

SAME_SHELL = 1e-4
"""Å; neighbours whose distances differ by less lie in one shell: what text files keep of positions."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def nearest_graph(atoms: Atoms, k: int, cutoff: float, where: str = "structure") -> AtomGraph:
    """Edges to the shells of the k nearest neighbours within a cutoff, each with its reverse.

    Args:
        atoms: The structure.
        k: Neighbours.
        cutoff: Å; atoms farther away are no neighbours, however few there are.
        where: What to call the structure in an error.

    Raises:
        StructureError: A structure that no model can take.
    """
    whole = GraphBuilder(cutoff)(atoms, where)
    centre = whole.edge_index[0].numpy()
    length = np.linalg.norm(whole.edge_vectors().numpy(), axis=1)
    kept = _near(centre, length, whole.edge_reverse.numpy(), whole.n_atoms, k, SAME_SHELL)
    place = np.cumsum(kept) - 1
    chosen = torch.from_numpy(np.flatnonzero(kept))
    return replace(
        whole,
        edge_index=whole.edge_index[:, chosen],
        edge_shift=whole.edge_shift[chosen],
        edge_reverse=torch.from_numpy(place[whole.edge_reverse.numpy()[kept]]),
    )


def shell_weights(centre: Tensor, length: Tensor, n_atoms: int, k: int) -> Tensor:
    """How much each edge counts among the k nearest of its centre, ``(n_edges,)`` float64.

    One within the last shell that is whole, the part that is left of k over its size in the shell that is
    not, zero beyond; they add up to k, or to the number of neighbours where there are fewer.

    Args:
        centre: ``(n_edges,)`` ascending.
        length: ``(n_edges,)`` Å.
        n_atoms: Atoms.
        k: Neighbours.
    """
    found = _weights(centre.cpu().numpy(), length.detach().double().cpu().numpy(), n_atoms, k, SAME_SHELL)
    return torch.from_numpy(found).to(length.device)


def _shell_py(length: Floats, k: int, same: float) -> Any:
    """Distance of the k-th nearest; how many lie nearer than its shell, and how many in it.

    The shell is what lies within ``same`` of the k-th; with fewer than k, all lie nearer.
    """
    if len(length) <= k:
        return np.inf, len(length), 0
    last = np.sort(length)[k - 1]
    before = within = 0
    for one in length:
        before += one < last - same
        within += abs(one - last) <= same
    return last, before, within


_shell = kernel(_shell_py, forceinline=True).dispatcher


@kernel
def _near(centre: Ints, length: Floats, reverse: Ints, n_atoms: int, k: int, same: float) -> Any:
    """Which edges lie in the shells of one of their ends."""
    n_edges = len(centre)
    near = np.zeros(n_edges, dtype=np.bool_)
    first = 0
    for atom in range(n_atoms):
        end = first
        while end < n_edges and centre[end] == atom:
            end += 1
        last, _, _ = _shell(length[first:end], k, same)
        for e in range(first, end):
            near[e] = length[e] <= last + same
        first = end
    kept = np.empty(n_edges, dtype=np.bool_)
    for e in range(n_edges):
        kept[e] = near[e] or near[reverse[e]]
    return kept


@kernel
def _weights(centre: Ints, length: Floats, n_atoms: int, k: int, same: float) -> Any:
    """The weight of each edge; see :func:`shell_weights`."""
    n_edges = len(centre)
    weights = np.zeros(n_edges)
    first = 0
    for atom in range(n_atoms):
        end = first
        while end < n_edges and centre[end] == atom:
            end += 1
        last, before, within = _shell(length[first:end], k, same)
        for e in range(first, end):
            if length[e] < last - same:
                weights[e] = 1.0
            elif length[e] <= last + same:
                weights[e] = (k - before) / within
        first = end
    return weights

"""Directed edges within a cutoff, in any periodicity, in one canonical order.

``vesin`` finds the pairs; which of them are edges is decided here, in float64 and by one
formula, so that the answer does not depend on how the pairs were found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vesin
from numpy.typing import NDArray

from atomml.errors import StructureError
from atomml.kernels.compile import kernel

__all__ = [
    "SEARCH_MARGIN",
    "EdgeList",
    "closer_than",
    "complete_cell",
    "find_edges",
    "lexicographic_order",
    "reverse_edges",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shifts = NDArray[np.int32]

SEARCH_MARGIN = 1e-6
"""Å; a search goes this much farther than asked, so that no rounding in it loses a pair."""

_MOST_CELLS_AWAY = 1_000_000  # farther out, a float64 coordinate is too coarse for the margin
_MOST_BINS = 1e5  # where vesin merges bins; in a thin box it rounds one count to zero and divides by it


@dataclass(frozen=True)
class EdgeList:
    """Directed edges, by centre, then neighbour, then shift.

    Attributes:
        index: ``(2, n_edges)`` int64, centre and neighbour.
        shift: ``(n_edges, 3)`` int32, whole cells by which the neighbour is moved.
        reverse: ``(n_edges,)`` int64, position of the same edge seen from its other end.
    """

    index: Ints
    shift: Shifts
    reverse: Ints


def complete_cell(cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """The cell with its rows in non-periodic directions replaced by orthonormal ones.

    A row without periodicity says nothing about neighbours (it may be zero, or any box a file
    came with). Its replacement is a unit vector perpendicular to all other rows.

    Raises:
        StructureError: The periodic rows are not finite, or do not span as many directions as there are.
    """
    complete = np.array(cell, dtype=np.float64)
    axes, free = np.flatnonzero(pbc), np.flatnonzero(~pbc)
    if len(axes) == 0:
        return np.eye(3)
    if not np.isfinite(complete[axes]).all():
        raise StructureError("The periodic cell is not finite: give real numbers in Å.")
    lengths = np.linalg.norm(complete[axes], axis=1)
    if len(axes) == 1:
        across = np.cross(complete[axes[0]], np.eye(3)[np.argmin(np.abs(complete[axes[0]]))])
        complete[free] = across, np.cross(complete[axes[0]], across)
    elif len(axes) == 2:
        complete[free] = np.cross(complete[axes[0]], complete[axes[1]])
    norms = np.linalg.norm(complete[free], axis=1, keepdims=True)
    complete[free] /= np.maximum(norms, np.finfo(np.float64).tiny)
    if not abs(np.linalg.det(complete)) > 1e-10 * np.prod(lengths):
        raise StructureError(
            "The periodic cell is flat (vectors that are zero or lie in one plane or line): give a real cell."
        )
    return complete


def find_edges(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float) -> EdgeList:
    """All directed edges with a distance below the cutoff, periodic images of the centre included.

    Args:
        positions: ``(n_atoms, 3)`` Å, finite, anywhere: inside or outside the cell.
        cell: ``(3, 3)`` Å, rows are the cell vectors, those of non-periodic directions as
            :func:`complete_cell` gives them. May be left-handed, skewed, smaller than the cutoff.
        pbc: ``(3,)``.
        cutoff: Å.

    Raises:
        StructureError: An atom lies more than a million cells away from the origin.
    """
    home = np.floor(positions @ np.linalg.inv(cell)) * pbc
    far = np.flatnonzero(np.abs(home).max(axis=1) > _MOST_CELLS_AWAY)
    if len(far):
        raise StructureError(
            f"Atom {far[0]} lies more than {_MOST_CELLS_AWAY} cells away from the origin: wrap the positions."
        )
    reach = cutoff + SEARCH_MARGIN
    points, box, home = _compact(positions - home @ cell, cell, pbc, home, reach)
    while np.prod(np.maximum(1.0, np.trunc(_heights(box) / reach))) > _MOST_BINS:
        reach *= 1.2
        points, box, home = _compact(positions - home @ cell, cell, pbc, home, reach)
    pairs, shift = vesin.NeighborList(cutoff=reach, full_list=True, n_threads=1).compute(
        points, box, True, "PS"
    )
    cells = home.astype(np.int32)
    keys = _near_pairs(positions, cell, pairs, shift, cells, cutoff)
    index, shift = _edges(keys, lexicographic_order(keys), cells)
    return EdgeList(index, shift, reverse_edges(len(positions), index, shift))


def closer_than(positions: Floats, cell: Floats, edges: EdgeList, cutoff: float) -> tuple[EdgeList, Floats]:
    """The edges that are now shorter than the cutoff, in the order they are in, and their lengths (Å)."""
    index, shift, reverse, length = _closer_than(
        positions, cell, edges.index, edges.shift, edges.reverse, cutoff
    )
    return EdgeList(index, shift, reverse), length


def reverse_edges(n_atoms: int, index: Ints, shift: Shifts) -> Ints:
    """Position of ``(j, i, -S)`` for each edge ``(i, j, S)`` of a canonical list.

    Raises:
        StructureError: An edge has no reverse, or the list is not in canonical order.
    """
    reverse = np.empty(index.shape[1], dtype=np.int64)
    if not _pair_reverses(n_atoms, index, shift, reverse):
        raise StructureError("The edges do not come in pairs (i, j, S) and (j, i, -S) in canonical order.")
    return reverse


def _heights(cell: Floats) -> Floats:
    """Distances between opposite faces, Å."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def _compact(
    points: Floats, cell: Floats, pbc: NDArray[np.bool_], home: Floats, reach: float
) -> tuple[Floats, Floats, Floats]:
    """A fully periodic system with the same pairs within reach, and no empty stretch beyond it.

    Across each pair of faces, a layer without atoms that is thicker than the reach is cut down to
    one that still separates: pairs within reach have no such layer between them and keep their
    distance, others stay out of it. A direction without periodicity is one with an infinite
    layer. So the time and memory of the search do not grow with vacuum.

    Returns:
        Points, box, and the cell that each point was taken from (``home`` plus further wrapping).
    """
    points, box, home = points.copy(), cell.copy(), home.copy()
    layer = 1.01 * reach
    for axis in range(3):
        inverse = np.linalg.inv(box)[:, axis]
        height = 1.0 / np.linalg.norm(inverse)
        if pbc[axis]:
            whole = np.floor(points @ inverse)
            points -= whole[:, None] * box[axis]
            home[:, axis] += whole
        normal = inverse * height
        level = points @ normal
        order = np.argsort(level, kind="stable")
        steps = np.diff(level[order])
        vacuum = height - (level[order[-1]] - level[order[0]]) if pbc[axis] else np.inf
        closed = np.empty_like(level)
        closed[order] = np.concatenate([[0.0], np.cumsum(np.minimum(steps, layer))])
        points += (closed - level)[:, None] * normal
        box[axis] += (closed[order[-1]] + min(vacuum, layer) - height) * normal
    return points, box, home


@kernel
def _near_pairs(
    positions: Floats, cell: Floats, pairs: NDArray[np.uint64], shift: Shifts, home: Shifts, cutoff: float
) -> Any:
    """Centre, neighbour and shift between wrapped atoms, ``(5, n)`` int64, of the pairs within the cutoff."""
    keys = np.empty((5, len(pairs)), dtype=np.int64)
    n_kept = 0
    for p in range(len(pairs)):
        i, j = np.int64(pairs[p, 0]), np.int64(pairs[p, 1])
        squared = 0.0
        for x in range(3):
            offset = 0.0
            for k in range(3):
                offset += (shift[p, k] + home[i, k] - home[j, k]) * cell[k, x]
            squared += (positions[j, x] - positions[i, x] + offset) ** 2
        if np.sqrt(squared) < cutoff:
            keys[0, n_kept], keys[1, n_kept] = i, j
            for k in range(3):
                keys[2 + k, n_kept] = shift[p, k]
            n_kept += 1
    return keys[:, :n_kept]


@kernel
def lexicographic_order(keys: Ints) -> Ints:
    """The order that sorts columns by first, then second ... row: a counting sort for each row.

    The keys span few values: shifts between wrapped atoms are small. They differ from the true
    shifts by a constant of the pair of atoms, so both have the same order.
    """
    n = keys.shape[1]
    order, moved = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for p in range(n):
        order[p] = p
    for row in range(len(keys) - 1, -1, -1):
        low, high = 0, 0
        for p in range(n):
            low, high = min(low, keys[row, p]), max(high, keys[row, p])
        start = np.zeros(high - low + 2, dtype=np.int64)
        for p in range(n):
            start[keys[row, p] - low + 1] += 1
        for value in range(1, len(start)):
            start[value] += start[value - 1]
        for q in range(n):
            p = order[q]
            moved[start[keys[row, p] - low]] = p
            start[keys[row, p] - low] += 1
        order, moved = moved, order
    return order


@kernel
def _edges(keys: Ints, order: Ints, home: Shifts) -> Any:
    """Edges from sorted keys, with shifts between the atoms where they are."""
    index = np.empty((2, len(order)), dtype=np.int64)
    shift = np.empty((len(order), 3), dtype=np.int32)
    for e in range(len(order)):
        i, j = keys[0, order[e]], keys[1, order[e]]
        index[0, e], index[1, e] = i, j
        for k in range(3):
            shift[e, k] = keys[2 + k, order[e]] + home[i, k] - home[j, k]
    return index, shift


@kernel
def _closer_than(
    positions: Floats, cell: Floats, index: Ints, shift: Shifts, reverse: Ints, cutoff: float
) -> Any:
    """The edges shorter than the cutoff, in the order they are in, and their lengths.

    Negating a vector negates each rounding in it, so an edge and its reverse have the same
    length to the last bit: both are in or both are out.
    """
    n_edges = index.shape[1]
    length = np.empty(n_edges)
    place = np.empty(n_edges, dtype=np.int64)
    n_kept = 0
    for e in range(n_edges):
        i, j = index[0, e], index[1, e]
        squared = 0.0
        for x in range(3):
            offset = 0.0
            for k in range(3):
                offset += shift[e, k] * cell[k, x]
            squared += (positions[j, x] - positions[i, x] + offset) ** 2
        length[e] = np.sqrt(squared)
        place[e] = n_kept
        n_kept += length[e] < cutoff
    kept_index = np.empty((2, n_kept), dtype=np.int64)
    kept_shift = np.empty((n_kept, 3), dtype=np.int32)
    kept_reverse = np.empty(n_kept, dtype=np.int64)
    kept_length = np.empty(n_kept)
    for e in range(n_edges):
        if length[e] < cutoff:
            p = place[e]
            kept_index[0, p], kept_index[1, p] = index[0, e], index[1, e]
            for k in range(3):
                kept_shift[p, k] = shift[e, k]
            kept_reverse[p] = place[reverse[e]]
            kept_length[p] = length[e]
    return kept_index, kept_shift, kept_reverse, kept_length


@kernel
def _pair_reverses(n_atoms: int, index: Ints, shift: Shifts, reverse: Ints) -> bool:
    """Fill ``reverse``; False if an edge has none.

    Going through the centres in order, the groups ``(j, i)`` of atom ``j`` come up one after the
    other, and negation turns the order of shifts round: the first of a group meets the last.
    """
    n_edges = index.shape[1]
    end = np.zeros(n_atoms + 1, dtype=np.int64)
    for e in range(n_edges):
        end[index[0, e] + 1] += 1
    reached = np.zeros(n_atoms, dtype=np.int64)
    for i in range(n_atoms):
        end[i + 1] += end[i]
        reached[i] = end[i]
    first = 0
    while first < n_edges:
        i, j = index[0, first], index[1, first]
        last = first
        while last < n_edges and index[0, last] == i and index[1, last] == j:
            last += 1
        size = last - first
        start = reached[j]
        if start + size > end[j + 1]:
            return False
        for k in range(size):
            e, r = first + k, start + size - 1 - k
            if index[1, r] != i:
                return False
            for x in range(3):
                if shift[e, x] != -shift[r, x]:
                    return False
            reverse[e] = r
        reached[j] += size
        first = last
    return True

"""Graphs folded by their symmetry: atoms that no network of messages can tell apart are computed once.

Two atoms whose neighbourhoods look alike, whose neighbours' neighbourhoods do, and so on, get the same
features in every layer of a graph network. Colours that are refined until nothing changes (Weisfeiler and
Leman, 1968) find them; one atom of each colour stands for all, one bond for all bonds of a colour that it
receives, and one angle likewise, with how many it stands for. Means over atoms and batch statistics count
them by that number, so the answer is that of the whole graph, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.graph import AtomGraph
from atomml.kernels.compile import kernel
from atomml.nn.segment import segment_sum
from atomml.property.nearest import shell_weights

__all__ = [
    "SAME",
    "FoldedGraph",
    "fold_angles",
    "fold_neighbours",
    "join_folded",
    "mean_over_atoms",
    "no_graph",
]

SAME = 1e-5
"""Å, and of a cosine: lengths and angles that agree to this are equal."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class FoldedGraph:
    """One graph or a batch, folded; a bond is a message from its source to its target.

    Attributes:
        numbers: ``(n_nodes,)`` atomic numbers.
        times: ``(n_nodes,)`` float64, atoms that each node stands for.
        batch: ``(n_nodes,)`` the graph of each.
        n_graphs: How many.
        source, target: ``(n_bonds,)`` nodes; targets ascend.
        length: ``(n_bonds,)`` float64, Å.
        count: ``(n_bonds,)`` float64, how many such bonds its target receives, or their weight.
        angle_source, angle_target: ``(n_angles,)`` bonds between which messages go; targets ascend.
        cosine: ``(n_angles,)`` float64, of the angle at the atom that they share.
        angle_count: ``(n_angles,)`` float64, how many such angles its target receives.
    """

    numbers: Tensor
    times: Tensor
    batch: Tensor
    n_graphs: int
    source: Tensor
    target: Tensor
    length: Tensor
    count: Tensor
    angle_source: Tensor
    angle_target: Tensor
    cosine: Tensor
    angle_count: Tensor

    @property
    def bond_times(self) -> Tensor:
        """``(n_bonds,)`` bonds of the whole graph that each stands for."""
        return self.count * self.times[self.target]

    @property
    def angle_times(self) -> Tensor:
        """``(n_angles,)`` angles of the whole graph that each stands for."""
        return self.angle_count * self.bond_times[self.angle_target]

    def to(self, device: torch.device) -> FoldedGraph:
        """The same on another device."""
        changes: dict[str, Any] = {
            one.name: value.to(device)
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), Tensor)
        }
        return replace(self, **changes)


def fold_neighbours(graph: AtomGraph, k: int) -> FoldedGraph:
    """Fold a graph of one structure, of whose edges the k nearest count (:func:`shell_weights`)."""
    centre, neighbour = graph.edge_index
    length = graph.edge_vectors().norm(dim=1)
    weights = shell_weights(centre, length, graph.n_atoms, k)
    used = torch.nonzero(weights > 0)[:, 0]
    c, n = centre[used].numpy(), neighbour[used].numpy()
    d, w = length[used].numpy(), weights[used].numpy()
    own = _mixed_array(_bins(d), _bins(w))
    colours = _refined(graph.numbers.numpy().astype(np.uint64), c, n, own)
    node_of, first, times = _classes(colours)
    standing = first[node_of] == np.arange(len(colours))
    kept = standing[c]
    keys = _mixed_array(_mixed_array(own[kept], colours[n[kept]]), c[kept].astype(np.uint64))
    place, index = _firsts(keys)
    count: Floats = np.bincount(index, w[kept], minlength=len(place)).astype(np.float64)
    return _made(graph, first, times, node_of, c[kept][place], n[kept][place], d[kept][place], count)


def fold_angles(graph: AtomGraph) -> FoldedGraph:
    """Fold a graph of one structure with the line graph of its bonds, each bond's way back included."""
    c, n = (one.numpy() for one in graph.edge_index)
    vectors = graph.edge_vectors().numpy()
    d = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.maximum(d, 1e-300)[:, None]
    reverse = graph.edge_reverse.numpy()
    begin = np.searchsorted(c, np.arange(graph.n_atoms + 1)).astype(np.int64)
    atoms, bonds = _refined_bonds(
        graph.numbers.numpy().astype(np.uint64), c, n, _bins(d), unit, reverse, begin
    )
    node_of, first, times = _classes(atoms)
    kept = np.flatnonzero(first[node_of[c]] == c)
    place, index = _firsts(_mixed_array(bonds[kept], c[kept].astype(np.uint64)))
    chosen = kept[place]
    count = np.bincount(index, minlength=len(place)).astype(np.float64)
    folded = _made(graph, first, times, node_of, c[chosen], n[chosen], d[chosen], count)
    order = np.argsort(node_of[c[chosen]], kind="stable")
    chosen = chosen[order]
    return _with_angles(folded, chosen, bonds, n, unit, reverse, begin)


def _with_angles(
    folded: FoldedGraph, chosen: Ints, bonds: Hashes, n: Ints, unit: Floats, reverse: Ints, begin: Ints
) -> FoldedGraph:
    """Add what each chosen bond receives: a message from every bond into the atom that it comes from."""
    middle = n[chosen]
    sizes = begin[middle + 1] - begin[middle]
    target = np.repeat(np.arange(len(chosen)), sizes)
    inner = np.arange(len(target)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    other = begin[middle][target] + inner
    own = reverse[chosen][target]
    cosine = np.clip((unit[other] * unit[own]).sum(axis=1), -1.0, 1.0)
    keys = _mixed_array(_mixed_array(bonds[other], _bins(cosine)), target.astype(np.uint64))
    place, index = _firsts(keys)
    count = np.bincount(index, minlength=len(place)).astype(np.float64)
    sorted_, to = np.unique(bonds[chosen], return_index=True)
    source = to[np.searchsorted(sorted_, bonds[other[place]])]
    order = np.argsort(target[place], kind="stable")
    return replace(
        folded,
        angle_source=torch.from_numpy(source[order]),
        angle_target=torch.from_numpy(target[place][order]),
        cosine=torch.from_numpy(cosine[place][order]),
        angle_count=torch.from_numpy(count[order]),
    )


def _made(
    graph: AtomGraph, first: Ints, times: Ints, node_of: Ints, c: Ints, n: Ints, d: Floats, count: Floats
) -> FoldedGraph:
    """Nodes and bonds, targets ascending; no angles."""
    order = np.argsort(node_of[c], kind="stable")
    none = torch.empty(0, dtype=torch.int64)
    return FoldedGraph(
        numbers=graph.numbers[torch.from_numpy(first)],
        times=torch.from_numpy(times.astype(np.float64)),
        batch=torch.zeros(len(first), dtype=torch.int64),
        n_graphs=1,
        source=torch.from_numpy(node_of[n[order]]),
        target=torch.from_numpy(node_of[c[order]]),
        length=torch.from_numpy(d[order]),
        count=torch.from_numpy(count[order]),
        angle_source=none,
        angle_target=none,
        cosine=none.double(),
        angle_count=none.double(),
    )


def join_folded(graphs: Sequence[FoldedGraph]) -> FoldedGraph:
    """A batch, in order."""
    if len(graphs) == 1:
        return graphs[0]
    nodes = np.cumsum([0, *(len(one.numbers) for one in graphs)])
    bonds = np.cumsum([0, *(len(one.source) for one in graphs)])
    before = np.cumsum([0, *(one.n_graphs for one in graphs)])

    def joined(name: str, offsets: Any = None) -> Tensor:
        """One field of all, moved by the offsets."""
        parts = [getattr(one, name) for one in graphs]
        if offsets is not None:
            parts = [part + int(offset) for part, offset in zip(parts, offsets, strict=False)]
        return torch.cat(parts)

    moved = {"source": nodes, "target": nodes, "angle_source": bonds, "angle_target": bonds, "batch": before}
    names = [one.name for one in fields(FoldedGraph) if one.name != "n_graphs"]
    return FoldedGraph(**{name: joined(name, moved.get(name)) for name in names}, n_graphs=int(before[-1]))


def no_graph() -> FoldedGraph:
    """A batch of no graphs."""
    whole, real = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    integers = ("numbers", "batch", "source", "target", "angle_source", "angle_target")
    reals = ("times", "length", "count", "cosine", "angle_count")
    return FoldedGraph(**dict.fromkeys(integers, whole), **dict.fromkeys(reals, real), n_graphs=0)


def mean_over_atoms(x: Tensor, graph: FoldedGraph) -> Tensor:
    """``(n_graphs, n_channels)`` means of ``(n_nodes, n_channels)`` over the atoms of each graph."""
    times = graph.times.to(x)
    n = torch.zeros(graph.n_graphs, dtype=x.dtype, device=x.device).index_add_(0, graph.batch, times)
    return segment_sum(x * times[:, None], graph.batch, graph.n_graphs) / n.clamp(min=1)[:, None]


def _bins(values: Floats) -> Hashes:
    return np.rint(values / SAME).astype(np.int64).astype(np.uint64)


def _classes(colours: Hashes) -> tuple[Ints, Ints, Ints]:
    """Class of each atom, in order of first appearance; the first atom of each; how many it has."""
    _, first, inverse, counts = np.unique(colours, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], first[order], counts[order]


def _firsts(keys: Hashes) -> tuple[Ints, Ints]:
    """First place of each different key, ascending, and which of these each key is."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def _mixed_py(a: Any, b: Any) -> Any:
    """Two words of 64 bits to one, the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_mixed = kernel(_mixed_py, forceinline=True).dispatcher


@kernel
def _mixed_array(a: Hashes, b: Hashes) -> Any:
    """Pair by pair."""
    found = np.empty(len(a), dtype=np.uint64)
    for k in range(len(a)):
        found[k] = _mixed(a[k], b[k])
    return found


def _n_different(colours: Hashes) -> int:
    return len(np.unique(colours))


def _refined(colours: Hashes, c: Ints, n: Ints, own: Hashes) -> Hashes:
    """Colours of atoms, until no more of them differ."""
    before = 0
    while (now := _n_different(colours)) > before:
        before, colours = now, _refine(colours, c, n, own)
    return colours


@kernel
def _refine(colours: Hashes, c: Ints, n: Ints, own: Hashes) -> Any:
    """One round: what an atom receives, whatever the order."""
    heard = np.zeros(len(colours), dtype=np.uint64)
    for e in range(len(c)):
        heard[c[e]] += _mixed(own[e], colours[n[e]])
    found = np.empty(len(colours), dtype=np.uint64)
    for a in range(len(colours)):
        found[a] = _mixed(colours[a], heard[a])
    return found


def _refined_bonds(
    atoms: Hashes, c: Ints, n: Ints, bins: Hashes, unit: Floats, reverse: Ints, begin: Ints
) -> tuple[Hashes, Hashes]:
    """Colours of atoms and of bonds, until no more of them differ."""
    bonds = _mixed_array(bins, _mixed_array(atoms[n], atoms[c]))
    before = 0
    while (now := _n_different(bonds) + _n_different(atoms)) > before:
        before = now
        atoms, bonds = _refine_bonds(atoms, bonds, c, n, unit, reverse, begin, 1.0 / SAME)
    return atoms, bonds


@kernel
def _refine_bonds(
    atoms: Hashes, bonds: Hashes, c: Ints, n: Ints, unit: Floats, reverse: Ints, begin: Ints, scale: float
) -> Any:
    """One round: atoms hear their bonds, bonds their atoms and the bonds into the atom they come from."""
    new_atoms = np.empty(len(atoms), dtype=np.uint64)
    for a in range(len(atoms)):
        heard = np.uint64(0)
        for e in range(begin[a], begin[a + 1]):
            heard += _mixed(bonds[e], np.uint64(1))
        new_atoms[a] = _mixed(atoms[a], heard)
    new_bonds = np.empty(len(bonds), dtype=np.uint64)
    for e in range(len(bonds)):
        own, middle = reverse[e], n[e]
        heard = np.uint64(0)
        for f in range(begin[middle], begin[middle + 1]):
            cosine = unit[f, 0] * unit[own, 0] + unit[f, 1] * unit[own, 1] + unit[f, 2] * unit[own, 2]
            cosine = min(max(cosine, -1.0), 1.0)
            heard += _mixed(bonds[f], np.uint64(np.int64(np.rint((cosine + 2.0) * scale))))
        ends = _mixed(new_atoms[middle], new_atoms[c[e]])
        new_bonds[e] = _mixed(_mixed(bonds[e], ends), heard)
    return new_atoms, new_bonds

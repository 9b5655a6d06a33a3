"""Symmetric matrices over the orbitals of molecules, by blocks of atoms and of pairs of elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomml.electronic.orbitals import Shells, n_orbitals
from atomml.graph.atom_graph import AtomGraph

__all__ = ["MatrixBlocks", "PairIndex", "all_pairs", "assemble", "blocks_of", "join_blocks"]

ShellsOf = Callable[[int], Shells]


@dataclass(frozen=True)
class MatrixBlocks:
    """Blocks of the matrices of one molecule or a batch.

    Attributes:
        atoms: Of each element, ``(n_atoms, n, n)`` symmetric blocks of its atoms in their order.
        pairs: Of elements a <= b, ``(n_pairs, n, m)`` blocks of the ordered pairs of an a and a b, in the
            order of the graph's edges; where a is b, both orders are there.
    """

    atoms: dict[int, Tensor]
    pairs: dict[tuple[int, int], Tensor]

    def entries(self) -> list[tuple[Tensor, float]]:
        """Each group of blocks, and how often its numbers stand in the matrices."""
        found = [(blocks, 1.0) for blocks in self.atoms.values()]
        return found + [(blocks, 1.0 if a == b else 2.0) for (a, b), blocks in self.pairs.items()]


@dataclass(frozen=True)
class PairIndex:
    """Which atoms and edges of a graph belong to each group.

    Attributes:
        atoms: Of each element, positions of its atoms.
        pairs: Of each ordered pair of elements, positions of its edges.
        place: ``(n_edges,)`` position of each edge within its group.
    """

    atoms: dict[int, Tensor]
    pairs: dict[tuple[int, int], Tensor]
    place: Tensor

    @classmethod
    def of(cls, graph: AtomGraph) -> PairIndex:
        """The groups of a graph with an edge for each ordered pair."""
        numbers = graph.numbers
        elements = torch.unique(numbers).tolist()
        atoms = {z: torch.nonzero(numbers == z)[:, 0] for z in elements}
        first, second = numbers[graph.edge_index]
        pairs, place = {}, torch.zeros_like(first)
        for a in elements:
            for b in elements:
                found = torch.nonzero((first == a) & (second == b))[:, 0]
                if len(found):
                    pairs[a, b] = found
                    place[found] = torch.arange(len(found), device=place.device)
        return cls(atoms, pairs, place)


def all_pairs(atoms: object, where: str = "structure") -> AtomGraph:
    """The graph of a molecule with an edge for each ordered pair of different atoms.

    Raises:
        StructureError: Periodic, empty, or atoms on top of each other.
    """
    from ase import Atoms

    from atomml.errors import StructureError
    from atomml.graph.validate import validate_atoms

    assert isinstance(atoms, Atoms)
    validate_atoms(atoms, where)
    if atoms.pbc.any():
        raise StructureError(f"{where} is periodic, and matrices are predicted for molecules: drop its cell.")
    n = len(atoms)
    rows = torch.arange(n)
    index = torch.cartesian_prod(rows, rows)
    index = index[index[:, 0] != index[:, 1]].T.contiguous().reshape(2, -1)
    # the edge (j, i) stands in row j, and there at i, less one where i comes after j itself
    centre, neighbour = index
    reverse = neighbour * (n - 1) + centre - (centre > neighbour).long()
    charge, spin = (float(atoms.info.get(name) or 0.0) for name in ("charge", "spin"))
    return AtomGraph(
        numbers=torch.from_numpy(atoms.numbers.astype("int64")),
        positions=torch.from_numpy(atoms.positions.astype("float64")),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros(n, dtype=torch.int64),
        edge_index=index,
        edge_shift=torch.zeros(index.shape[1], 3, dtype=torch.int32),
        edge_reverse=reverse,
        cutoff=float("inf"),
        charge=torch.tensor([charge], dtype=torch.float64),
        spin=torch.tensor([spin], dtype=torch.float64),
    )


def _offsets(graph: AtomGraph, shells_of: ShellsOf) -> tuple[Tensor, Tensor, Tensor]:
    """Orbitals before each atom in its molecule, orbitals of each molecule, numbers before each matrix."""
    widths = torch.zeros(int(graph.numbers.max()) + 1, dtype=torch.int64, device=graph.device)
    for z in torch.unique(graph.numbers).tolist():
        widths[z] = n_orbitals(shells_of(z))
    own = widths[graph.numbers]
    sizes = torch.zeros(graph.n_graphs, dtype=torch.int64, device=graph.device).index_add_(
        0, graph.batch, own
    )
    before = torch.cumsum(own, 0) - own
    starts = torch.cumsum(sizes, 0) - sizes
    matrices = torch.cumsum(sizes.square(), 0) - sizes.square()
    return before - starts[graph.batch], sizes, matrices


def _places(
    first: Tensor,
    second: Tensor,
    shape: tuple[int, int],
    graph: AtomGraph,
    where: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Positions of blocks in the flattened matrices, ``(n_blocks, rows, columns)``."""
    before, sizes, matrices = where
    molecule = graph.batch[first]
    rows = before[first][:, None] + torch.arange(shape[0], device=graph.device)
    columns = before[second][:, None] + torch.arange(shape[1], device=graph.device)
    size = sizes[molecule][:, None, None]
    return matrices[molecule][:, None, None] + rows[:, :, None] * size + columns[:, None, :]


def blocks_of(matrix: Tensor, graph: AtomGraph, shells_of: ShellsOf) -> MatrixBlocks:
    """The blocks of a symmetric matrix ``(n, n)`` of one molecule, or of those of a batch, flattened."""
    index, where, flat = PairIndex.of(graph), _offsets(graph, shells_of), matrix.reshape(-1)
    atoms = {}
    for z, rows in index.atoms.items():
        n = n_orbitals(shells_of(z))
        atoms[z] = flat[_places(rows, rows, (n, n), graph, where)]
    pairs = {}
    for (a, b), edges in index.pairs.items():
        if a <= b:
            shape = n_orbitals(shells_of(a)), n_orbitals(shells_of(b))
            first, second = graph.edge_index[:, edges]
            pairs[a, b] = flat[_places(first, second, shape, graph, where)]
    return MatrixBlocks(atoms, pairs)


def assemble(blocks: MatrixBlocks, graph: AtomGraph, shells_of: ShellsOf) -> list[Tensor]:
    """The symmetric matrix of each molecule, ``(n, n)``; the inverse of :func:`blocks_of`, differentiable."""
    index, where = PairIndex.of(graph), _offsets(graph, shells_of)
    places, values = [], []
    for z, rows in index.atoms.items():
        found = blocks.atoms[z]
        places.append(_places(rows, rows, (found.shape[1], found.shape[2]), graph, where).reshape(-1))
        values.append(found.reshape(-1))
    for (a, b), edges in index.pairs.items():
        if a > b:
            continue
        first, second = graph.edge_index[:, edges]
        found = blocks.pairs[a, b]
        shape = found.shape[1], found.shape[2]
        places.append(_places(first, second, shape, graph, where).reshape(-1))
        values.append(found.reshape(-1))
        if a != b:
            turned = _places(second, first, (shape[1], shape[0]), graph, where)
            places.append(turned.transpose(1, 2).reshape(-1))
            values.append(found.reshape(-1))
    _, sizes, _ = where
    flat = values[0].new_zeros(int(sizes.square().sum()))
    flat = flat.scatter(0, torch.cat(places), torch.cat(values))
    parts = torch.split(flat, sizes.square().tolist())
    return [part.reshape(n, n) for part, n in zip(parts, sizes.tolist(), strict=True)]


def join_blocks(parts: Sequence[MatrixBlocks]) -> MatrixBlocks:
    """The blocks of a batch from those of its molecules, in the order of the batch."""
    return MatrixBlocks(_joined([part.atoms for part in parts]), _joined([part.pairs for part in parts]))


def _joined(parts: Sequence[Mapping[Any, Tensor]]) -> dict[Any, Tensor]:
    keys = sorted({key for part in parts for key in part})
    return {key: torch.cat([part[key] for part in parts if key in part]) for key in keys}

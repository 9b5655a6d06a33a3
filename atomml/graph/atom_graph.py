"""The one graph type: atoms, directed edges within a cutoff, and the bond graph on top.

One graph or a batch of many; nothing treats one as a special case. Vectors are
recomputed from positions, shifts and cell, so that forces and stress come by
differentiation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

__all__ = ["AtomGraph", "BondGraph"]


@dataclass(frozen=True)
class BondGraph:
    """The line graph: ordered pairs of distinct short edges that leave the same atom.

    Attributes:
        cutoff: Edges shorter than this (Å) are bonds.
        bonds: ``(n_bonds,)`` int64, ascending positions of the bonds in ``AtomGraph.edge_index``.
        angle_index: ``(2, n_angles)`` int64, the two edges (positions in ``AtomGraph.edge_index``)
            that enclose each angle at their common centre. All ordered pairs of
            distinct bonds are there, sorted by the first edge, then the second.
    """

    cutoff: float
    bonds: Tensor
    angle_index: Tensor

    @property
    def n_angles(self) -> int:
        """Number of angles (ordered pairs)."""
        return int(self.angle_index.shape[1])


@dataclass(frozen=True)
class AtomGraph:
    """Atoms and their directed edges, for one structure or a batch of many.

    Attributes:
        numbers: ``(n_atoms,)`` int64, atomic numbers.
        positions: ``(n_atoms, 3)`` float64, Å. Geometry is float64 whatever the model: a
            difference of two float32 positions far from the origin has lost its last digits.
        cell: ``(n_graphs, 3, 3)`` float64, Å, rows are the cell vectors; zero rows where there is none.
        pbc: ``(n_graphs, 3)`` bool.
        batch: ``(n_atoms,)`` int64, the graph of each atom, ascending.
        edge_index: ``(2, n_edges)`` int64, centre and neighbour; in canonical order: by
            centre, then neighbour, then shift.
        edge_shift: ``(n_edges, 3)`` int32, whole cells by which the neighbour is moved.
        edge_reverse: ``(n_edges,)`` int64, the position of the same edge seen from its other end.
        cutoff: Edges are shorter than this, in Å.
        charge: ``(n_graphs,)`` total charge in units of e.
        spin: ``(n_graphs,)`` number of unpaired electrons.
        bond_graph: The line graph, for models that use one.
    """

    numbers: Tensor
    positions: Tensor
    cell: Tensor
    pbc: Tensor
    batch: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    edge_reverse: Tensor
    cutoff: float
    charge: Tensor
    spin: Tensor
    bond_graph: BondGraph | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all graphs."""
        return int(self.numbers.shape[0])

    @property
    def n_graphs(self) -> int:
        """Number of structures."""
        return int(self.cell.shape[0])

    @property
    def n_edges(self) -> int:
        """Number of directed edges in all graphs."""
        return int(self.edge_index.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.positions.device

    def atoms_per_graph(self) -> Tensor:
        """Number of atoms of each graph, ``(n_graphs,)`` int64."""
        return torch.bincount(self.batch, minlength=self.n_graphs)

    def edge_vectors(self) -> Tensor:
        """Vectors from centre to neighbour, ``(n_edges, 3)`` float64, Å; differentiable."""
        centre, neighbour = self.edge_index
        shift = self.edge_shift.to(self.positions.dtype)
        if self.n_graphs == 1:
            offset = shift @ self.cell[0]
        else:
            offset = torch.einsum("ei,eij->ej", shift, self.cell[self.batch[centre]])
        return self.positions[neighbour] - self.positions[centre] + offset

    def volumes(self) -> Tensor:
        """Volume of each cell in Å³, ``(n_graphs,)``; positive for left-handed cells, 0 where flat."""
        return torch.linalg.det(self.cell).abs()

    def strained(self, strain: Tensor) -> AtomGraph:
        """The same graph with positions and cell rows multiplied by ``1 + strain``.

        Args:
            strain: ``(n_graphs, 3, 3)``; symmetrised here, so a derivative with respect to
                it is symmetric.
        """
        deformation = torch.eye(3, dtype=self.cell.dtype, device=self.device) + 0.5 * (strain + strain.mT)
        positions = torch.einsum("ni,nij->nj", self.positions, deformation[self.batch])
        return replace(self, positions=positions, cell=self.cell @ deformation)

    def to(self, device: torch.device | str) -> AtomGraph:
        """The same graph on another device."""
        changes: dict[str, object] = {
            entry.name: value.to(device)
            for entry in fields(self)
            if isinstance(value := getattr(self, entry.name), Tensor)
        }
        if self.bond_graph is not None:
            changes["bond_graph"] = replace(
                self.bond_graph,
                bonds=self.bond_graph.bonds.to(device),
                angle_index=self.bond_graph.angle_index.to(device),
            )
        return replace(self, **changes)  # type: ignore[arg-type]

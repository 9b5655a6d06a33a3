"""From atoms to their graph, with a neighbour list that outlives small moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from atomml.errors import OptionError, StructureError
from atomml.graph.atom_graph import AtomGraph
from atomml.graph.batching import collate
from atomml.graph.bonds import bond_graph
from atomml.graph.neighbours import (
    SEARCH_MARGIN,
    EdgeList,
    Floats,
    Ints,
    closer_than,
    complete_cell,
    find_edges,
)
from atomml.graph.objects import to_ase
from atomml.graph.validate import MIN_DISTANCE, check_arrays, check_distances

if TYPE_CHECKING:
    from atomml.model import Potential

__all__ = ["GraphBuilder", "build_graph"]


@dataclass(frozen=True)
class _Reference:
    """The state for which the candidates were found: all edges shorter than cutoff + skin + margin."""

    numbers: Ints
    pbc: NDArray[np.bool_]
    positions: Floats
    cell: Floats
    complete_cell: Floats
    candidates: EdgeList


class GraphBuilder:
    """Builds the graph of one structure after the other, as molecular dynamics needs it.

    With a skin, the neighbour list reaches farther than the cutoff and serves until the
    atoms have moved so far that an edge could be missing. Each call filters the list to the true
    cutoff, so the skin changes no bit of the result.

    Args:
        cutoff: Edges are shorter than this, Å.
        bond_cutoff: Bonds are shorter than this, Å; None for no bond graph.
        skin: Å; 0 searches anew whenever anything has moved.
        device: Where the graphs go.
        angles: False leaves out the bond graph, for models that find their angles themselves.

    Raises:
        OptionError: A cutoff that is not positive, a bond cutoff above the cutoff, a negative skin.
    """

    def __init__(
        self,
        cutoff: float,
        bond_cutoff: float | None = None,
        skin: float = 0.0,
        device: torch.device | str = "cpu",
        *,
        angles: bool = True,
    ) -> None:
        if not 0 < cutoff < np.inf:
            raise OptionError(f"The cutoff is {cutoff} Å; it must be positive and finite.")
        if bond_cutoff is not None and not 0 < bond_cutoff <= cutoff:
            raise OptionError(f"The bond cutoff is {bond_cutoff} Å; it must lie between 0 and {cutoff} Å.")
        if not 0 <= skin < np.inf:
            raise OptionError(f"The skin is {skin} Å; it must be finite and not negative.")
        self.cutoff = float(cutoff)
        self.bond_cutoff = None if bond_cutoff is None or not angles else float(bond_cutoff)
        self.skin = float(skin)
        self.device = torch.device(device)
        self.searches = 0
        """How many times the neighbours were searched anew."""
        self._reference: _Reference | None = None

    @classmethod
    def for_model(cls, model: Potential, skin: float = 0.0, *, angles: bool = True) -> Self:
        """A builder with the model's cutoffs, on the model's device."""
        return cls(model.info.cutoff, model.info.bond_cutoff, skin, model.device, angles=angles)

    def __call__(self, atoms: Atoms | Any, where: str = "structure") -> AtomGraph:
        """The graph of one structure; total charge and spin come from ``atoms.info``.

        Args:
            atoms: ASE ``Atoms``, or what :func:`atomml.graph.objects.to_ase` takes.
            where: What to call the structure in an error: a file and a frame.

        Raises:
            StructureError: The structure is one that no model can take.
        """
        atoms = to_ase(atoms)
        if self._reference is None or not self._still_holds(self._reference, atoms):
            self._reference = self._search(atoms, where)
            self.searches += 1
        reference = self._reference
        positions = np.array(atoms.positions, dtype=np.float64, order="C")
        cell = np.array(atoms.cell, dtype=np.float64, order="C")
        edges, length = closer_than(positions, cell, reference.candidates, self.cutoff)
        if length.min(initial=np.inf) < MIN_DISTANCE:
            check_distances(atoms, where)
        bonds = None if self.bond_cutoff is None else bond_graph(edges.index[0], length, self.bond_cutoff)
        graph = AtomGraph(
            numbers=torch.from_numpy(reference.numbers),
            positions=torch.from_numpy(positions),
            cell=torch.from_numpy(cell[None]),
            pbc=torch.from_numpy(reference.pbc[None]),
            batch=torch.zeros(len(positions), dtype=torch.int64),
            edge_index=torch.from_numpy(edges.index),
            edge_shift=torch.from_numpy(edges.shift),
            edge_reverse=torch.from_numpy(edges.reverse),
            cutoff=self.cutoff,
            charge=_from_info(atoms, "charge", where),
            spin=_from_info(atoms, "spin", where),
            bond_graph=bonds,
        )
        return graph if self.device.type == "cpu" else graph.to(self.device)

    def _search(self, atoms: Atoms, where: str) -> _Reference:
        check_arrays(atoms, where)
        positions = np.array(atoms.positions, dtype=np.float64, order="C")
        cell = np.array(atoms.cell, dtype=np.float64, order="C")
        pbc = np.array(atoms.pbc, dtype=np.bool_)
        complete = complete_cell(cell, pbc)
        edges = find_edges(positions, complete, pbc, self.cutoff + self.skin + SEARCH_MARGIN)
        return _Reference(atoms.numbers.astype(np.int64), pbc, positions, cell, complete, edges)

    def _still_holds(self, reference: _Reference, atoms: Atoms) -> bool:
        """Whether no pair outside the reference's candidates can now be an edge.

        Let ``F = inverse(cell0) cell`` be the deformation and ``w_i = r_i - r0_i F`` what each atom
        moved beside it. A pair that was no candidate was ``d0`` apart with ``|d0| >= cutoff + skin``.
        Its vector is now ``d0 F + w_j - w_i`` (the shifts follow the cell), so its length is
        at least ``s (cutoff + skin) - 2 max |w_k - c|``, with ``s`` the smallest singular value of ``F``
        and any constant ``c``; here the mean, as moving all atoms together changes nothing.
        While that is at least the cutoff, the pair is no edge; the margin that the search adds
        covers the rounding.
        """
        if (
            len(atoms) != len(reference.numbers)
            or not np.array_equal(atoms.pbc, reference.pbc)
            or not np.array_equal(atoms.numbers, reference.numbers)
        ):
            return False
        smallest, carried = 1.0, reference.positions
        if not np.array_equal(atoms.cell, reference.cell):
            try:
                cell = complete_cell(np.asarray(atoms.cell), reference.pbc)
            except StructureError:  # the search says more about it
                return False
            deformation = np.linalg.solve(reference.complete_cell, cell)
            smallest = np.linalg.svd(deformation, compute_uv=False)[-1]
            carried = carried @ deformation
        moved = atoms.positions - carried
        if not np.isfinite(moved).all():
            return False
        moved -= moved.mean(axis=0)
        farthest = np.sqrt(np.einsum("ix,ix->i", moved, moved).max())
        return bool(smallest * (self.cutoff + self.skin) - 2 * farthest >= self.cutoff)


def build_graph(
    atoms: Atoms | Any | Sequence[Atoms | Any],
    cutoff: float,
    bond_cutoff: float | None = None,
    device: torch.device | str = "cpu",
) -> AtomGraph:
    """The graph of a structure, or one graph of many.

    Args:
        atoms: ASE ``Atoms``, a pymatgen ``Structure`` or ``Molecule``, an RDKit molecule with a
            conformer, or a list of such.
        cutoff: Edges are shorter than this, Å.
        bond_cutoff: Bonds are shorter than this, Å; None for no bond graph.
        device: Where the graph goes.

    Raises:
        StructureError: A structure is one that no model can take.
        OptionError: The cutoffs make no sense.
    """
    builder = GraphBuilder(cutoff, bond_cutoff)
    if not isinstance(atoms, list | tuple):
        return builder(atoms).to(device)
    return collate([builder(one, f"structure {k}") for k, one in enumerate(atoms)]).to(device)


def _from_info(atoms: Atoms, key: str, where: str) -> torch.Tensor:
    """``atoms.info[key]`` as ``(1,)`` float64; 0 where it is not given."""
    value = atoms.info.get(key)
    try:
        number = float(0 if value is None else value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise StructureError(f"{where}: its {key} is {value!r}: give a finite number.")
    return torch.tensor([number], dtype=torch.float64)

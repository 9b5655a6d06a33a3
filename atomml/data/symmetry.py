"""The symmetry of a crystal by spglib, whichever way it reports that it found none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "PointGroup",
    "UniqueSite",
    "conventional_cell",
    "point_group",
    "symmetry_dataset",
    "unique_sites",
]


class PointGroup(NamedTuple):
    """Symbol and number of a crystal's space group, and its rotations ``(n, 3, 3)`` in Cartesian axes."""

    symbol: str
    rotations: NDArray[np.float64]
    number: int = 1


class UniqueSite(NamedTuple):
    """Atoms that the symmetry of a crystal makes one another's copies.

    Attributes:
        element: Their element.
        atoms: Their indices.
        wyckoff: Wyckoff's letter.
        multiplicity: How many there are in the conventional cell.
        symmetry: The site's point group, as the International Tables write it.
    """

    element: str
    atoms: tuple[int, ...]
    wyckoff: str
    multiplicity: int
    symmetry: str

    @property
    def label(self) -> str:
        """Element, multiplicity and letter, such as ``O 4f``."""
        return f"{self.element} {self.multiplicity}{self.wyckoff}"


def point_group(atoms: Atoms, symprec: float) -> PointGroup:
    """The symmetry that spglib finds; identity alone where it finds none, as in a cell without volume.

    Args:
        atoms: The crystal.
        symprec: How far atoms may be off their symmetric sites, Å.
    """
    found = symmetry_dataset(atoms, symprec)
    if found is None:
        return PointGroup("P1", np.eye(3)[None])
    lattice = np.asarray(atoms.cell.array)
    rotations = lattice.T @ found.rotations @ np.linalg.inv(lattice.T)  # columns are vectors
    unique = np.unique(np.round(rotations, 10), axis=0)
    return PointGroup(str(found.international), unique, int(found.number))


def unique_sites(atoms: Atoms, symprec: float) -> list[UniqueSite]:
    """The sites that symmetry leaves, in the order of their first atoms; each atom alone where it finds none.

    Args:
        atoms: The crystal, in any of its cells.
        symprec: How far atoms may be off their symmetric sites, Å.
    """
    found = symmetry_dataset(atoms, symprec)
    if found is None:
        return [UniqueSite(atom.symbol, (atom.index,), "a", 1, "1") for atom in atoms]
    cells = len(found.std_types) / len(atoms)  # conventional cells in the one given
    orbits = np.asarray(found.crystallographic_orbits)
    sites = []
    for first in dict.fromkeys(orbits.tolist()):
        members = np.flatnonzero(orbits == first)
        sites.append(
            UniqueSite(
                str(atoms.symbols[members[0]]),
                tuple(members.tolist()),
                str(found.wyckoffs[members[0]]),
                round(len(members) * cells),
                str(found.site_symmetry_symbols[members[0]]),
            )
        )
    return sites


def conventional_cell(atoms: Atoms, symprec: float) -> NDArray[np.int_] | None:
    """Rows of the conventional cell in whole vectors of the cell, ``(3, 3)``; None where they are none."""
    found = symmetry_dataset(atoms, symprec)
    if found is None:
        return None
    # spglib's matrix takes the conventional vectors (as columns) to those of the cell.
    rows = np.linalg.inv(found.transformation_matrix).T
    whole = np.rint(rows).astype(int)
    return whole if np.allclose(rows, whole, atol=1e-3) else None


def symmetry_dataset(atoms: Atoms, symprec: float) -> Any:
    """What spglib finds in a crystal (tolerance in Å), or None.

    spglib returns None or raises then, according to a global setting of its own that other packages
    (phonopy among them) change when they are imported.
    """
    import spglib

    refusals = getattr(spglib, "SpglibError", ())
    crystal = (np.asarray(atoms.cell.array), atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how spglib will report errors one day
        try:
            return spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except refusals:
            return None

"""The symmetry of a crystal by spglib, whichever way it reports that it found none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["PointGroup", "point_group"]


class PointGroup(NamedTuple):
    """Symbol of a crystal's space group, and its rotations ``(n, 3, 3)`` in Cartesian axes."""

    symbol: str
    rotations: NDArray[np.float64]


def point_group(atoms: Atoms, symprec: float) -> PointGroup:
    """The symmetry that spglib finds; identity alone where it finds none, as in a cell without volume.

    spglib returns None or raises then, according to a global setting of its own that other packages
    (phonopy among them) change when they are imported.

    Args:
        atoms: The crystal.
        symprec: How far atoms may be off their symmetric sites, Å.
    """
    import spglib

    refusals = getattr(spglib, "SpglibError", ())
    lattice = np.asarray(atoms.cell.array)
    crystal = (lattice, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how spglib will report errors one day
        try:
            found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except refusals:
            found = None
    if found is None:
        return PointGroup("P1", np.eye(3)[None])
    rotations = lattice.T @ found.rotations @ np.linalg.inv(lattice.T)  # columns are vectors
    return PointGroup(str(found.international), np.unique(np.round(rotations, 10), axis=0))

"""The symmetry of a crystal by spglib, whichever way it reports that it found none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["find_symmetry"]


def find_symmetry(atoms: Atoms, symprec: float) -> Any | None:
    """What spglib finds of a crystal, or None if it finds no symmetry, as in a cell without volume.

    spglib returns None or raises, according to a global setting of its own that other packages
    (phonopy among them) change when they are imported.

    Args:
        atoms: The crystal.
        symprec: How far atoms may be off their symmetric sites, Å.
    """
    import spglib

    refusals = getattr(spglib, "SpglibError", ())
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how spglib will report errors one day
        try:
            return spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except refusals:
            return None

"""Supercells for point defects, and the defects that the symmetry of a crystal tells apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atomml.data.symmetry import UniqueSite, conventional_cell
from atomml.errors import OptionError
from atomml.workflows.crystals.phonon_measurement import repeats_for

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Matrix = NDArray[np.int_]

__all__ = [
    "PointDefect",
    "checked_matrix",
    "face_distance",
    "substitutions",
    "supercell",
    "supercell_matrix",
    "vacancies",
]


@dataclass(frozen=True)
class PointDefect:
    """An atom taken from a site, and what is put there instead.

    Attributes:
        name: Kröger and Vink's: ``v_O``, ``Na_Li``, with a number where sites of the element differ.
        site: The site.
        added: The element in its place; None for a vacancy.
    """

    name: str
    site: UniqueSite
    added: str | None = None

    @property
    def changes(self) -> dict[str, int]:
        """Atoms more than in the crystal, by element: -1 of what leaves, +1 of what enters."""
        return {self.site.element: -1} | ({self.added: 1} if self.added else {})

    def put_into(self, cell: Atoms) -> Atoms:
        """A copy of a supercell from :func:`supercell` with the defect."""
        defective = cell.copy()
        place = self.site.atoms[0]
        assert defective.symbols[place] == self.site.element
        if self.added is None:
            del defective[place]
        else:
            defective.symbols[place] = self.added
        return defective


def supercell_matrix(atoms: Atoms, length: float, symprec: float) -> Matrix:
    """Rows of the smallest supercell whose opposite faces are at least ``length`` Å apart, ``(3, 3)``.

    Repeats of the cell given, of the reduced cell and of the conventional cell are tried: those of a
    skew primitive cell need many more atoms.

    Args:
        atoms: The crystal.
        length: Å.
        symprec: How far atoms may be off their symmetric sites, Å.
    """
    from ase.geometry import minkowski_reduce

    reduced = np.rint(minkowski_reduce(atoms.cell, pbc=True)[1]).astype(int)
    starts = [np.eye(3, dtype=int), reduced, conventional_cell(atoms, symprec)]
    found = []
    for start in starts:
        if start is not None:
            cell = start @ atoms.cell.array
            found.append(np.diag(repeats_for(cell, length)) @ start)
    best: Matrix = min(found, key=lambda matrix: round(abs(np.linalg.det(matrix))))
    return best


def checked_matrix(atoms: Atoms, length: float, symprec: float, max_atoms: int, label: str) -> Matrix:
    """The same, refused where it holds too many atoms, or one.

    Raises:
        OptionError: Says how many, and what to change.
    """
    matrix = supercell_matrix(atoms, length, symprec)
    n_atoms = len(atoms) * round(abs(np.linalg.det(matrix)))
    if n_atoms == 1:
        raise OptionError(f"{label}: a supercell of {length:g} Å has one atom: raise --min-length.")
    if n_atoms > max_atoms:
        raise OptionError(
            f"{label}: a supercell of {length:g} Å has {n_atoms} atoms, more than --max-atoms {max_atoms}: "
            "raise that, or ask for less in --min-length and --converge."
        )
    return matrix


def supercell(atoms: Atoms, matrix: Matrix) -> Atoms:
    """The supercell, without constraints; its first atoms are those of the cell, in their order."""
    from ase import Atoms as NewAtoms
    from ase.build import make_supercell

    plain = NewAtoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    made = make_supercell(plain, matrix, order="cell-major")
    if np.linalg.det(made.cell.array) < 0:
        made.set_cell(-made.cell.array)  # the same lattice, right-handed
    made.wrap()
    return made


def face_distance(atoms: Atoms) -> float:
    """Smallest distance between opposite faces of a cell, Å."""
    return float(1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1).max())


def vacancies(sites: Sequence[UniqueSite], elements: Collection[str], label: str) -> list[PointDefect]:
    """A vacancy on each site of the elements; of all of them if none is named.

    Raises:
        OptionError: The crystal has no such element.
    """
    present = sorted({site.element for site in sites})
    for element in elements:
        if element not in present:
            raise OptionError(
                f"{label} has no {element} to take away; its elements are {', '.join(present)}."
            )
    wanted = set(elements) or set(present)
    return [PointDefect(f"v_{_numbered(site, sites)}", site) for site in sites if site.element in wanted]


def substitutions(
    sites: Sequence[UniqueSite], pairs: Sequence[tuple[str, str]], label: str
) -> list[PointDefect]:
    """Each pair's second element on each site of its first.

    Raises:
        OptionError: The crystal has none of the first element.
    """
    present = sorted({site.element for site in sites})
    found = []
    for removed, added in pairs:
        if removed not in present:
            raise OptionError(f"{label} has no {removed} to replace; its elements are {', '.join(present)}.")
        found += [
            PointDefect(f"{added}_{_numbered(site, sites)}", site, added)
            for site in sites
            if site.element == removed
        ]
    return found


def _numbered(site: UniqueSite, sites: Sequence[UniqueSite]) -> str:
    alike = [one for one in sites if one.element == site.element]
    return site.element if len(alike) == 1 else f"{site.element}{alike.index(site) + 1}"

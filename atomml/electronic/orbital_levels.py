"""What follows from a Kohn-Sham matrix without an SCF: orbitals, levels, density, charges, dipole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "Orbitals",
    "density_of",
    "dm_from",
    "inverse_root",
    "molecule_of",
    "shells_of_basis",
    "solve_orbitals",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Orbitals:
    """Solutions of ``H C = S C e`` for closed shells.

    Attributes:
        energies: ``(n,)`` Hartree, ascending.
        coefficients: ``(n, n)``, a column each.
        overlap: ``(n, n)``.
        n_occupied: Doubly occupied orbitals.
    """

    energies: Array
    coefficients: Array
    overlap: Array
    n_occupied: int

    @property
    def has_empty(self) -> bool:
        """Whether the basis set has more orbitals than are occupied."""
        return len(self.energies) > self.n_occupied

    @property
    def homo(self) -> float:
        """Highest occupied level, Hartree."""
        return float(self.energies[self.n_occupied - 1])

    @property
    def lumo(self) -> float:
        """Lowest empty level, Hartree; infinity where the basis set has none."""
        empty = self.energies[self.n_occupied :]
        return float(empty[0]) if len(empty) else float("inf")

    @property
    def gap(self) -> float:
        """Between both, Hartree."""
        return self.lumo - self.homo

    @property
    def density(self) -> Array:
        """Density matrix ``(n, n)``."""
        occupied = self.coefficients[:, : self.n_occupied]
        return 2.0 * occupied @ occupied.T


def molecule_of(atoms: Atoms, basis: str) -> Any:
    """PySCF's molecule in a basis set.

    Raises:
        MissingExtraError: PySCF is not installed.
        InputError: A charge, spin or basis set that cannot be.
    """
    from atomml.electronic.mean_field import MeanFieldLevel
    from atomml.electronic.scf_settings import ScfSettings

    return MeanFieldLevel("hf", basis, ScfSettings()).molecule(atoms)


def solve_orbitals(matrix: Array, atoms: Atoms | None, basis: str = "", molecule: Any = None) -> Orbitals:
    """The orbitals of a matrix ``(n, n)`` in Hartree.

    Args:
        matrix: Symmetric.
        atoms: The molecule.
        basis: Its basis set.
        molecule: PySCF's molecule in place of both.

    Raises:
        StructureError: A molecule with unpaired electrons, or a matrix that is not of its orbitals.
    """
    from scipy.linalg import eigh

    if molecule is None:
        assert atoms is not None
        molecule = molecule_of(atoms, basis)
    if molecule.spin:
        raise StructureError(
            f"The molecule has {molecule.spin} unpaired electrons: one matrix has orbitals of pairs."
        )
    overlap = np.asarray(molecule.intor_symmetric("int1e_ovlp"), dtype=np.float64)
    if np.shape(matrix) != overlap.shape or not np.isfinite(matrix).all():
        raise StructureError(
            f"The matrix is no {len(overlap)} by {len(overlap)} finite numbers, for each two orbitals of the "
            f"molecule in its basis set: its shape is {np.shape(matrix)}."
        )
    energies, coefficients = eigh(matrix, overlap)
    return Orbitals(energies, coefficients, overlap, molecule.nelectron // 2)


def dm_from(matrix: Array, molecule: Any) -> Array:
    """A closed-shell density matrix from a Kohn-Sham matrix: what ``mf.kernel(dm0=...)`` of PySCF takes.

    Args:
        matrix: ``(n, n)`` Hartree, in PySCF's order of orbitals.
        molecule: PySCF's molecule.

    Raises:
        StructureError: As :func:`solve_orbitals`.
    """
    return solve_orbitals(matrix, None, molecule=molecule).density


def inverse_root(overlap: Array) -> Array:
    """``S^-1/2`` of an overlap matrix ``(n, n)``: the columns are Löwdin's orthonormal orbitals."""
    values, vectors = np.linalg.eigh(overlap)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def density_of(orbitals: Orbitals, molecule: Any) -> dict[str, Any]:
    """Dipole (Debye) and charges by Mulliken and Löwdin (e) of a density."""
    from scipy.linalg import sqrtm

    density, overlap = orbitals.density, orbitals.overlap
    with molecule.with_common_orig((0.0, 0.0, 0.0)):
        moments = molecule.intor_symmetric("int1e_r", comp=3)
    nuclear, places = molecule.atom_charges().astype(float), molecule.atom_coords()
    dipole = nuclear @ places - np.einsum("xij,ji->x", moments, density)
    root = np.real(sqrtm(overlap))
    populations = {
        "mulliken": np.einsum("ij,ji->i", density, overlap),
        "loewdin": np.diag(root @ density @ root),
    }
    slices = molecule.aoslice_by_atom()[:, 2:]
    charges = {
        name: nuclear - np.array([values[begin:end].sum() for begin, end in slices])
        for name, values in populations.items()
    }
    debye = 2.541746473  # e bohr, CODATA 2018
    return {"dipole": dipole * debye, **charges}


def shells_of_basis(basis: str, number: int) -> tuple[int, ...]:
    """Degrees of an element's shells in PySCF's order, spherical orbitals.

    Raises:
        InputError: A basis set that there is not, or that lacks the element.
    """
    from ase import Atoms

    atom = Atoms(numbers=[number])
    atom.info["spin"] = number % 2
    molecule = molecule_of(atom, basis)
    degrees: list[int] = []
    for shell in range(molecule.nbas):
        degrees += [int(molecule.bas_angular(shell))] * int(molecule.bas_nctr(shell))
    return tuple(degrees)

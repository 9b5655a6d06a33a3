"""The phase-space point that every integrator moves, and what is measured on it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from ase import units
from ase.atoms import Atoms
from numpy.typing import NDArray

from atomml.errors import OptionError

__all__ = ["Array", "System", "mobile_components"]

Array: TypeAlias = NDArray[np.float64]


@dataclass
class System:
    """Particles and cell at one instant; ASE's units (momenta in Å·amu per ASE time unit).

    Attributes:
        numbers: ``(n,)`` atomic numbers.
        masses: ``(n, 1)`` amu.
        pbc: ``(3,)`` bool.
        mobile: ``(n, 3)`` bool, False for the components that are held.
        positions: ``(n, 3)`` Å, never wrapped into the cell, so that displacements can be followed.
        momenta: ``(n, 3)``; zero where a component is held.
        cell: ``(3, 3)`` Å, rows are the vectors.
        n_dof: Degrees of freedom that carry kinetic energy; see ``velocities.degrees_of_freedom``.
        drift_removed: Whether the centre of mass is kept at rest.
        energy: eV, of the present positions.
        forces: ``(n, 3)`` eV/Å; zero where a component is held.
        stress: ``(3, 3)`` eV/Å³, the potential's part, positive under tension; None if not computed.
    """

    numbers: NDArray[np.int64]
    masses: Array
    pbc: NDArray[np.bool_]
    mobile: NDArray[np.bool_]
    positions: Array
    momenta: Array
    cell: Array
    n_dof: int = 0
    drift_removed: bool = False
    energy: float = np.nan
    forces: Array | None = None
    stress: Array | None = None

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> System:
        """Take positions, momenta, cell and constraints of ``atoms``; nothing is shared with them.

        Raises:
            OptionError: A constraint that MD here does not keep, or nothing that can move.
        """
        mobile = mobile_components(atoms)
        if not mobile.any():
            raise OptionError("Every atom is fixed: leave at least one free to move.")
        return cls(
            numbers=np.array(atoms.numbers, dtype=np.int64),
            masses=np.array(atoms.get_masses(), dtype=np.float64)[:, None],
            pbc=np.array(atoms.pbc, dtype=np.bool_),
            mobile=mobile,
            positions=np.array(atoms.positions, dtype=np.float64),
            momenta=np.where(mobile, atoms.get_momenta(), 0.0),
            cell=np.array(atoms.cell.array, dtype=np.float64),
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³, positive for left-handed cells too; 0 without a cell."""
        return abs(float(np.linalg.det(self.cell)))

    @property
    def force_array(self) -> Array:
        """The forces of the present positions.

        Raises:
            RuntimeError: They were never evaluated.
        """
        if self.forces is None:
            raise RuntimeError("forces were not evaluated")
        return self.forces

    def kinetic_energy(self) -> float:
        """Kinetic energy in eV."""
        return 0.5 * float((self.momenta * self.momenta / self.masses).sum())

    def temperature(self) -> float:
        """Kinetic temperature in K, ``2 K / (n_dof kB)``."""
        return 2.0 * self.kinetic_energy() / (max(self.n_dof, 1) * units.kB)

    def pressure_tensor(self) -> Array:
        """``(3, 3)`` eV/Å³, kinetic part included, positive under compression; NaN without a stress."""
        if self.stress is None or self.volume == 0:
            return np.full((3, 3), np.nan)
        kinetic = (self.momenta / self.masses).T @ self.momenta
        tensor: Array = 0.5 * (kinetic + kinetic.T) / self.volume - self.stress
        return tensor

    def project(self, vectors: Array) -> Array:
        """Forces or momenta ``(n, 3)`` without what held components or a resting centre of mass forbid.

        The centre of mass loses its share in proportion to the masses, which is the
        orthogonal projection in the metric of the kinetic energy: white noise of
        Maxwell-Boltzmann momenta stays Maxwell-Boltzmann on what is left.
        """
        if self.drift_removed:
            return vectors - self.masses * (vectors.sum(axis=0) / self.masses.sum())
        if not self.mobile.all():
            return np.where(self.mobile, vectors, 0.0)
        return vectors


def mobile_components(atoms: Atoms) -> NDArray[np.bool_]:
    """``(n, 3)`` bool: what FixAtoms and FixCartesian leave free.

    Raises:
        OptionError: Another kind of constraint.
    """
    from ase.constraints import FixAtoms, FixCartesian

    mobile = np.ones((len(atoms), 3), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            mobile[constraint.get_indices()] = False
        elif isinstance(constraint, FixCartesian):
            mobile[constraint.get_indices()] &= ~np.asarray(constraint.mask, dtype=np.bool_)
        else:
            raise OptionError(
                f"The structure carries a {type(constraint).__name__} constraint, which MD does not keep: "
                "remove it, or fix atoms with --fix."
            )
    return mobile

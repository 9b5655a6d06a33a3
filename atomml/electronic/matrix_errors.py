"""How far a matrix is from a reference, in numbers that say something of orbitals too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.electronic.orbital_levels import Orbitals, density_of, solve_orbitals

__all__ = ["matrix_errors", "orbital_similarity"]

Array = NDArray[np.float64]

_DEGENERATE = 1e-3
"""Hartree; closer levels are compared as the space that their orbitals span."""


def orbital_similarity(reference: Orbitals, other: Orbitals) -> float:
    """Mean overlap of occupied orbitals, 1 at best; levels that are nearly the same count as one space.

    Of a space of m orbitals A and the other's B of the same places it is ``|A' S B|_F / sqrt(m)``, for one
    orbital the absolute value of its overlap.
    """
    n = reference.n_occupied
    overlaps = reference.coefficients[:, :n].T @ reference.overlap @ other.coefficients[:, :n]
    breaks = np.flatnonzero(np.diff(reference.energies[:n]) > _DEGENERATE) + 1
    total = 0.0
    for group in np.split(np.arange(n), breaks):
        block = overlaps[np.ix_(group, group)]
        total += len(group) * float(np.sqrt(np.square(block).sum() / len(group)))
    return total / n


def matrix_errors(
    matrix: Array, reference: Array, molecule: Any, field_: Any = None, energy: float | None = None
) -> dict[str, float]:
    """Errors of a matrix: absolute, Hartree (dipole in Debye).

    Args:
        matrix: ``(n, n)``.
        reference: The true one.
        molecule: PySCF's molecule.
        field_: A mean field, for the energy of the density: one Fock build; left out if None.
        energy: Of the reference's density, Hartree; one more build if None.

    Returns:
        ``hamiltonian`` (mean over all numbers), ``occupied`` (mean over occupied levels), ``similarity``,
        ``homo``, ``lumo``, ``gap`` (0 where no orbital is empty), ``dipole``, and ``energy`` with a field.
    """
    ours, true = (solve_orbitals(one, None, molecule=molecule) for one in (matrix, reference))
    n = true.n_occupied
    dipoles = [density_of(orbitals, molecule)["dipole"] for orbitals in (ours, true)]
    found = {
        "hamiltonian": float(np.abs(matrix - reference).mean()),
        "occupied": float(np.abs(ours.energies[:n] - true.energies[:n]).mean()),
        "similarity": orbital_similarity(true, ours),
        "homo": abs(ours.homo - true.homo),
        "lumo": abs(ours.lumo - true.lumo) if true.has_empty else 0.0,
        "gap": abs(ours.gap - true.gap) if true.has_empty else 0.0,
        "dipole": float(np.linalg.norm(dipoles[0] - dipoles[1])),
    }
    if field_ is not None:
        energy = float(field_.energy_tot(dm=true.density)) if energy is None else energy
        found["energy"] = abs(float(field_.energy_tot(dm=ours.density)) - energy)
    return found

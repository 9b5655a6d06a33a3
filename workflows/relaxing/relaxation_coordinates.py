"""Generalised coordinates of structures that relax together: what ASE's optimisers move.

Those of ASE's ``FrechetCellFilter``: positions in the undeformed cell and the logarithm U of the
cell's deformation D = exp(U) times a factor, so that the gradient is that of the enthalpy. Here U is kept
instead of found anew, and exponentials and their derivatives of all structures are taken in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.optimize.optimize import Optimizable

from atomml.units import GPA
from atomml.workflows.relaxing.relaxation_measures import cell_factor

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Coordinates", "deform", "differentiate"]

_MOST_STRAIN = 3.0  # of a logarithm: a cell that is 20 times longer is none any more


class Coordinates(Optimizable):  # type: ignore[misc]
    """Coordinates of one structure, fit for any optimiser of ASE that asks for one gradient a step.

    Attributes:
        atoms: The structure, without constraints; :func:`deform` moves it.
        cell: What of the cell may change: ``free``, ``shape``, ``volume`` or ``none``.
        pressure: External pressure, eV/Å³.
        factor: Of U, Å (:func:`atomml.workflows.relaxing.relaxation_measures.cell_factor`).
        x: ``(n_atoms, 3)`` Å, positions in the undeformed cell, and three rows of ``factor`` U.
        deformation: ``(3, 3)``; the rows of the cell are the reference's times its transpose.
        gradient: Of the enthalpy with respect to ``x``; filled in by :func:`differentiate`.
    """

    def __init__(self, atoms: Atoms, cell: str, pressure: float, fixed: NDArray[np.intp]) -> None:
        """Start from the structure as it is; ``pressure`` in GPa, ``fixed`` the atoms that stay."""
        self.atoms, self.cell, self.pressure, self.fixed = atoms, cell, pressure / GPA, fixed
        self.factor = cell_factor(len(atoms))
        self.reference: Array = atoms.cell.array.copy()
        self.x: Array = np.zeros((len(atoms) + (0 if cell == "none" else 3), 3))
        self.x[: len(atoms)] = atoms.positions
        self.deformation: Array = np.eye(3)
        self.gradient: Array = np.zeros_like(self.x)
        self.energy = 0.0

    @property
    def logarithm(self) -> Array:
        """U, ``(3, 3)``."""
        return self.x[len(self.atoms) :] / self.factor

    @property
    def lost(self) -> bool:
        """Whether atoms have flown apart, or a cell has grown or shrunk beyond reason."""
        strained = self.cell != "none" and not np.abs(self.logarithm).max() < _MOST_STRAIN
        return bool(strained or not np.isfinite(self.x).all())

    def ndofs(self) -> int:
        """Number of coordinates."""
        return int(self.x.size)

    def get_x(self) -> Array:
        """The coordinates, flat."""
        return self.x.ravel().copy()

    def set_x(self, x: Array) -> None:
        """Take new coordinates; the atoms follow when :func:`deform` is called."""
        new = np.array(x, dtype=np.float64).reshape(self.x.shape)
        new[self.fixed] = self.x[self.fixed]
        self.x = new

    def get_gradient(self) -> Array:
        """The gradient, flat."""
        return self.gradient.ravel().copy()

    def get_value(self) -> float:
        """Enthalpy, eV."""
        return self.energy + (self.pressure * float(self.atoms.cell.volume) if self.cell != "none" else 0.0)

    def iterimages(self) -> Iterator[Atoms]:
        """The structure itself."""
        yield self.atoms

    def restore(self, reference: Array, x: Array) -> None:
        """Go on from coordinates that were saved with the cell that they refer to, ``(3, 3)`` Å."""
        self.reference, self.x = reference.copy(), x.copy()
        deform([self])


def deform(structures: Sequence[Coordinates]) -> None:
    """Move the atoms and cells to their coordinates, which must not be lost."""
    from scipy.linalg import expm

    moving = [one for one in structures if one.cell != "none"]
    if moving:
        for one, deformation in zip(moving, expm([one.logarithm for one in moving]), strict=True):
            one.deformation = deformation
            one.atoms.cell[:] = one.reference @ deformation.T
    for one in structures:
        undeformed = one.x[: len(one.atoms)]
        one.atoms.positions[:] = undeformed if one.cell == "none" else undeformed @ one.deformation.T


def differentiate(
    structures: Sequence[Coordinates], forces: Sequence[Array], stresses: Sequence[Array | None]
) -> None:
    """Fill in the gradients from forces ``(n_atoms, 3)`` eV/Å and stresses ``(3, 3)`` eV/Å³.

    The derivative of the energy with respect to U is L(Uᵀ, G), with G that with respect to D and L the
    Fréchet derivative of the exponential, which is the upper right block of exp([[Uᵀ, G], [0, Uᵀ]])
    (Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30, 1639 (2009), eq. 1.5).
    """
    from scipy.linalg import expm

    moving = []
    for one, force, stress in zip(structures, forces, stresses, strict=True):
        felt = force.copy()
        felt[one.fixed] = 0.0
        one.gradient = np.zeros_like(one.x)
        one.gradient[: len(felt)] = -felt if one.cell == "none" else -felt @ one.deformation
        if one.cell != "none":
            assert stress is not None
            moving.append((one, _derivative(one, stress)))
    if not moving:
        return
    blocks = np.zeros((len(moving), 6, 6))
    for block, (one, derivative) in zip(blocks, moving, strict=True):
        block[:3, :3] = block[3:, 3:] = one.logarithm.T
        block[:3, 3:] = derivative
    for (one, _), frechet in zip(moving, expm(blocks)[:, :3, 3:], strict=True):
        if one.cell == "shape":
            frechet = frechet - np.trace(frechet) / 3 * np.eye(3)
        one.gradient[len(one.atoms) :] = frechet / one.factor


def _derivative(one: Coordinates, stress: Array) -> Array:
    """Of the enthalpy with respect to D: V (σ + p) D⁻ᵀ, or the isotropic part of it."""
    total = one.atoms.cell.volume * (stress + one.pressure * np.eye(3))
    if one.cell == "volume":
        total = np.trace(total) / 3 * np.eye(3)
    return total @ np.linalg.inv(one.deformation).T

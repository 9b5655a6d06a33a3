"""A crystal under a deformation of which some components are set and the others relax.

The deformation gradient is upper triangular, ``F = [[d1, d1 γ12, d1 γ13], [0, d2, d2 γ23], [0, 0, d3]]``,
so that a line along x stays along x, and a plane normal to z stays normal to z. The energy is stationary
in the free ones of these six where the Cauchy stresses of the same components vanish:
``dE/dp = V σ : (dF/dp F⁻¹)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.filters import Filter

from atomml.errors import OptionError
from atomml.units import GPA

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["IDENTITY", "StrainedCell", "axes_along", "gradient_parts", "relax_cell"]

IDENTITY = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
"""The six components without any strain: d1, d2, d3, γ23, γ13, γ12."""

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_STIFFNESS = 0.6  # eV/Å³, of a usual crystal
_CURVATURE = 70.0  # eV/Å², where ASE's BFGS starts from
_DENSE = 200  # atoms up to which the whole Hessian is kept


def gradient_parts(components: Array) -> Array:
    """``F`` from its six components ``(6,)``."""
    d, shears = components[:3], components[3:]
    return np.array(
        [[d[0], d[0] * shears[2], d[0] * shears[1]], [0.0, d[1], d[1] * shears[0]], [0.0, 0.0, d[2]]]
    )


def axes_along(cell: Array, direction: Any, plane: Any | None) -> Array:
    """Rows: the unit vectors x, y, z with x along ``[uvw]``, and y normal to ``(hkl)`` if it is given.

    Raises:
        OptionError: The zero vector, or a direction that does not lie in the plane.
    """
    along = np.asarray(direction, dtype=np.float64) @ cell
    if np.linalg.norm(along) < 1e-8:
        raise OptionError("--direction 0,0,0 is no direction: give [uvw] such as 1,0,0.")
    x = along / np.linalg.norm(along)
    if plane is None:
        least = np.eye(3)[int(np.argmin(np.abs(x)))]
        y = least - (least @ x) * x
    else:
        y = np.linalg.inv(cell) @ np.asarray(plane, dtype=np.float64)
        if np.linalg.norm(y) < 1e-8:
            raise OptionError("--plane 0,0,0 is no plane: give (hkl) such as 1,1,1.")
        if abs(y @ x) > 1e-6 * np.linalg.norm(y):
            texts = (" ".join(f"{v:g}" for v in vector) for vector in (direction, plane))
            raise OptionError(
                "The direction [{}] does not lie in the plane ({}): hu + kv + lw must be 0.".format(*texts)
            )
    y = y / np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


class StrainedCell(Filter):  # type: ignore[misc]
    """What ASE's optimisers move: the ions in the undeformed frame, and the free components of ``F``.

    Attributes:
        atoms: The deformed crystal, with a calculator.
        components: ``(6,)`` of ``F``.
        free: ``(6,)`` bool, those that relax.
    """

    def __init__(self, atoms: Atoms, free: Array, move_ions: bool) -> None:
        """Take a crystal without strain, whose calculator gives a stress."""
        super().__init__(atoms, indices=range(len(atoms)))
        self.atoms = atoms
        self.free, self.move_ions = np.asarray(free, dtype=bool), move_ions
        self.components = IDENTITY.copy()
        self._cell = atoms.cell.array.copy()
        self._sites = atoms.positions.copy()  # where the ions are once F is taken off
        self._scale = float(np.sqrt(abs(np.linalg.det(self._cell)) * _STIFFNESS / _CURVATURE))

    def deform(self, components: Array, sites: Array | None = None) -> None:
        """Set the six components, and the ions in the undeformed frame if they are given."""
        self.components = np.array(components, dtype=np.float64)
        self._sites = self._sites if sites is None else np.array(sites, dtype=np.float64)
        gradient = gradient_parts(self.components)
        self.atoms.set_cell(self._cell @ gradient.T)
        self.atoms.set_positions(self._sites @ gradient.T)

    @property
    def sites(self) -> Array:
        """``(n_atoms, 3)`` Å: the ions in the undeformed frame."""
        return self._sites.copy()

    def slopes(self) -> Array:
        """``(6,)`` eV: the energy's derivatives by the components."""
        gradient, inverse = gradient_parts(self.components), np.linalg.inv(gradient_parts(self.components))
        stress = self.atoms.get_stress(voigt=False) * self.atoms.cell.volume
        found = np.empty(6)
        for number, (i, j) in enumerate(_PAIRS):
            change = np.zeros((3, 3))
            if i == j:
                change[i] = gradient[i] / self.components[i]
            else:
                change[i, j] = self.components[i]
            found[number] = float((stress * (change @ inverse)).sum())
        return found

    def stress(self) -> Array:
        """``(6,)`` GPa: the Cauchy stress, xx yy zz yz xz xy."""
        return np.asarray(self.atoms.get_stress(voigt=True)) * GPA

    def transverse(self) -> float:
        """Largest Cauchy stress of a free component, GPa; 0 if there is none."""
        return float(np.abs(self.stress()[self.free]).max()) if self.free.any() else 0.0

    def max_force(self) -> float:
        """Largest force on an ion that may move, eV/Å."""
        return float(np.linalg.norm(self.atoms.get_forces(), axis=1).max()) if self.move_ions else 0.0

    def get_positions(self) -> Array:
        """``(n_atoms + 2, 3)``: the ions, then the six components in a scale like that of the ions."""
        return np.vstack([self._sites, (self._scale * self.components).reshape(2, 3)])

    def set_positions(self, positions: Array, **kwargs: Any) -> None:
        """What :meth:`get_positions` gives; components that are set, and ions that are clamped, stay."""
        wanted = np.asarray(positions[-2:]).ravel() / self._scale
        sites = positions[:-2] if self.move_ions else self._sites
        self.deform(np.where(self.free, wanted, self.components), sites)

    def get_forces(self, **kwargs: Any) -> Array:
        """The negative derivatives of the energy by :meth:`get_positions`; 0 for what stays."""
        ions = self.atoms.get_forces() @ gradient_parts(self.components)
        cell = np.where(self.free, -self.slopes() / self._scale, 0.0)
        return np.vstack([ions if self.move_ions else np.zeros_like(ions), cell.reshape(2, 3)])

    def get_potential_energy(self, force_consistent: bool = True) -> float:
        """The energy, eV."""
        return float(self.atoms.get_potential_energy())

    def __len__(self) -> int:
        """Rows of :meth:`get_positions`."""
        return len(self.atoms) + 2


def relax_cell(cell: StrainedCell, fmax: float, smax: float, steps: int) -> tuple[int, bool]:
    """Relax ions and free components; returns the steps taken and whether they converged.

    Args:
        cell: The crystal.
        fmax: Largest force, eV/Å.
        smax: Largest transverse stress, GPa.
        steps: Most steps.
    """
    from ase.optimize import BFGS, LBFGS

    optimizer = (BFGS if len(cell) <= _DENSE else LBFGS)(cell, logfile=None, maxstep=0.1)
    for step in range(steps + 1):
        if cell.max_force() <= fmax and cell.transverse() <= smax:
            return step, True
        if step < steps:
            optimizer.step()
    return steps, False

"""Energy densities of exact exchange at grid points, with range separation, and what follows from them.

With orbitals ``chi`` and a spin's density matrix ``D``, ``E_b(r) = sum_a D_ab chi_a(r)`` and
``nu_bd(r) = (b| v(r - r') |d)``, the density ``x(r) = -1/2 sum_bd E_b nu_bd E_d`` integrates to that spin's
exact exchange (Kirkpatrick et al., Science 374, 1385 (2021), supplement, section 1.2); ``v`` is ``1/r``
or, for a range separation ``omega``, ``erf(omega r) / r``. Of a closed shell, ``D`` and ``x`` are of both
spins together, and the factor is 1/4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exchange_factor", "potential_integrals", "slope_integrals"]

Array = NDArray[np.float64]


def exchange_factor(n_spins: int) -> float:
    """What stands before ``E nu E``: 1/4 where one matrix holds both spins, else 1/2."""
    return 0.25 if n_spins == 1 else 0.5


def potential_integrals(molecule: Any, coords: Array, omega: float) -> Array:
    """``nu``: ``(n_points, n, n)`` potentials at the points of all products of two orbitals, Hartree."""
    with molecule.with_range_coulomb(omega):
        return np.asarray(molecule.intor("int1e_grids", hermi=1, grids=coords))


def slope_integrals(molecule: Any, coords: Array, omega: float) -> Array:
    """``(3, n_points, n, n)``: the same with the gradient of the first orbital, Hartree/bohr."""
    with molecule.with_range_coulomb(omega):
        return np.asarray(molecule.intor("int1e_grids_ip", grids=coords))

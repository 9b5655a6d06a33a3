"""Cheap matrices that a predictor needs not learn: Fock matrices on superposed atomic densities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.electronic.hamiltonian_model import PRIORS
from atomml.errors import OptionError

__all__ = ["prior_matrix"]


def prior_matrix(field: Any, prior: str) -> NDArray[np.float64]:
    """The Fock matrix on the superposition of atomic densities in a minimal basis, ``(n, n)`` Hartree.

    PBE's lies closer to that of a hybrid functional than the hybrid's own does, and costs no exchange.

    Args:
        field: A mean field of PySCF, converged or not; it is not changed.
        prior: ``minao-pbe``, ``minao`` (by the field's own functional), or ``none``: zeros.

    Raises:
        OptionError: No such prior.
    """
    if prior not in PRIORS:
        raise OptionError(f"There is no prior {prior!r}: choose from {', '.join(PRIORS)}.")
    molecule = field.mol
    if prior == "none":
        return np.zeros((molecule.nao, molecule.nao))
    density = field.get_init_guess(molecule, "minao")
    if prior == "minao-pbe":
        from pyscf import dft

        own = dft.RKS(molecule, xc="pbe")
        own.grids.level = field.grids.level if hasattr(field, "grids") else 3
        own.chkfile = own._chkfile = None
        field = own
    fock = np.asarray(field.get_fock(dm=density), dtype=np.float64)
    return np.asarray(0.5 * (fock + fock.T))

"""Energies beyond mean fields from PySCF (extra ``pyscf``): coupled clusters, full interaction."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.entry import Labels
from atomml.data.label import Labelled
from atomml.electronic.mean_field import MeanFieldLevel, quiet
from atomml.errors import LabelError, OptionError, StructureError

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import LabelSettings

__all__ = ["CORRELATED", "CorrelatedEngine"]

CORRELATED = ("ccsd", "ccsd(t)", "fci")
"""Methods of :class:`CorrelatedEngine`; all electrons are correlated."""

_MOST_DETERMINANTS = 3_000_000
"""Full configuration interaction holds a few vectors of so many numbers."""


class CorrelatedEngine:
    """``ccsd(t)/BASIS`` and its like: energies without forces.

    Open shells start from a restricted field for FCI, and from an unrestricted one for coupled clusters.

    Args:
        method: One of :data:`CORRELATED`.
        basis: As PySCF names it.
        settings: Convergence is read.

    Raises:
        MissingExtraError: PySCF is not installed.
        OptionError: No such basis, density fitting, or Kohn-Sham matrices, of which there are none.
    """

    def __init__(self, method: str, basis: str, settings: LabelSettings) -> None:
        name = f"{method}/{basis}"
        if settings.density_fit or settings.hamiltonian:
            raise OptionError(f"{name}: no density fitting and no Kohn-Sham matrices: leave them off.")
        self._kind, self._basis = method, basis
        self._level = MeanFieldLevel("hf", basis, settings, name)
        self.method = self._level.method

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: What a mean field cannot take, or too many determinants for FCI.
        """
        self._level.check(atoms, where)
        if self._kind == "fci":
            molecule = self._level.molecule(atoms)
            size = comb(molecule.nao, molecule.nelec[0]) * comb(molecule.nao, molecule.nelec[1])
            if size > _MOST_DETERMINANTS:
                raise StructureError(
                    f"{where} has {size:.2g} determinants in {self._basis}, and FCI takes "
                    f"{_MOST_DETERMINANTS:.0g}: take a smaller basis set, or ccsd(t)."
                )

    def label(self, atoms: Atoms) -> Labelled:
        """The energy.

        Raises:
            LabelError: The mean field or what stands on it did not converge.
        """
        from ase.units import Hartree

        with quiet():
            field, method = self._level.converge(self._field(atoms))
            energy = float(field.e_tot) if field.mol.nelectron == 1 else self._correlated(field)
        if not np.isfinite(energy):
            raise LabelError(f"{self._level.name} gave a number that is not finite; there is no label.")
        return Labelled(Labels(energy=energy * Hartree), method)

    def _field(self, atoms: Atoms) -> Any:
        field = self._level.mean_field(atoms)
        if self._kind == "fci" and field.mol.spin:
            from pyscf import scf

            restricted = scf.ROHF(field.mol)
            restricted.conv_tol, restricted.max_cycle = field.conv_tol, field.max_cycle
            restricted.chkfile = restricted._chkfile = None
            return restricted
        return field

    def _correlated(self, field: Any) -> float:
        """Hartree."""
        if self._kind == "fci":
            from pyscf import fci

            solver = fci.FCI(field)
            solver.conv_tol, solver.max_cycle = 1e-10, 300
            energy, _ = solver.kernel()
            if not np.all(solver.converged):
                raise LabelError(f"The FCI of {self._level.name} did not converge; there is no label.")
            return float(energy)
        from pyscf import cc

        clusters = cc.CCSD(field)
        clusters.conv_tol, clusters.max_cycle = 1e-9, 300
        clusters.kernel()
        if not clusters.converged:
            raise LabelError(
                f"The coupled clusters of {self._level.name} did not converge in 300 cycles; there is no "
                "label: one determinant may be a poor start there."
            )
        return float(clusters.e_tot + (clusters.ccsd_t() if self._kind == "ccsd(t)" else 0.0))

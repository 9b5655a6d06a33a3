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
    from numpy.typing import NDArray

    from atomml.data.label import LabelSettings

__all__ = ["CORRELATED", "CorrelatedEngine"]

CORRELATED = ("ccsd", "ccsd(t)", "fci")
"""Methods of :class:`CorrelatedEngine`; all electrons are correlated."""

_MOST_DETERMINANTS = 3_000_000
"""Full configuration interaction holds a few vectors of so many numbers."""


class CorrelatedEngine:
    """``ccsd(t)/BASIS`` and its like: energies without forces, and densities where they are asked for.

    Open shells start from a restricted field for FCI, and from an unrestricted one for coupled clusters.
    FCI's density is that of its wave function. Coupled clusters' is that of their Lambda equations, with (T)
    if the energy has it, without the relaxation of Hartree-Fock's orbitals: ``density=unrelaxed``.

    Args:
        method: One of :data:`CORRELATED`.
        basis: As PySCF names it.
        settings: Convergence is read.

    Raises:
        MissingExtraError: PySCF is not installed.
        OptionError: No such basis, or settings that it has not: density fitting, Kohn-Sham matrices.
    """

    def __init__(self, method: str, basis: str, settings: LabelSettings) -> None:
        name = f"{method}/{basis}"
        if settings.density_fit or settings.hamiltonian:
            raise OptionError(f"{name}: no density fitting and no Kohn-Sham matrices: leave them off.")
        if settings.energy_only:
            raise OptionError(f"{name} gives energies alone: leave out --energy-only.")
        self._kind, self._basis = method, basis
        self._level = MeanFieldLevel("hf", basis, settings, name)
        self._keeps_density = settings.density
        self._suffix = ""
        if settings.density:
            self._suffix = " density" if method == "fci" else " density=unrelaxed"
        self.method = self._level.method + self._suffix

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
        """The energy, and the density matrix of both spins if it is wanted.

        Raises:
            LabelError: The mean field or what stands on it did not converge.
        """
        from ase.units import Hartree

        with quiet():
            field, method = self._level.converge(self._field(atoms))
            if field.mol.nelectron == 1:
                energy, density = float(field.e_tot), np.asarray(field.make_rdm1())
            elif self._kind == "fci":
                energy, density = self._full_interaction(field)
            else:
                energy, density = self._clusters(field)
        matrices = {}
        if self._keeps_density:
            whole = density if density.ndim == 2 else density.sum(axis=0)
            matrices["density"] = 0.5 * (whole + whole.T)
        if not (np.isfinite(energy) and all(np.isfinite(one).all() for one in matrices.values())):
            raise LabelError(f"{self._level.name} gave a number that is not finite; there is no label.")
        return Labelled(Labels(energy=energy * Hartree), method + self._suffix, matrices)

    def _field(self, atoms: Atoms) -> Any:
        field = self._level.mean_field(atoms)
        if self._kind == "fci" and field.mol.spin:
            from pyscf import scf

            restricted = scf.ROHF(field.mol)
            restricted.conv_tol, restricted.max_cycle = field.conv_tol, field.max_cycle
            restricted.chkfile = restricted._chkfile = None
            return restricted
        return field

    def _full_interaction(self, field: Any) -> tuple[float, NDArray[np.float64]]:
        """Hartree, and the density matrix in atomic orbitals."""
        from pyscf import fci

        solver = fci.FCI(field)
        solver.conv_tol, solver.max_cycle = 1e-10, 300
        energy, vector = solver.kernel()
        if not np.all(solver.converged):
            raise LabelError(f"The FCI of {self._level.name} did not converge; there is no label.")
        if not self._keeps_density:
            return float(energy), np.zeros((1, 1))
        orbitals = np.asarray(field.mo_coeff)
        density = solver.make_rdm1(vector, orbitals.shape[1], field.mol.nelec)
        return float(energy), orbitals @ density @ orbitals.T

    def _clusters(self, field: Any) -> tuple[float, NDArray[np.float64]]:
        """The same by coupled clusters."""
        from pyscf import cc

        clusters = cc.CCSD(field)
        clusters.conv_tol, clusters.max_cycle = 1e-9, 300
        integrals = clusters.ao2mo()
        clusters.kernel(eris=integrals)
        if not clusters.converged:
            raise LabelError(
                f"The coupled clusters of {self._level.name} did not converge in 300 cycles; there is no "
                "label: one determinant may be a poor start there."
            )
        triples = self._kind == "ccsd(t)" and _has_triples(clusters)
        energy = float(clusters.e_tot + (clusters.ccsd_t(eris=integrals) if triples else 0.0))
        if not self._keeps_density:
            return energy, np.zeros((1, 1))
        return energy, self._clusters_density(clusters, integrals, triples)

    def _clusters_density(self, clusters: Any, integrals: Any, triples: bool) -> NDArray[np.float64]:
        """``(n, n)``, or ``(2, n, n)`` with spin, in atomic orbitals."""
        from pyscf.cc import ccsd_t_lambda_slow, ccsd_t_rdm_slow, uccsd_t_lambda, uccsd_t_rdm

        clusters.conv_tol_normt = 1e-7
        if triples:
            closed = np.ndim(clusters.mo_occ) == 1
            lambdas, matrix = (
                (ccsd_t_lambda_slow, ccsd_t_rdm_slow) if closed else (uccsd_t_lambda, uccsd_t_rdm)
            )
            t1, t2 = clusters.t1, clusters.t2
            converged, l1, l2 = lambdas.kernel(
                clusters, integrals, t1, t2, max_cycle=300, tol=1e-7, verbose=0
            )
            density = matrix.make_rdm1(clusters, t1, t2, l1, l2, eris=integrals, ao_repr=True)
        else:
            clusters.solve_lambda(eris=integrals)
            converged, density = clusters.converged_lambda, clusters.make_rdm1(ao_repr=True)
        if not converged:
            raise LabelError(
                f"The Lambda equations of {self._level.name} did not converge: there is no density; leave "
                "--density off."
            )
        return np.asarray(density)


def _has_triples(clusters: Any) -> bool:
    """Whether anything can be excited threefold; PySCF divides by the number of a spin's empty orbitals."""
    occupied, orbitals = np.atleast_1d(clusters.nocc), np.atleast_1d(clusters.nmo)
    empty = orbitals - occupied
    return bool((empty > 0).all() or ((empty > 2) & (occupied > 2)).any())

"""Labels from PySCF (extra ``pyscf``): Hartree-Fock, density functionals and MP2 for molecules.

Forces are the exact derivative of the energy as it is computed: the response of the integration grid is
included, without which the forces on a molecule do not add up to zero (by some 10 meV/Å for r2SCAN on water).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.entry import Labels
from atomml.data.label import Labelled
from atomml.electronic.mean_field import MeanFieldLevel, forces_of, quiet
from atomml.electronic.priors import prior_matrix
from atomml.errors import LabelError, OptionError, StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.data.label import LabelSettings

__all__ = ["PyscfEngine"]


class PyscfEngine:
    """``FUNCTIONAL/BASIS``, ``hf/BASIS`` or ``mp2/BASIS``.

    Args:
        functional: As PySCF names it, with a dispersion suffix if wanted; or ``hf``, ``mp2``.
        basis: As PySCF names it.
        settings: All but those of models and of tblite are read.

    Raises:
        MissingExtraError: PySCF, or what dispersion needs, is not installed.
        OptionError: No such functional or basis, or a functional without forces in PySCF.
    """

    def __init__(self, functional: str, basis: str, settings: LabelSettings) -> None:
        self._is_mp2 = functional == "mp2"
        self._settings = settings
        name = f"{functional}/{basis}"
        if self._is_mp2 and settings.density_fit:
            raise OptionError(f"{name}: PySCF has no forces for MP2 with density fitting: leave it off.")
        if self._is_mp2 and settings.energy_only:
            raise OptionError(f"{name} comes with forces: leave out --energy-only.")
        if self._is_mp2 and settings.hamiltonian:
            raise OptionError(f"{name} has no Kohn-Sham matrix: take a functional, or hf.")
        self._level = MeanFieldLevel("hf" if self._is_mp2 else functional, basis, settings, name)
        self.method = self._level.method
        if settings.density:
            self.method += " density=unrelaxed" if self._is_mp2 else " density"
        if settings.energy_only:
            self.method += " energy_only"

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: Periodic, a charge or spin that cannot be, an element that the basis set does
                not have, or, where matrices are kept, an open shell.
        """
        _, spin = self._level.check(atoms, where)
        if self._settings.hamiltonian and spin:
            raise StructureError(
                f"{where} has {spin} unpaired electrons: matrices are kept of closed shells."
            )

    def label(self, atoms: Atoms) -> Labelled:
        """Energy and forces; spin-unrestricted for open shells. Or energy alone, or energy and matrices.

        An SCF that does not converge is tried once more from where it stopped, by a second-order
        solver; the method then says ``solver=newton``.

        Raises:
            LabelError: It did not converge either.
        """
        from ase.units import Hartree

        with quiet():
            field, method = self._level.converge(self._level.mean_field(atoms))
            method += self.method.removeprefix(self._level.method)
            if self._settings.hamiltonian:
                return self._with_matrices(field, method)
            final = self._correlated(field) if self._is_mp2 else field
            energy = float(final.e_tot)
            forces = None if self._settings.energy_only else forces_of(final)
            matrices = {"density": self._density(final)} if self._settings.density else {}
        if not (np.isfinite(energy) and (forces is None or np.isfinite(forces).all())):
            raise LabelError(f"{self._level.name} gave a number that is not finite; there is no label.")
        return Labelled(Labels(energy=energy * Hartree, forces=forces), method, matrices)

    def _density(self, final: Any) -> NDArray[np.float64]:
        """``(n, n)`` of both spins."""
        found = np.asarray(final.make_rdm1(ao_repr=True) if self._is_mp2 else final.make_rdm1())
        return found if found.ndim == 2 else found.sum(axis=0)

    def _with_matrices(self, field: Any, method: str) -> Labelled:
        """The Kohn-Sham matrix of the converged density, and that of the prior."""
        from ase.units import Hartree

        fock = np.asarray(field.get_fock(dm=field.make_rdm1()), dtype=np.float64)
        if not np.isfinite(fock).all():
            raise LabelError(f"{self._level.name} gave a number that is not finite; there is no label.")
        matrices = {"hamiltonian": 0.5 * (fock + fock.T)}
        if self._settings.prior != "none":
            matrices[self._settings.prior] = prior_matrix(field, self._settings.prior)
        if self._settings.density:
            matrices["density"] = self._density(field)
        return Labelled(Labels(energy=float(field.e_tot) * Hartree), method, matrices)

    def _correlated(self, field: Any) -> Any:
        """Second-order perturbation theory on a mean field."""
        from pyscf import mp

        correlated = mp.MP2(field)
        correlated.kernel()
        return correlated

"""Labels from PySCF (extra ``pyscf``): Hartree-Fock, density functionals and MP2 for molecules.

Sun et al., J. Chem. Phys. 153, 024109 (2020). Forces are the exact derivative of the energy as it is
computed: the response of the integration grid is included, without which the forces on a molecule
do not add up to zero (by some 10 meV/Å for r2SCAN on water). Non-local correlation (VV10) is
integrated on a level-1 grid, as is usual: the default grid is 10 times slower and differs by
2e-7 Eh for water.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.entry import Labels
from atomml.data.label import Labelled, charge_and_spin
from atomml.errors import LabelError, MissingExtraError, OptionError, StructureError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import LabelSettings

__all__ = ["PyscfEngine"]

_NLC_GRID = 1
_BASIS_NAME = re.compile(r"[a-z0-9][a-z0-9+*(),_-]*", re.ASCII)
_BEYOND = ("ccsd", "ccsd(t)", "ccsdt", "mp3", "mp4", "casscf", "fci")


class PyscfEngine:
    """``FUNCTIONAL/BASIS``, ``hf/BASIS`` or ``mp2/BASIS``.

    Args:
        functional: As PySCF names it, with a dispersion suffix if wanted; or ``hf``, ``mp2``.
        basis: As PySCF names it.
        settings: ``grid``, ``conv_tol``, ``max_cycle`` and ``density_fit`` are read.

    Raises:
        MissingExtraError: PySCF, or what dispersion needs, is not installed.
        OptionError: No such functional or basis, or a functional without forces in PySCF.
    """

    def __init__(self, functional: str, basis: str, settings: LabelSettings) -> None:
        try:
            import pyscf
        except ImportError as error:
            raise MissingExtraError.for_extra("pyscf", "pyscf") from error
        self._functional, self._basis, self._settings = functional, basis, settings
        self._is_mp2 = functional == "mp2"
        if self._is_mp2 and settings.density_fit:
            raise OptionError(f"mp2/{basis}: PySCF has no forces for MP2 with density fitting: leave it off.")
        self._xc = "hf" if self._is_mp2 else functional
        with _quiet():
            self._xc, self._dispersion = _checked_functional(self._xc, f"{functional}/{basis}")
            self._has_nlc = self._xc != "hf" and _has_nlc(functional)
        _check_basis_name(basis, f"{functional}/{basis}")
        _check_basis(basis, "H", f"{functional}/{basis}")
        parts = [f"{functional}/{basis}"]
        parts += [f"grid={settings.grid}"] if self._xc != "hf" else []
        parts += [f"nlc_grid={_NLC_GRID}"] if self._has_nlc else []
        parts += ["density_fit"] if settings.density_fit else []
        parts += [f"conv_tol={settings.conv_tol:g}", f"pyscf={pyscf.__version__}"]
        if self._dispersion:
            from importlib.metadata import version

            parts.append(f"pyscf-dispersion={version('pyscf-dispersion')}")
        self.method = " ".join(parts)

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: Periodic, a charge or spin that cannot be, or an element that the basis
                set does not have.
        """
        validate_atoms(atoms, where)
        if atoms.pbc.any():
            raise StructureError(
                f"{where} is periodic, and {self._functional}/{self._basis} is for molecules: label crystals "
                "with gfn2 or a model, or pass --drop-cell for a molecule in a box."
            )
        charge_and_spin(atoms, where)
        for symbol in dict.fromkeys(atoms.symbols):
            _check_basis(self._basis, symbol, where)

    def label(self, atoms: Atoms) -> Labelled:
        """Energy and forces; spin-unrestricted for open shells.

        An SCF that does not converge is tried once more from where it stopped, by a second-order
        solver; the method then says ``solver=newton``.

        Raises:
            LabelError: It did not converge either.
        """
        from ase.units import Bohr, Hartree

        with _quiet():
            field, method = self._converged(self._mean_field(atoms))
            energy, gradient = self._energy_and_gradient(field)
        if not (np.isfinite(energy) and np.isfinite(gradient).all()):
            raise LabelError(f"{self._functional} gave a number that is not finite; there is no label.")
        forces = -np.ascontiguousarray(gradient, dtype=np.float64) * (Hartree / Bohr)
        return Labelled(Labels(energy=float(energy) * Hartree, forces=forces), method)

    def _mean_field(self, atoms: Atoms) -> Any:
        from ase.units import Bohr
        from pyscf import dft, gto, scf

        _check_basis_name(self._basis, self.method)
        charge, spin = charge_and_spin(atoms)
        molecule = gto.Mole()
        molecule.atom = [
            (symbol, tuple(position))
            for symbol, position in zip(atoms.symbols, atoms.positions / Bohr, strict=True)
        ]
        molecule.unit, molecule.charge, molecule.spin = "Bohr", charge, spin
        molecule.basis, molecule.verbose = self._basis, 0
        molecule.ecp = {s: self._basis for s in set(atoms.symbols) if _has_core_potential(self._basis, s)}
        molecule.build(dump_input=False, parse_arg=False)
        if self._xc == "hf":
            field = (scf.UHF if spin else scf.RHF)(molecule)
            field.disp = self._dispersion or None
        else:
            field = (dft.UKS if spin else dft.RKS)(molecule, xc=self._functional)
            field.grids.level = self._settings.grid
            field.nlcgrids.level = _NLC_GRID
        field.conv_tol, field.max_cycle = self._settings.conv_tol, self._settings.max_cycle
        field.chkfile = field._chkfile = None  # the second unlinks the temporary file at once
        return field.density_fit() if self._settings.density_fit else field

    def _converged(self, field: Any) -> tuple[Any, str]:
        """The mean field after its SCF, and the method; second order if need be."""
        field.kernel()
        if field.converged:
            return field, self.method
        second = field.newton()
        second.chkfile = None
        second.kernel(field.mo_coeff, field.mo_occ)
        if not second.converged:
            raise LabelError(
                f"The SCF of {self._functional}/{self._basis} did not converge in {field.max_cycle} cycles, "
                "nor with the second-order solver: there is no label; raise --max-cycle, or check the "
                "geometry, charge and spin."
            )
        return second.undo_soscf(), f"{self.method} solver=newton"

    def _energy_and_gradient(self, field: Any) -> tuple[float, Any]:
        """Hartree, and Hartree per bohr."""
        if self._is_mp2:
            from pyscf import mp

            correlated = mp.MP2(field)
            correlated.kernel()
            return correlated.e_tot, correlated.nuc_grad_method().kernel()
        gradients = field.nuc_grad_method()
        gradients.grid_response = True
        return field.e_tot, gradients.kernel()


@contextmanager
def _quiet() -> Iterator[None]:
    """PySCF warns of what it can do without, such as other packages for basis sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _checked_functional(functional: str, method: str) -> tuple[str, str]:
    """The functional without its dispersion, and the dispersion; "" for none."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    if functional in _BEYOND:
        raise OptionError(f"{method}: labels beyond MP2 are not offered; write {', '.join(_WRITTEN)}.")
    try:
        xc, _, dispersion = parse_dft(functional)
        libxc.parse_xc(xc)
        kind = libxc.xc_type(xc)
    except (KeyError, ValueError, NotImplementedError) as error:
        raise OptionError(
            f"{method}: PySCF has no functional {functional!r}: write one such as pbe, b3lyp or wb97m-v."
        ) from error
    if kind == "MGGA" and libxc.needs_laplacian(xc):
        raise OptionError(f"{method}: PySCF has no forces for functionals of the Laplacian: take another.")
    if dispersion and find_spec("pyscf.dispersion") is None:
        raise MissingExtraError(
            f"{method}: dispersion is not installed: run pip install pyscf-dispersion, or leave "
            "the suffix out."
        )
    return ("hf" if kind == "HF" else xc), dispersion or ""


_WRITTEN = ("pbe/def2-svp", "hf/sto-3g", "mp2/def2-svp")


def _has_nlc(functional: str) -> bool:
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    xc, nlc, _ = parse_dft(functional)
    return nlc is not False and bool(libxc.is_nlc(xc))


def _check_basis_name(basis: str, method: str) -> None:
    """Refuse what PySCF would read as a file or as text: it evaluates what stands there as Python."""
    if not _BASIS_NAME.fullmatch(basis):
        raise OptionError(f"{method!r:.80}: a basis set is named by letters, digits and -+*(),_ alone.")
    if Path(basis).is_file():
        raise OptionError(
            f"{method}: PySCF would read the file {basis} of the current folder for the basis set, and run "
            "what stands in it: rename the file."
        )


@lru_cache(maxsize=512)
def _check_basis(basis: str, symbol: str, where: str) -> None:
    """Refuse a basis set that does not exist or lacks an element."""
    from pyscf import gto

    try:
        with _quiet():
            gto.basis.load(basis, symbol)
    except Exception as error:  # PySCF raises a different one for each way in which it finds nothing
        raise StructureError(
            f"{where}: PySCF has no basis set {basis} for {symbol}: choose one that has it."
        ) from error


@lru_cache(maxsize=512)
def _has_core_potential(basis: str, symbol: str) -> bool:
    """Whether the basis set comes with a pseudopotential for the core of this element."""
    from pyscf import gto

    try:
        with _quiet():
            return bool(gto.basis.load_ecp(basis, symbol))
    except Exception:  # no such file: an all-electron basis set
        return False

"""PySCF's mean fields (extra ``pyscf``): Hartree-Fock and density functionals for molecules.

Sun et al., J. Chem. Phys. 153, 024109 (2020). Non-local correlation (VV10) is integrated on a level-1 grid,
as is usual: the default grid is 10 times slower and differs by 2e-7 Eh for water.
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

from atomml.electronic.field_dispersion import checked_dispersion
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import LabelError, MissingExtraError, OptionError, StructureError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.electronic.functional import Functional

__all__ = ["MeanFieldLevel", "dipole_of", "forces_of", "parse_level", "quiet"]

_NLC_GRID = 1
_COARSE_GRID, _COARSE_TOL, _COARSE_ATOMS = 0, 1e-5, 6
_BASIS_NAME = re.compile(r"[a-z0-9][a-z0-9+*(),_-]*", re.ASCII)
_BEYOND = ("ccsd", "ccsd(t)", "ccsdt", "mp2", "mp3", "mp4", "casscf", "fci")


def parse_level(level: str) -> tuple[str, str]:
    """Functional and basis of ``FUNCTIONAL/BASIS``, in lower case.

    Raises:
        OptionError: It is written otherwise.
    """
    functional, slash, basis = level.strip().lower().partition("/")
    if not (slash and functional and basis) or "/" in basis:
        raise OptionError(f"{level!r:.80} is no level of theory: write one such as pbe/def2-svp.")
    return functional, basis


class MeanFieldLevel:
    """A functional (or ``hf``) in a basis set, ready to compute molecules.

    Args:
        functional: As PySCF names it, with a dispersion suffix if wanted; or one of ours.
        basis: As PySCF names it.
        settings: Grid and convergence.
        name: What the method string begins with; ``FUNCTIONAL/BASIS`` if empty.
        dispersion: ``DAMPING:FUNCTIONAL`` such as ``d3bj:pbe``, over that of a suffix; "" for none.

    Attributes:
        method: The exact method with its settings and versions.

    Raises:
        MissingExtraError: PySCF, or what dispersion needs, is not installed.
        OptionError: No such functional or basis, or a functional without forces in PySCF.
    """

    def __init__(
        self,
        functional: str | Functional,
        basis: str,
        settings: ScfSettings,
        name: str = "",
        dispersion: str = "",
    ) -> None:
        try:
            import pyscf
        except ImportError as error:
            raise MissingExtraError.for_extra("pyscf", "pyscf") from error
        self.own = None if isinstance(functional, str) else functional
        self.functional = functional if isinstance(functional, str) else functional.name
        self.basis, self.settings = basis, settings
        self.name = name or f"{self.functional}/{basis}"
        self._xc, self._dispersion, has_nlc = "own", "", False
        if self.own is None:
            with quiet():
                self._xc, self._dispersion = _checked_functional(self.functional, self.name)
                has_nlc = self._xc != "hf" and _has_nlc(self.functional)
        self._added = checked_dispersion(dispersion) if dispersion else ""
        if self._added and self._dispersion:
            raise OptionError(f"{self.name} has its dispersion already: leave {dispersion} out.")
        _check_basis_name(basis, self.name)
        _check_basis(basis, "H", self.name)
        parts = [self.name]
        parts += [f"grid={settings.grid}"] if self._xc != "hf" else []
        parts += [f"nlc_grid={_NLC_GRID}"] if has_nlc else []
        parts += ["density_fit"] if settings.density_fit else []
        parts += [f"conv_tol={settings.conv_tol:g}", f"pyscf={pyscf.__version__}"]
        parts += [f"dispersion={self._added}"] if self._added else []
        if self._dispersion or self._added:
            from importlib.metadata import version

            parts.append(f"pyscf-dispersion={version('pyscf-dispersion')}")
        self.method = " ".join(parts)

    def check(self, atoms: Atoms, where: str) -> tuple[int, int]:
        """Refuse what cannot be computed; charge and unpaired electrons of what can.

        Raises:
            StructureError: Periodic, a charge or spin that cannot be, or an element that the basis
                set does not have.
        """
        from atomml.electronic.charge_spin import charge_and_spin

        validate_atoms(atoms, where)
        if atoms.pbc.any():
            raise StructureError(
                f"{where} is periodic, and {self.name} is for molecules: take the cell of a molecule in a "
                "box away (labelling does with --drop-cell), and gfn2 or a model for crystals."
            )
        found = charge_and_spin(atoms, where)
        for symbol in dict.fromkeys(atoms.symbols):
            _check_basis(self.basis, symbol, where)
        return found

    def molecule(self, atoms: Atoms) -> Any:
        """PySCF's ``Mole``, with pseudopotentials where the basis set has them."""
        from ase.units import Bohr
        from pyscf import gto

        from atomml.electronic.charge_spin import charge_and_spin

        _check_basis_name(self.basis, self.method)
        charge, spin = charge_and_spin(atoms)
        molecule = gto.Mole()
        molecule.atom = [
            (symbol, tuple(position))
            for symbol, position in zip(atoms.symbols, atoms.positions / Bohr, strict=True)
        ]
        molecule.unit, molecule.charge, molecule.spin = "Bohr", charge, spin
        molecule.basis, molecule.verbose = self.basis, 0
        molecule.ecp = {s: self.basis for s in set(atoms.symbols) if _has_core_potential(self.basis, s)}
        molecule.build(dump_input=False, parse_arg=False)
        return molecule

    def mean_field(self, atoms: Atoms) -> Any:
        """PySCF's mean field, not yet converged; spin-unrestricted for open shells."""
        from pyscf import dft, scf

        molecule = self.molecule(atoms)
        spin = molecule.spin
        if self._xc == "hf":
            field = (scf.UHF if spin else scf.RHF)(molecule)
            field.disp = self._dispersion or None
        else:
            xc = "lda" if self.own is not None else self.functional
            field = (dft.UKS if spin else dft.RKS)(molecule, xc=xc)
            field.grids.level = self.settings.grid
            field.nlcgrids.level = _NLC_GRID
            if self.own is not None:
                field = self._with_own(field)
        if self._added:
            field.disp = self._added
        field.conv_tol, field.max_cycle = self.settings.conv_tol, self.settings.max_cycle
        field.chkfile = field._chkfile = None  # the second unlinks the temporary file at once
        return field.density_fit() if self.settings.density_fit else field

    def _with_own(self, field: Any) -> Any:
        from atomml.electronic.functional import use_functional

        assert self.own is not None
        return use_functional(field, self.own)

    def converge(self, field: Any, dm0: Any = None) -> tuple[Any, str]:
        """The mean field after its SCF, and the method, which says so if the second-order solver was needed.

        Args:
            field: Of :meth:`mean_field`.
            dm0: The density to start from; that of a first SCF on a coarse grid if None.

        Raises:
            LabelError: It did not converge either.
        """
        if dm0 is None and self.own is None:
            dm0 = _from_coarse_grid(field)
        field.kernel(dm0=dm0)
        if field.converged:
            return field, self.method
        if self.own is not None:  # libxc's response serves a second-order solver, ours a shift of levels
            return self._shifted(field)
        second = field.newton()
        second.chkfile = None
        second.kernel(field.mo_coeff, field.mo_occ)
        if not second.converged:
            raise LabelError(
                f"The SCF of {self.name} did not converge in {field.max_cycle} cycles, "
                "nor with the second-order solver: there is no label; raise --max-cycle, or check the "
                "geometry, charge and spin."
            )
        return second.undo_soscf(), f"{self.method} solver=newton"

    def _shifted(self, field: Any) -> tuple[Any, str]:
        """Once more from where it stopped, with empty levels shifted up and then back."""
        for shift in (0.5, 0.0):
            field.level_shift = shift
            field.kernel(dm0=field.make_rdm1())
        if field.converged:
            return field, f"{self.method} solver=level-shift"
        raise LabelError(
            f"The SCF of {self.name} did not converge in {field.max_cycle} cycles by DIIS, nor with empty "
            "levels shifted: there is no energy; raise --max-cycle, or check the geometry, charge and spin."
        )


def _from_coarse_grid(field: Any) -> Any:
    """The density of the same field on a grid of few points, loosely converged; None where it says nothing.

    Most of a cycle's time goes into the grid, and most cycles only find the neighbourhood of the solution.
    Where it ends is decided on the full grid, to the same tolerance.
    """
    grids = getattr(field, "grids", None)
    if grids is None or grids.level <= _COARSE_GRID or field.mol.natm < _COARSE_ATOMS:
        return None
    coarse = field.copy()
    coarse.grids = type(grids)(field.mol)
    coarse.grids.level = _COARSE_GRID
    coarse.conv_tol = max(_COARSE_TOL, field.conv_tol)
    coarse.kernel()
    return coarse.make_rdm1() if coarse.converged else None


def forces_of(field: Any) -> NDArray[np.float64]:
    """``(n_atoms, 3)`` analytic forces of a converged mean field, or of a method built on one, eV/Å.

    The response of the integration grid is included.
    """
    import numpy as np
    from ase.units import Bohr, Hartree

    gradients = field.nuc_grad_method()
    if hasattr(gradients, "grid_response"):
        gradients.grid_response = True
    return -np.ascontiguousarray(gradients.kernel(), dtype=np.float64) * (Hartree / Bohr)


def dipole_of(field: Any) -> NDArray[np.float64]:
    """``(3,)`` dipole moment of a converged mean field, Debye; about the origin if there is a charge."""
    import numpy as np

    return np.asarray(field.dip_moment(verbose=0), dtype=np.float64)


@contextmanager
def quiet() -> Iterator[None]:
    """PySCF warns of what it can do without, such as other packages for basis sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _checked_functional(functional: str, method: str) -> tuple[str, str]:
    """The functional without its dispersion, and the dispersion; "" for none."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    if functional in _BEYOND:
        raise OptionError(f"{method}: that is no mean field, or not offered; write {', '.join(_WRITTEN)}.")
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
        with quiet():
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
        with quiet():
            return bool(gto.basis.load_ecp(basis, symbol))
    except Exception:  # no such file: an all-electron basis set
        return False

"""Labels from GFN2-xTB and GFN1-xTB through tblite (extra ``gfn2``): molecules and crystals.

Bannwarth, Ehlert and Grimme, J. Chem. Theory Comput. 15, 1652 (2019); Grimme, Bannwarth and
Shushkov, J. Chem. Theory Comput. 13, 1989 (2017). Crystals are sampled at the Γ point only, so
their cells must be large; see :data:`SMALL_CELL`. The energy is the electronic free energy at 300 K,
whose derivatives the forces and the stress are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.entry import Labels
from atomml.data.label import Labelled
from atomml.electronic.charge_spin import charge_and_spin
from atomml.errors import LabelError, MissingExtraError, StructureError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import LabelSettings

__all__ = ["SMALL_CELL", "TbliteEngine", "thickness"]

SMALL_CELL = 10.0
"""Å; below this distance between faces of the cell, sampling Γ alone is crude (our judgement)."""

_NAMES = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
_HEAVIEST = 86
_MAX_CYCLES = 250
_TEMPERATURE = 9.5e-4  # Eh, 300 K; tblite's own default, set here so that the method string is true


class TbliteEngine:
    """``gfn2`` or ``gfn1``.

    Args:
        name: Which.
        settings: ``accuracy`` and ``max_cycle`` are read.

    Raises:
        MissingExtraError: tblite is not installed.
    """

    def __init__(self, name: str, settings: LabelSettings) -> None:
        try:
            from tblite.library import get_version
        except ImportError as error:
            raise MissingExtraError.for_extra("tblite", "gfn2") from error
        self._name, self._settings = name, settings
        version = ".".join(map(str, get_version()))
        self.method = f"{name} accuracy={settings.accuracy:g} temperature=300K tblite={version}"

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: No structure at all, an element beyond radon, a charge or spin that cannot
                be, a slab or chain, a charged cell.
        """
        validate_atoms(atoms, where)
        charge, _ = charge_and_spin(atoms, where)
        heavy = np.flatnonzero(atoms.numbers > _HEAVIEST)
        if len(heavy):
            atom = int(heavy[0])
            raise StructureError(
                f"{where}: atom {atom} is {atoms.symbols[atom]}: {self._name} knows elements up to radon."
            )
        if atoms.pbc.any() and not atoms.pbc.all():
            raise StructureError(
                f"{where} is periodic in some directions only, which tblite is not: set pbc to T T T, "
                "with vacuum in the cell, or to F F F."
            )
        if atoms.pbc.any() and charge:
            raise StructureError(
                f"{where}: a periodic cell with charge {charge:+d} has no energy of its own: "
                "label it neutral."
            )

    def label(self, atoms: Atoms) -> Labelled:
        """Energy and forces; the stress too for a crystal.

        Raises:
            LabelError: The charges did not converge.
        """
        from ase.units import Bohr, Hartree
        from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError

        try:
            found = self._calculator(atoms).singlepoint()
            energy = float(found.get("energy")) * Hartree
            forces = -np.asarray(found.get("gradient"), dtype=np.float64) * (Hartree / Bohr)
            stress = None
            if atoms.pbc.all():
                virial = np.asarray(found.get("virial"), dtype=np.float64) * (Hartree / atoms.get_volume())
                stress = 0.5 * (virial + virial.T)
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            raise LabelError(f"{self._name}: {' '.join(str(error).split())}; there is no label.") from error
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise LabelError(f"{self._name} gave a number that is not finite; there is no label.")
        method = f"{self.method} kpoints=gamma" if atoms.pbc.all() else self.method
        return Labelled(Labels(energy=energy, forces=forces, stress=stress), method)

    def _calculator(self, atoms: Atoms) -> Any:
        from ase.units import Bohr
        from tblite.interface import Calculator

        charge, spin = charge_and_spin(atoms)
        periodic = bool(atoms.pbc.any())
        calculator = Calculator(
            _NAMES[self._name],
            atoms.numbers,
            atoms.positions / Bohr,
            charge=float(charge),
            uhf=spin,
            lattice=atoms.cell.array / Bohr if periodic else None,
            periodic=atoms.pbc if periodic else None,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self._settings.accuracy)
        calculator.set("temperature", _TEMPERATURE)
        calculator.set("max-iter", min(self._settings.max_cycle, _MAX_CYCLES))
        return calculator


def thickness(atoms: Atoms) -> float:
    """Smallest distance between opposite faces of the cell, Å."""
    return float(1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max())

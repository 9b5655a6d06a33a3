"""Labels from the force field MMFF94s through RDKit (extra ``rdkit``), for molecules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atomml.data.entry import Labels
from atomml.data.force_fields import ForceField, bonded_molecule, has_parameters, rdkit_chem
from atomml.data.label import Labelled
from atomml.electronic.charge_spin import charge_and_spin
from atomml.errors import LabelError, StructureError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["MmffEngine"]


class MmffEngine:
    """``mmff94s``; the bonds are those of ``atoms.info["bonds"]``, else they are read off the geometry.

    Raises:
        MissingExtraError: RDKit is not installed.
    """

    def __init__(self) -> None:
        rdkit_chem()
        from rdkit import __version__

        self.method = f"mmff94s rdkit={__version__}"
        self._field: tuple[str, ForceField] | None = None

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: Periodic, unpaired electrons, bonds that cannot be known, or an atom that the
                force field has no parameters for.
        """
        validate_atoms(atoms, where)
        if atoms.pbc.any():
            raise StructureError(f"{where} is periodic, and mmff94s is for molecules: choose another model.")
        molecule = bonded_molecule(atoms, where)
        total = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
        charge, spin = charge_and_spin(atoms, where)
        if charge != total or spin:
            raise StructureError(
                f"{where} has charge {charge:+d} and {spin} unpaired electrons, its bonds say {total:+d} and "
                "none, and mmff94s goes by the bonds: mend the file, or choose another model."
            )
        if not has_parameters(molecule):
            raise StructureError(
                f"{where} ({atoms.symbols}) has an atom that MMFF94s has no parameters for: "
                "choose another model."
            )

    def label(self, atoms: Atoms) -> Labelled:
        """Energy and forces.

        Raises:
            StructureError: No parameters.
            LabelError: A number that is not finite.
        """
        molecule = bonded_molecule(atoms)
        bonds = atoms.info["bonds"]
        if self._field is None or self._field[0] != bonds:
            self._field = (bonds, ForceField(molecule))
        field = self._field[1]
        energy, forces = field.energy(atoms.positions), field.forces(atoms.positions)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise LabelError("mmff94s gave a number that is not finite; there is no label.")
        return Labelled(Labels(energy=energy, forces=forces), self.method)

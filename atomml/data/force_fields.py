"""MMFF94s of a molecule through RDKit (extra ``rdkit``): energy, forces, Hessian; bonds as a line of text.

Halgren, J. Comput. Chem. 17, 490 (1996) and 20, 720 (1999) (the "s" variant); as implemented by Tosco,
Stiefl and Landrum, J. Cheminform. 6, 37 (2014). What MMFF94s has no parameters for has none here either.
A force field needs bonds, which ``ase.Atoms`` do not have: they go along in ``atoms.info["bonds"]`` as a
SMILES string whose atom numbers are the places in ``atoms``, counted from 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import MissingExtraError, StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["KCAL_PER_MOL", "ForceField", "bonded_molecule", "bonds_of", "has_parameters", "rdkit_chem"]

KCAL_PER_MOL = 4184 / 96485.33212331  # eV; CODATA 2018
_STEP = 1e-3  # Å, of the differences that give the Hessian


def rdkit_chem() -> Any:
    """RDKit's ``Chem``.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError as error:
        raise MissingExtraError.for_extra("rdkit", "rdkit") from error
    return Chem


def bonds_of(molecule: Any) -> str:
    """The bonds of an RDKit molecule with all its hydrogens, as ``atoms.info["bonds"]`` has them."""
    chemistry = rdkit_chem()
    numbered = chemistry.Mol(molecule)
    for place, atom in enumerate(numbered.GetAtoms()):
        atom.SetAtomMapNum(place + 1)
    return str(chemistry.MolToSmiles(numbered, canonical=False))


def bonded_molecule(atoms: Atoms, where: str = "structure") -> Any:
    """The RDKit molecule of a structure, its atoms in the same order, without coordinates.

    The bonds are those of ``info["bonds"]``; where there are none, they are read off the geometry and kept
    there.

    Raises:
        StructureError: Bonds that do not belong to the atoms, or that the geometry does not tell.
        MissingExtraError: RDKit is not installed.
    """
    text = atoms.info.get("bonds")
    numbers = tuple(atoms.numbers.tolist())
    if not isinstance(text, str):
        text = _read_off(atoms, where)
        atoms.info["bonds"] = text
    molecule = _numbered(text)
    if molecule is None or tuple(atom.GetAtomicNum() for atom in molecule.GetAtoms()) != numbers:
        raise StructureError(f"{where}: its 'bonds' are not those of its atoms: leave them out.")
    return molecule


def has_parameters(molecule: Any) -> bool:
    """Whether MMFF94s covers every atom of an RDKit molecule."""
    from rdkit.Chem import rdForceFieldHelpers

    return bool(rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule))


class ForceField:
    """MMFF94s of one molecule, or UFF where that is asked for, with its bonds as they are.

    UFF (Rappé et al., J. Am. Chem. Soc. 114, 10024 (1992)) covers every element: it stands in where
    geometries, not energies, are wanted of what MMFF94s does not know.

    Args:
        molecule: An RDKit molecule with all hydrogens.
        universal: UFF in place of MMFF94s.

    Raises:
        StructureError: The force field has no parameters for it.
    """

    def __init__(self, molecule: Any, universal: bool = False) -> None:
        from rdkit.Chem import rdForceFieldHelpers
        from rdkit.Geometry import Point3D

        chemistry = rdkit_chem()
        self._molecule = chemistry.Mol(molecule)
        if not self._molecule.GetNumConformers():
            conformer = chemistry.Conformer(molecule.GetNumAtoms())
            for place in range(molecule.GetNumAtoms()):  # apart, as no two may lie in one point
                conformer.SetAtomPosition(place, Point3D(1.5 * place, 0.1 * place**1.5, 0.0))
            self._molecule.AddConformer(conformer)
        with _quiet():
            if universal:
                self._field = rdForceFieldHelpers.UFFGetMoleculeForceField(self._molecule)
            else:
                properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(
                    self._molecule, mmffVariant="MMFF94s"
                )
                self._field = properties and rdForceFieldHelpers.MMFFGetMoleculeForceField(
                    self._molecule, properties
                )
        if not self._field:
            name = "UFF" if universal else "MMFF94s"
            raise StructureError(f"{name} has no parameters for {chemistry.MolToSmiles(molecule):.80}.")

    def energy(self, positions: Array) -> float:
        """Energy in eV at positions ``(n_atoms, 3)`` Å."""
        return float(self._field.CalcEnergy(positions.ravel().tolist())) * KCAL_PER_MOL

    def forces(self, positions: Array) -> Array:
        """Forces ``(n_atoms, 3)`` in eV/Å."""
        self._field.Initialize()  # it keeps distances between calls, of other positions than these
        gradient = np.array(self._field.CalcGrad(positions.ravel().tolist()))
        return -gradient.reshape(-1, 3) * KCAL_PER_MOL

    def hessian(self, positions: Array) -> Array:
        """Second derivatives ``(3 n_atoms, 3 n_atoms)`` in eV/Å², by forward differences of forces."""
        flat, here = positions.ravel(), self.forces(positions).ravel()
        columns = np.empty((len(flat), len(flat)))
        for place in range(len(flat)):
            moved = flat.copy()
            moved[place] += _STEP
            columns[place] = (here - self.forces(moved.reshape(-1, 3)).ravel()) / _STEP
        return 0.5 * (columns + columns.T)


@lru_cache(maxsize=256)
def _numbered(text: str) -> Any:
    """The molecule of a SMILES string, its atoms in the order of their numbers; None for no such string."""
    chemistry = rdkit_chem()
    settings = chemistry.SmilesParserParams()
    settings.removeHs = False
    with _quiet():
        molecule = chemistry.MolFromSmiles(text, settings)
    if molecule is None:
        return None
    numbers = [atom.GetAtomMapNum() for atom in molecule.GetAtoms()]
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        return None
    ordered = chemistry.RenumberAtoms(molecule, [int(place) for place in np.argsort(numbers)])
    for atom in ordered.GetAtoms():
        atom.SetAtomMapNum(0)
    return ordered


def _read_off(atoms: Atoms, where: str) -> str:
    """Bonds as geometry and charge tell them (Kim and Kim, Bull. Korean Chem. Soc. 36, 1769 (2015))."""
    from rdkit.Chem import rdDetermineBonds

    chemistry = rdkit_chem()
    lines = [
        f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    charge = int(atoms.info.get("charge") or 0)
    try:
        with _quiet():
            molecule = chemistry.MolFromXYZBlock(f"{len(atoms)}\n\n" + "\n".join(lines) + "\n")
            rdDetermineBonds.DetermineBonds(molecule, charge=charge)
    except (ValueError, RuntimeError) as error:
        raise StructureError(
            f"{where}: its bonds cannot be read off the geometry: give SMILES or an SD file, or the charge."
        ) from error
    return bonds_of(molecule)


def _quiet() -> Any:
    from rdkit import rdBase

    return rdBase.BlockLogs()

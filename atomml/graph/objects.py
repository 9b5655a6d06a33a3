"""Structures as other packages hold them, as ASE ``Atoms``."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from atomml.errors import MissingExtraError, StructureError

__all__ = ["to_ase"]


def to_ase(structure: Any) -> Atoms:
    """ASE ``Atoms`` of a structure, with total charge and unpaired electrons in ``info``.

    Args:
        structure: ASE ``Atoms`` (given back as they are), a pymatgen ``Structure`` or ``Molecule``,
            or an RDKit molecule with a conformer (the first counts).

    Raises:
        StructureError: A disordered structure, a molecule without a conformer, or another type.
        MissingExtraError: An RDKit molecule without RDKit.
    """
    if isinstance(structure, Atoms):
        return structure
    home = type(structure).__module__.partition(".")[0]
    if home == "pymatgen":
        return _from_pymatgen(structure)
    if home == "rdkit":
        return _from_rdkit(structure)
    raise StructureError(
        f"A {type(structure).__name__} is no structure; give ASE Atoms, a pymatgen Structure or Molecule, "
        "or an RDKit molecule."
    )


def _from_pymatgen(structure: Any) -> Atoms:
    from pymatgen.core import IMolecule, IStructure

    if not isinstance(structure, IMolecule | IStructure):
        raise StructureError(
            f"A pymatgen {type(structure).__name__} is no structure; give a Structure or Molecule."
        )
    if not structure.is_ordered:
        raise StructureError("The pymatgen structure is disordered; give one with one element on each site.")
    numbers = [site.specie.Z for site in structure]
    if isinstance(structure, IMolecule):
        info = {"charge": structure.charge, "spin": structure.spin_multiplicity - 1}
        return Atoms(numbers, positions=structure.cart_coords, info=info)
    # What was set on the structure; its public ``charge`` also adds up oxidation states, which
    # say how electrons are counted and not that any are missing.
    info = {"charge": structure._charge or 0}
    lattice = structure.lattice
    return Atoms(numbers, positions=structure.cart_coords, cell=lattice.matrix, pbc=lattice.pbc, info=info)


def _from_rdkit(molecule: Any) -> Atoms:
    try:
        from rdkit import Chem
    except ImportError:
        raise MissingExtraError.for_extra("RDKit", "rdkit") from None
    if not isinstance(molecule, Chem.Mol):
        raise StructureError(f"An RDKit {type(molecule).__name__} is no molecule; give a Mol.")
    if molecule.GetNumConformers() == 0:
        raise StructureError("The RDKit molecule has no conformer; embed it first (AllChem.EmbedMolecule).")
    atoms = list(molecule.GetAtoms())
    info = {
        "charge": Chem.GetFormalCharge(molecule),
        "spin": sum(atom.GetNumRadicalElectrons() for atom in atoms),
    }
    positions = np.array(molecule.GetConformer().GetPositions(), dtype=np.float64).reshape(-1, 3)
    return Atoms([atom.GetAtomicNum() for atom in atoms], positions=positions, info=info)

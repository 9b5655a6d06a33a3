"""Molecules through RDKit (extra ``rdkit``): SD files one by one, and SMILES as a 3D conformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import IO, Any

import numpy as np
from ase import Atoms

from atomml.data.force_fields import bonds_of
from atomml.errors import FileFormatError, MissingExtraError

__all__ = ["is_smiles", "read_molecules", "read_smiles"]

_SEED = 61453  # of the conformer search, so that one SMILES always gives the same geometry


def read_molecules(stream: IO[bytes], name: str) -> Iterator[Atoms]:
    """Yield the molecules of an SD or MOL file, with ``name``, ``charge`` and ``spin`` in ``info``.

    Raises:
        FileFormatError: A record that RDKit cannot read, a 2D drawing, or hydrogens left out.
        MissingExtraError: RDKit is not installed.
    """
    chemistry = _rdkit()
    with _quiet():
        supplier = chemistry.ForwardSDMolSupplier(stream, removeHs=False, sanitize=True)
    index = 0
    while True:
        with _quiet():
            if supplier.atEnd():
                return
            try:
                molecule = next(supplier)
            except StopIteration:
                return
        yield _from_record(molecule, f"{name}, frame {index}")
        index += 1


def is_smiles(text: str) -> bool:
    """Whether RDKit is installed and reads ``text`` as a SMILES string."""
    try:
        chemistry = _rdkit()
    except MissingExtraError:
        return False
    with _quiet():
        return bool(text.strip()) and chemistry.MolFromSmiles(text) is not None


def read_smiles(smiles: str) -> Atoms:
    """A conformer: ETKDG version 3 with a fixed seed, then MMFF94s where it has parameters.

    Raises:
        FileFormatError: Several fragments, or no conformer found.
    """
    chemistry = _rdkit()
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    with _quiet():
        molecule = chemistry.AddHs(chemistry.MolFromSmiles(smiles))
        if len(chemistry.GetMolFrags(molecule)) > 1:
            raise FileFormatError(f"{smiles} has several fragments: give one molecule at a time.")
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = _SEED
        if rdDistGeom.EmbedMolecule(molecule, settings) != 0:
            raise FileFormatError(
                f"{smiles} has no conformer that RDKit can find: give a file with coordinates."
            )
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, mmffVariant="MMFF94s", maxIters=2000)
    return _to_atoms(molecule)


def _rdkit() -> Any:
    try:
        from rdkit import Chem
    except ImportError as error:
        raise MissingExtraError.for_extra("rdkit", "rdkit") from error
    return Chem


def _quiet() -> Any:
    """RDKit writes its complaints to stderr; ours are the errors raised."""
    try:
        from rdkit import rdBase
    except ImportError:
        return nullcontext()
    return rdBase.BlockLogs()


def _from_record(molecule: Any, where: str) -> Atoms:
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise FileFormatError(f"{where}: this is no molecule that RDKit can read: mend or remove the record.")
    if not molecule.GetNumConformers() or not molecule.GetConformer().Is3D():
        raise FileFormatError(f"{where}: this is a drawing in two dimensions: give 3D coordinates.")
    missing = sum(atom.GetNumImplicitHs() for atom in molecule.GetAtoms())
    if missing:
        raise FileFormatError(f"{where}: {missing} hydrogens are left out: add them with coordinates.")
    return _to_atoms(molecule)


def _to_atoms(molecule: Any) -> Atoms:
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    atoms = Atoms(numbers, positions=np.array(molecule.GetConformer().GetPositions()), pbc=False)
    atoms.info["charge"] = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
    atoms.info["spin"] = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    atoms.info["bonds"] = bonds_of(molecule)
    if molecule.HasProp("_Name") and molecule.GetProp("_Name").strip():
        atoms.info["name"] = molecule.GetProp("_Name").strip()
    return atoms

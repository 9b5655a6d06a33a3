"""Molecules for tests of ligands."""

from __future__ import annotations

from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDistGeom


def embedded(smiles: str, seed: int = 3) -> Any:
    """A molecule with hydrogens at one conformer of RDKit's."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed
    assert rdDistGeom.EmbedMolecule(molecule, settings) == 0
    return molecule

"""The conformers of a ligand: ETKDGv3, minimised by MMFF94s, one of each kind.

Riniker and Landrum, J. Chem. Inf. Model. 55, 2562 (2015); Wang, Witek, Landrum and Riniker, ibid. 60, 2044
(2020). Several searches with seeds of their own share the number of conformers, so that their spread can be
told. More conformers come behind those of a smaller number, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import ForceField, has_parameters, rdkit_chem
from atomml.errors import RunFailedError
from atomml.workflows.ligands.ligand_chemistry import Ligand, best_overlay

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Conformers", "distinct", "find_conformers", "guessed_hessian", "number_of_conformers"]

_SEED = 61453  # as of a SMILES string that is read
_SAME_ENERGY = 0.05  # kcal/mol
_SAME_RMSD = 0.1  # Å, heavy atoms
_ROUNDS, _ITERATIONS = 4, 2000


@dataclass(frozen=True)
class Conformers:
    """What a search found.

    Attributes:
        geometries: Distinct ones, ``(n_atoms, 3)`` Å each, in the order in which they were found.
        kind_of: For each conformer that was embedded, which of the distinct ones it is.
        search_of: For each conformer that was embedded, in which search.
        universal: Whether UFF stood in for MMFF94s, which has no parameters for the ligand.
    """

    geometries: list[Array]
    kind_of: list[int]
    search_of: list[int]
    universal: bool


def number_of_conformers(ligand: Ligand) -> int:
    """Ten for each rotatable bond, those of macrocycles too, between 20 and 150."""
    return max(20, min(150, 10 * (ligand.n_rotatable + ligand.n_macrocycle)))


def find_conformers(ligand: Ligand, count: int, searches: int, seed: int = 0) -> Conformers:
    """Search, minimise with the force field, and keep one of each kind.

    Args:
        ligand: The ligand.
        count: Conformers to embed in all searches together.
        searches: How many searches share them.
        seed: Shifts every search's seed.

    Raises:
        RunFailedError: No search found a conformer.
    """
    found: list[tuple[int, int, Array]] = []
    for search in range(min(searches, count)):
        share = -(-(count - search) // searches)
        first = _SEED + 1009 * seed + search
        found += [(place, search, x) for place, x in enumerate(_embedded(ligand, share, first))]
    if not found:
        raise RunFailedError(f"RDKit finds no conformer of {ligand.smiles:.80}: check its stereochemistry.")
    found.sort(key=lambda one: one[:2])
    universal = not has_parameters(ligand.molecule)
    relaxed = [_minimised(ligand, x, universal) for _, _, x in found]
    kinds, kind_of = distinct(ligand, relaxed)
    return Conformers([relaxed[k][0] for k in kinds], kind_of, [search for _, search, _ in found], universal)


def distinct(ligand: Ligand, found: list[tuple[Array, float]]) -> tuple[list[int], list[int]]:
    """Which geometries differ from all before them, and for each which of those it is.

    Two are the same whose energies (kcal/mol) differ by less than 0.05 and whose heavy atoms, equivalent ones
    exchanged as need be, have an RMSD below 0.1 Å.
    """
    kept: list[int] = []
    kind_of: list[int] = []
    for number, (positions, energy) in enumerate(found):
        for kind, other in enumerate(kept):
            near = abs(found[other][1] - energy) < _SAME_ENERGY
            if near and best_overlay(ligand, positions, found[other][0])[1] < _SAME_RMSD:
                kind_of.append(kind)
                break
        else:
            kind_of.append(len(kept))
            kept.append(number)
    return kept, kind_of


def guessed_hessian() -> Callable[[Atoms], Array]:
    """A function that gives the force field's Hessian of a ligand's structure, to start from."""
    from atomml.data.force_fields import bonded_molecule

    fields: dict[str, ForceField] = {}

    def guess(atoms: Atoms) -> Array:
        """The Hessian at a geometry, eV/Å², ``(3 n_atoms, 3 n_atoms)``."""
        molecule = bonded_molecule(atoms)
        bonds = str(atoms.info["bonds"])
        if bonds not in fields:
            fields[bonds] = ForceField(molecule, universal=not has_parameters(molecule))
        return fields[bonds].hessian(atoms.positions)

    return guess


def _embedded(ligand: Ligand, count: int, seed: int) -> list[Array]:
    """Conformers of one search; where embedding fails, random coordinates are tried for those that lack."""
    from rdkit import rdBase
    from rdkit.Chem import rdDistGeom

    chemistry = rdkit_chem()
    found: list[Array] = []
    for random in (False, True):
        molecule = chemistry.Mol(ligand.molecule)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed + 500 * random
        settings.useSmallRingTorsions = True
        settings.useRandomCoords = random
        settings.numThreads = 1
        with rdBase.BlockLogs():
            ids = rdDistGeom.EmbedMultipleConfs(molecule, count - len(found), settings)
        found += [np.array(molecule.GetConformer(number).GetPositions()) for number in ids]
        if len(found) == count:
            break
    return found


def _minimised(ligand: Ligand, positions: Array, universal: bool) -> tuple[Array, float]:
    """A geometry after the force field's minimisation, and its energy in kcal/mol."""
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    molecule = ligand.at(positions)
    if universal:
        with rdBase.BlockLogs():
            field = rdForceFieldHelpers.UFFGetMoleculeForceField(molecule)
    else:
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule, mmffVariant="MMFF94s")
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(molecule, properties)
    field.Initialize()
    for _ in range(_ROUNDS):
        if field.Minimize(maxIts=_ITERATIONS, forceTol=1e-4, energyTol=1e-7) == 0:
            break
    return np.array(molecule.GetConformer().GetPositions()), float(field.CalcEnergy())

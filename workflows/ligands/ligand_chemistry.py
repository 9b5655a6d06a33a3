"""Ligands as RDKit sees them: which poses are of one ligand, what changed between two geometries.

All work on a ligand is done on one molecule, made from its canonical SMILES, so that no result depends on
how a file numbers its atoms; ``places[i]`` of a pose says which of its atoms the molecule's atom ``i`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import bonds_of, rdkit_chem
from atomml.errors import StructureError
from atomml.workflows.ligands.ligand_hydrogens import with_hydrogens

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Ligand",
    "PreparedPose",
    "Torsion",
    "aligned",
    "angles_of",
    "best_overlay",
    "ligand_of",
    "prepare_pose",
    "shift_of",
    "smiles_of",
    "turned",
]

_LARGEST_BOND = 1.35  # times the sum of covalent radii: beyond it a bond is broken
_LARGEST_GIVEN = 1.7  # the same for what a file says, which may be rough
_CLOSEST = 1.1  # times that: below it two atoms that were not bonded are
_SMALLEST_RING, _MACROCYCLE = 6, 9
_MATCHES = 2000  # symmetries that are tried; a molecule of more has its RMSD overestimated
Torsion = tuple[int, int, int, int]
"""Four atoms of the ligand, the middle two joined by the bond that turns."""


@dataclass(frozen=True)
class Ligand:
    """A ligand, apart from any pose.

    Attributes:
        smiles: Canonical, with stereochemistry; what tells it from others.
        molecule: With all hydrogens and without coordinates.
        heavy: Places of the atoms that are no hydrogens.
        torsions: One for each bond outside rings that turns.
        ring_torsions: One for each bond that turns in a ring of six or more atoms.
        n_rotatable: Rotatable bonds, as RDKit counts them (amides and rings left out).
        n_macrocycle: Bonds that turn in rings of nine or more.
        charge: Total charge.
        spin: Unpaired electrons.
        bonds: As ``atoms.info["bonds"]`` has them.
    """

    smiles: str
    molecule: Any
    heavy: NDArray[np.intp]
    torsions: tuple[Torsion, ...]
    ring_torsions: tuple[Torsion, ...]
    n_rotatable: int
    n_macrocycle: int
    charge: int
    spin: int
    bonds: str

    @property
    def all_torsions(self) -> tuple[Torsion, ...]:
        """Those outside rings, then those in rings."""
        return self.torsions + self.ring_torsions

    @property
    def numbers(self) -> NDArray[np.intp]:
        """Atomic numbers."""
        return np.array([atom.GetAtomicNum() for atom in self.molecule.GetAtoms()])

    def atoms(self, positions: Array) -> Atoms:
        """A structure at positions ``(n_atoms, 3)`` Å, that knows charge, spin and bonds."""
        from ase import Atoms

        found = Atoms(self.numbers, positions=positions)
        found.info |= {"charge": self.charge, "spin": self.spin, "bonds": self.bonds}
        return found

    def at(self, *geometries: Array) -> Any:
        """The molecule with these geometries as conformers 0, 1 ..."""
        chemistry = rdkit_chem()
        found = chemistry.Mol(self.molecule)
        for number, positions in enumerate(geometries):
            conformer = chemistry.Conformer(len(positions))
            conformer.SetId(number)
            conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
            found.AddConformer(conformer)
        return found

    def problem(self, positions: Array) -> str | None:
        """What makes a geometry another molecule's: bonds broken or formed, a stereocentre turned over."""
        broken = _changed_bonds(self, positions)
        if broken:
            return broken
        chemistry = rdkit_chem()
        found = self.at(positions)
        chemistry.AssignStereochemistryFrom3D(found, replaceExistingTags=True)
        if smiles_of(found) != self.smiles:
            return "its stereochemistry has changed"
        return None


@dataclass(frozen=True)
class PreparedPose:
    """A pose with all its hydrogens.

    Attributes:
        molecule: The pose in its own order of atoms.
        ligand: Canonical SMILES of what it is a pose of.
        places: For each atom of the ligand, its place in the pose.
        positions: ``(n_atoms, 3)`` Å in the ligand's order, about the centre.
        centre: ``(3,)`` Å, what was taken off.
        hydrogens_given: Hydrogens that the pose came with.
        hydrogens_added: Hydrogens that it came without.
    """

    molecule: Any
    ligand: str
    places: tuple[int, ...]
    positions: Array
    centre: Array
    hydrogens_given: int
    hydrogens_added: int


def prepare_pose(molecule: Any) -> PreparedPose:
    """Add and place hydrogens where they are absent, and find out which ligand it is.

    Raises:
        StructureError: Several fragments, a dummy atom, coordinates that are not those of the bonds, or a
            molecule that its own SMILES does not give back.
    """
    chemistry = rdkit_chem()
    with _quiet():
        if len(chemistry.GetMolFrags(molecule)) > 1:
            raise StructureError("it has several fragments: leave salts and water out.")
        if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
            raise StructureError("it has a dummy atom: give a whole molecule.")
        _check_lengths(molecule)
        complete, added = with_hydrogens(molecule)
        smiles = smiles_of(complete)
        ligand = ligand_of(smiles)
        places = complete.GetSubstructMatch(ligand.molecule, useChirality=True)
    if len(places) != complete.GetNumAtoms():
        raise StructureError(f"it is not what its SMILES {smiles:.80} says: check bonds and stereochemistry.")
    positions = np.array(complete.GetConformer().GetPositions())[list(places)]
    centre = positions.mean(axis=0)
    given = sum(atom.GetAtomicNum() == 1 for atom in complete.GetAtoms()) - added
    return PreparedPose(complete, smiles, tuple(places), positions - centre, centre, given, added)


def smiles_of(molecule: Any) -> str:
    """Canonical SMILES with stereochemistry, which tells a ligand from others.

    Which side of a C=N bond a hydrogen lies on is left out: that of an amidine or a guanidine changes with
    the next water molecule, and where the hydrogen was absent nobody knows it.
    """
    chemistry = rdkit_chem()
    settings = chemistry.RemoveHsParameters()
    settings.removeDefiningBondStereo = True
    return str(chemistry.MolToSmiles(chemistry.RemoveHs(molecule, settings)))


@lru_cache(maxsize=64)
def ligand_of(smiles: str) -> Ligand:
    """The ligand of a canonical SMILES.

    Raises:
        StructureError: RDKit cannot read it.
    """
    from rdkit.Chem import rdMolDescriptors

    chemistry = rdkit_chem()
    with _quiet():
        bare = chemistry.MolFromSmiles(smiles)
    if bare is None:
        raise StructureError(f"RDKit does not read its own SMILES {smiles:.80}.")
    molecule = chemistry.AddHs(bare)
    atoms = list(molecule.GetAtoms())
    heavy = np.array([place for place, atom in enumerate(atoms) if atom.GetAtomicNum() > 1], dtype=np.intp)
    return Ligand(
        smiles,
        molecule,
        heavy if len(heavy) else np.arange(len(atoms)),
        _torsions(molecule),
        _ring_torsions(molecule, _SMALLEST_RING),
        int(rdMolDescriptors.CalcNumRotatableBonds(molecule)),
        len(_ring_torsions(molecule, _MACROCYCLE)),
        sum(atom.GetFormalCharge() for atom in atoms),
        sum(atom.GetNumRadicalElectrons() for atom in atoms),
        bonds_of(molecule),
    )


def angles_of(torsions: tuple[Torsion, ...], positions: Array) -> Array:
    """Torsion angles ``(n_torsions,)`` in degrees, from -180 to 180 (IUPAC's sign)."""
    if not torsions:
        return np.zeros(0)
    a, b, c, d = (positions[[torsion[k] for torsion in torsions]] for k in range(4))
    first, axis, last = b - a, c - b, d - c
    left, right = np.cross(first, axis), np.cross(axis, last)
    sine = np.einsum("ix,ix->i", left, last) * np.linalg.norm(axis, axis=1)
    return np.degrees(np.arctan2(sine, np.einsum("ix,ix->i", left, right)))


def turned(before: Array, after: Array) -> Array:
    """How far angles have turned, 0 to 180 degrees."""
    return np.abs((after - before + 180.0) % 360.0 - 180.0)


def aligned(moving: Array, onto: Array) -> tuple[Array, Array, float]:
    """The rotation ``R`` and shift ``t`` that lay ``moving @ R.T + t`` on ``onto``, and the RMSD in Å.

    Kabsch, Acta Cryst. A 32, 922 (1976), without reflections.
    """
    start, end = moving.mean(axis=0), onto.mean(axis=0)
    left, _, right = np.linalg.svd((moving - start).T @ (onto - end))
    sign = np.sign(np.linalg.det(left @ right)) or 1.0
    rotation = (left @ np.diag([1.0, 1.0, sign]) @ right).T
    shift = end - start @ rotation.T
    off = moving @ rotation.T + shift - onto
    return rotation, shift, float(np.sqrt(np.einsum("ix,ix->", off, off) / len(off)))


def shift_of(ligand: Ligand, before: Array, after: Array) -> float:
    """RMSD in Å of the heavy atoms between two geometries laid on each other, atom on atom."""
    return aligned(after[ligand.heavy], before[ligand.heavy])[2]


def best_overlay(ligand: Ligand, moving: Array, onto: Array) -> tuple[Array, float, dict[int, int]]:
    """Lay a geometry on another; equivalent atoms may take each other's places.

    Returns:
        The positions of ``moving`` laid on ``onto``, the RMSD of the heavy atoms in Å, and for each heavy
        atom of ``onto`` the one of ``moving`` that lies on it.
    """
    from rdkit.Chem import rdMolAlign

    chemistry = rdkit_chem()
    bare = len(ligand.heavy) > 1 and bool((ligand.numbers[ligand.heavy] > 1).all())
    with _quiet():
        both = ligand.at(moving, onto)
        both = chemistry.RemoveAllHs(both) if bare else both
        _, _, pairs = rdMolAlign.GetBestAlignmentTransform(
            both, both, prbCid=0, refCid=1, maxMatches=_MATCHES
        )
    place = [int(ligand.heavy[k]) for k in range(both.GetNumAtoms())] if bare else list(range(len(moving)))
    probes, references = [place[p] for p, _ in pairs], [place[r] for _, r in pairs]
    rotation, shift, rmsd = aligned(moving[probes], onto[references])
    return moving @ rotation.T + shift, rmsd, dict(zip(references, probes, strict=True))


def _check_lengths(molecule: Any) -> None:
    """Refuse coordinates in another unit, or an atom that is elsewhere: a relaxation would mend them.

    Raises:
        StructureError: A bond is far too long.
    """
    from ase.data import covalent_radii

    positions = np.array(molecule.GetConformer().GetPositions())
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        length = float(np.linalg.norm(positions[ends[0].GetIdx()] - positions[ends[1].GetIdx()]))
        if length > _LARGEST_GIVEN * sum(covalent_radii[atom.GetAtomicNum()] for atom in ends):
            names = "-".join(f"{atom.GetSymbol()}{atom.GetIdx() + 1}" for atom in ends)
            raise StructureError(f"its bond {names} is {length:.2f} Å long: check the coordinates.")


def _torsions(molecule: Any) -> tuple[Torsion, ...]:
    """One for each single bond outside rings between atoms that each have another heavy neighbour."""
    chemistry = rdkit_chem()
    found = []
    for bond in molecule.GetBonds():
        if bond.GetBondType() != chemistry.BondType.SINGLE or bond.IsInRing():
            continue
        left, right = bond.GetBeginAtom(), bond.GetEndAtom()
        ends = [_other_end(left, right), _other_end(right, left)]
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[0], left.GetIdx(), right.GetIdx(), ends[1]))
    return tuple(found)


def _ring_torsions(molecule: Any, smallest: int) -> tuple[Torsion, ...]:
    """One for each single bond that is not aromatic and whose smallest ring has so many atoms or more."""
    rings = molecule.GetRingInfo()
    found = {}
    for ring in sorted(rings.AtomRings(), key=len, reverse=True):
        for place in range(len(ring)):
            a, b, c, d = (ring[(place + k) % len(ring)] for k in range(4))
            bond = molecule.GetBondBetweenAtoms(b, c)
            single = bond.GetBondType() == rdkit_chem().BondType.SINGLE
            if single and rings.MinBondRingSize(bond.GetIdx()) >= smallest:
                found[bond.GetIdx()] = (a, b, c, d) if b < c else (d, c, b, a)
    return tuple(found[key] for key in sorted(found))


def _other_end(atom: Any, partner: Any) -> int | None:
    """The first heavy neighbour beside the partner; None where there is none or all lie on a line."""
    if any(bond.GetBondTypeAsDouble() > 2.5 for bond in atom.GetBonds()):
        return None
    others = [one.GetIdx() for one in atom.GetNeighbors() if one.GetAtomicNum() > 1]
    return min((place for place in others if place != partner.GetIdx()), default=None)


def _changed_bonds(ligand: Ligand, positions: Array) -> str | None:
    from ase.data import covalent_radii
    from scipy.spatial.distance import pdist, squareform

    numbers = ligand.numbers
    radii = np.asarray(covalent_radii)[numbers]
    ratio = squareform(pdist(positions)) / (radii[:, None] + radii)
    bonded = np.asarray(rdkit_chem().GetAdjacencyMatrix(ligand.molecule), dtype=bool)
    if (bonded & (ratio > _LARGEST_BOND)).any():
        return "a bond has broken"
    near = ~bonded & (ratio < _CLOSEST) & ~np.eye(len(numbers), dtype=bool)
    return "a bond has formed" if near.any() else None


def _quiet() -> Any:
    from rdkit import rdBase

    return rdBase.BlockLogs()

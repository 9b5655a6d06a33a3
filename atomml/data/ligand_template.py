"""Bond orders, charges and hydrogens of a ligand that has coordinates alone, from a template."""

from __future__ import annotations

from typing import Any

from atomml.data.force_fields import rdkit_chem
from atomml.errors import StructureError

__all__ = ["with_bonds_of"]

_MATCHES = 10_000  # symmetries of heavy atoms that are looked through where hydrogens are absent


def with_bonds_of(template: Any, molecule: Any) -> Any:
    """The molecule with the template's bond orders and charges, its atoms in their order; sanitised.

    Hydrogens that the molecule has decide which of several equivalent atoms is which (the O-H of an acid,
    the N-H of an imidazole); where there are none, the shorter bonds are the double ones.

    Args:
        template: Without hydrogens.
        molecule: One conformer, bonds between atoms that are joined, any or all of its hydrogens.

    Raises:
        StructureError: It is not what the template says.
    """
    chemistry = rdkit_chem()
    heavy = sum(atom.GetAtomicNum() > 1 for atom in molecule.GetAtoms())
    if heavy != template.GetNumHeavyAtoms():
        raise StructureError(f"It has {heavy} heavy atoms, and the template {template.GetNumHeavyAtoms()}.")
    found = _skeleton(molecule)
    whole = chemistry.AddHs(template)
    if found.GetNumAtoms() == whole.GetNumAtoms():
        places = found.GetSubstructMatch(_skeleton(whole))
    else:
        whole = chemistry.Mol(template)
        places = _best_match(found, whole)
    if not places:
        raise StructureError("Its atoms or hydrogens are not joined as those of the template.")
    for bond in whole.GetBonds():
        here = found.GetBondBetweenAtoms(places[bond.GetBeginAtomIdx()], places[bond.GetEndAtomIdx()])
        here.SetBondType(bond.GetBondType())
        here.SetIsAromatic(bond.GetIsAromatic())
    for atom in whole.GetAtoms():
        here = found.GetAtomWithIdx(places[atom.GetIdx()])
        here.SetFormalCharge(atom.GetFormalCharge())
        here.SetIsAromatic(atom.GetIsAromatic())
        here.SetNumRadicalElectrons(atom.GetNumRadicalElectrons())
        here.SetIsotope(atom.GetIsotope())
        here.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - _hydrogens(here)))
    chemistry.SanitizeMol(found)
    chemistry.AssignStereochemistryFrom3D(found)
    if not found.HasSubstructMatch(template, useChirality=True):
        raise StructureError(
            "Its stereochemistry is not that of the template: leave it out there to go by the coordinates."
        )
    return found


def _skeleton(molecule: Any) -> Any:
    """The same atoms, joined by single bonds and without charges."""
    chemistry = rdkit_chem()
    found = chemistry.Mol(molecule)
    for bond in found.GetBonds():
        bond.SetBondType(chemistry.BondType.SINGLE)
        bond.SetIsAromatic(False)
        bond.SetStereo(chemistry.BondStereo.STEREONONE)
    for atom in found.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetIsAromatic(False)
        atom.SetNumRadicalElectrons(0)
        atom.SetIsotope(0)
        atom.SetChiralTag(chemistry.ChiralType.CHI_UNSPECIFIED)
    return found


def _best_match(molecule: Any, template: Any) -> tuple[int, ...]:
    """Places of the template's atoms, no atom with more hydrogens than there; short bonds are double."""
    positions = molecule.GetConformer().GetPositions()
    most = [atom.GetTotalNumHs() for atom in template.GetAtoms()]
    have = [_hydrogens(atom) for atom in molecule.GetAtoms()]
    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble())
        for bond in template.GetBonds()
    ]

    def unlikely(places: tuple[int, ...]) -> float:
        """Lengths of the bonds, those of higher order counting more."""
        apart = (positions[places[a]] - positions[places[b]] for a, b, _ in bonds)
        return float(sum(order * (x @ x) ** 0.5 for x, (_, _, order) in zip(apart, bonds, strict=True)))

    matches = molecule.GetSubstructMatches(_skeleton(template), uniquify=False, maxMatches=_MATCHES)
    fitting = [m for m in matches if all(have[p] <= limit for p, limit in zip(m, most, strict=True))]
    return min(fitting, key=unlikely, default=())


def _hydrogens(atom: Any) -> int:
    """Hydrogens that are atoms of their own."""
    return sum(one.GetAtomicNum() == 1 for one in atom.GetNeighbors())

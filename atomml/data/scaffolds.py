"""Scaffolds of molecules, from their geometry: rings and what links them (Bemis and Murcko 1996)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atomml.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["scaffold"]


def scaffold(atoms: Atoms, where: str = "structure") -> str:
    """The Murcko scaffold as SMILES of the heavy atoms' connectivity, without bond orders.

    A molecule without rings has no scaffold and is its own: so its conformers stay together, and
    chains aren't all thrown into one. Bonds are those of RDKit's DetermineConnectivity; bond
    orders, which need the charge and may fail, are not asked for. (J. Med. Chem. 39, 2887, 1996)

    Args:
        atoms: A molecule.
        where: What to call it in errors.

    Raises:
        InputError: It is periodic, or its bonds cannot be found.
        MissingExtraError: RDKit is not installed.
    """
    if atoms.pbc.any():
        raise InputError(f"{where} is periodic and has no scaffold: split by composition or trajectory.")
    try:
        from rdkit import Chem
        from rdkit.Chem.Scaffolds import MurckoScaffold
        from rdkit.rdBase import BlockLogs
    except ImportError as error:
        raise MissingExtraError.for_extra("rdkit", "rdkit") from error
    with BlockLogs():
        try:
            skeleton = _skeleton(atoms, Chem)
            murcko: Any = MurckoScaffold.GetScaffoldForMol
            core = murcko(skeleton) if _has_rings(skeleton) else skeleton
            return Chem.MolToSmiles(core)
        except Exception as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{where}: its bonds cannot be found ({reason}): split by composition."
            ) from error


def _has_rings(molecule: Any) -> bool:
    return molecule.GetRingInfo().NumRings() > 0


def _skeleton(atoms: Atoms, Chem: Any) -> Any:
    """Heavy atoms and single bonds between them, without hydrogens or charges."""
    from rdkit.Chem import rdDetermineBonds

    lines = [
        f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    molecule = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines]) + "\n")
    rdDetermineBonds.DetermineConnectivity(molecule)
    heavy = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() > 1]
    kept = heavy or list(range(molecule.GetNumAtoms()))
    places = {index: place for place, index in enumerate(kept)}
    skeleton = Chem.RWMol()
    for index in kept:
        atom = Chem.Atom(molecule.GetAtomWithIdx(index).GetAtomicNum())
        atom.SetNoImplicit(True)
        skeleton.AddAtom(atom)
    for bond in molecule.GetBonds():
        begin, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if begin in places and end in places:
            skeleton.AddBond(places[begin], places[end], Chem.BondType.SINGLE)
    found = skeleton.GetMol()
    found.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(found)
    return found

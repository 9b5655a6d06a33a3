"""Hydrogens that a pose came without: added, turned to where their force field is lowest, all else held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import rdkit_chem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["with_hydrogens"]

_ROUNDS, _ANGLES = 2, 12
_Group = tuple[int, list[int], list[int]]  # an atom, its heavy neighbours, its hydrogens that were added


def with_hydrogens(molecule: Any) -> tuple[Any, int]:
    """The molecule with all hydrogens, and how many were added.

    Where RDKit puts the hydrogen of an acid or an alcohol says nothing about the pose and may cost more than
    10 kcal/mol. Each group that turns with added hydrogens alone, and each amine that they can invert, is set
    to the best of its positions by MMFF94s, then the added ones are minimised. UFF stands in where there are
    no parameters.

    Args:
        molecule: A pose in 3D; its own atoms keep their places and their order.
    """
    chemistry = rdkit_chem()
    complete = chemistry.AddHs(molecule, addCoords=True)
    before, after = molecule.GetNumAtoms(), complete.GetNumAtoms()
    field = _field(moving := chemistry.Mol(complete)) if after > before else None
    if field is None:
        return complete, after - before
    field.Initialize()

    def energy(positions: Array) -> float:
        """Of the force field, kcal/mol."""
        return float(field.CalcEnergy(positions.ravel().tolist()))

    groups = _groups(complete, before)
    start = np.array(complete.GetConformer().GetPositions())
    over = start
    for group in groups:
        over = list(_turns(over, group))[-1] if len(group[1]) == 2 else over
    tries = ((x, order) for x in (start, over) for order in (groups, groups[::-1]))
    positions = min((_turned(x, order, energy) for x, order in tries), key=energy)
    moving.GetConformer().SetPositions(positions)
    field.Initialize()
    for place in range(before):
        field.AddFixedPoint(place)
    field.Minimize(maxIts=500)
    complete.GetConformer().SetPositions(moving.GetConformer().GetPositions())
    return complete, after - before


def _turned(positions: Array, groups: list[_Group], energy: Callable[[Array], float]) -> Array:
    """Each group in turn to the best of its positions, several times over."""
    for _ in range(_ROUNDS):
        for group in groups:
            positions = min(_turns(positions, group), key=energy)
    return positions


def _field(molecule: Any) -> Any:
    """MMFF94s, else UFF, else None; MMFF94s leaves its own notion of aromaticity in the molecule."""
    from rdkit.Chem import rdForceFieldHelpers

    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule, mmffVariant="MMFF94s")
    if properties is not None:
        return rdForceFieldHelpers.MMFFGetMoleculeForceField(molecule, properties)
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        return rdForceFieldHelpers.UFFGetMoleculeForceField(molecule)
    return None


def _groups(molecule: Any, before: int) -> list[_Group]:
    """Ends of the molecule with added hydrogens alone, and nitrogens between two atoms with one.

    In canonical order, so that the best positions do not depend on how a file numbers its atoms.
    """
    ranks = list(rdkit_chem().CanonicalRankAtoms(molecule))
    found: list[_Group] = []
    for atom in molecule.GetAtoms():
        around = [one.GetIdx() for one in atom.GetNeighbors()]
        added = [place for place in around if place >= before]
        held = [place for place in around if place < before]
        turns = len(held) == 1 and molecule.GetAtomWithIdx(held[0]).GetDegree() > 1
        inverts = len(held) == 2 and len(added) == 1 and atom.GetAtomicNum() == 7
        if added and (turns or inverts):
            found.append((atom.GetIdx(), held, added))
    return sorted(found, key=lambda group: ranks[group[0]])


def _turns(positions: Array, group: _Group) -> Iterator[Array]:
    """The positions with the group's hydrogens turned about its bond, or on the other side of their plane."""
    atom, held, hydrogens = group
    arms = positions[hydrogens] - positions[atom]
    yield positions
    if len(held) == 2:
        normal = np.cross(positions[held[0]] - positions[atom], positions[held[1]] - positions[atom])
        normal /= np.linalg.norm(normal)
        options = [arms - 2.0 * np.outer(arms @ normal, normal)]
    else:
        axis = positions[atom] - positions[held[0]]
        axis /= np.linalg.norm(axis)
        along = np.outer(arms @ axis, axis)
        angles = 2.0 * np.pi * np.arange(1, _ANGLES) / _ANGLES
        options = [along + np.cos(a) * (arms - along) + np.sin(a) * np.cross(axis, arms) for a in angles]
    for option in options:
        moved = positions.copy()
        moved[hydrogens] = positions[atom] + option
        yield moved

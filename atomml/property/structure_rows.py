"""Descriptors of structure: density, symmetry, shells of neighbours, and how atoms differ from theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, covalent_radii
from numpy.typing import NDArray

from atomml.data.fingerprint import N_FEATURES, structure_fingerprint
from atomml.data.symmetry import symmetry_dataset
from atomml.property.composition_rows import MAGPIE
from atomml.property.nearest import nearest_graph

__all__ = ["structure_names", "structure_row"]

Floats = NDArray[np.float64]

_NEAREST = 1.25  # times the nearest neighbour's distance: the first shell, loosely
_AMU_PER_A3 = 1.66053906660  # g/cm3; CODATA 2018
_SYSTEMS = ((2, 1), (15, 2), (74, 3), (142, 4), (167, 5), (194, 6), (230, 7))  # last group of each system
_STATISTICS = ("mean", "std", "min", "max")
_PLAIN = (
    "density",
    "volume per atom",
    "packing fraction",
    "space group",
    "crystal system",
    "centrosymmetric",
    "point operations",
    "structural complexity per atom",
)
_SHELL = ("nearest distance", "nearest distance over radii", "first shell", "spread of bond lengths")
_ANGLES = ("mean cosine", "mean squared cosine", "spread of cosines")


def structure_names() -> list[str]:
    """Names of the descriptors, in order."""
    shells = [f"{statistic} {name}" for name in _SHELL for statistic in _STATISTICS]
    local = [f"{statistic} neighbour difference of {name}" for name in MAGPIE for statistic in _STATISTICS]
    return [*_PLAIN, *shells, *_ANGLES, *local, *(f"fingerprint {k}" for k in range(N_FEATURES))]


def structure_row(atoms: Atoms, table: Floats, radii: Floats, where: str = "structure") -> Floats:
    """``(n,)`` descriptors, equal for any cell of a crystal; NaN for what a molecule has not.

    Density, volume per atom, packing fraction, symmetry and structural complexity (Krivovichev, Angew.
    Chem. 53, 654, 2014) are those of matminer; differences of elemental properties between an atom and its
    first shell follow Ward et al., Phys. Rev. B 96, 024104 (2017), with shells in place of Voronoi faces.

    Args:
        atoms: The structure.
        table: Elemental properties, as :func:`~atomml.property.composition_rows.magpie_table` gives them.
        radii: ``(119,)`` atomic radii, Å, for the packing fraction.
        where: What to call the structure in an error.

    Raises:
        StructureError: A structure that no model can take.
    """
    bonds = _bonds(atoms, where)
    parts = [_plain(atoms, radii), _shells(atoms, bonds), _angles(bonds), _differences(atoms, bonds, table)]
    return np.concatenate([*parts, structure_fingerprint(atoms)])


class _Bonds(NamedTuple):
    """First shells: ``(n,)`` centre, neighbour and length, ``(n, 3)`` unit vectors, nearest distances."""

    centre: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    length: Floats
    vectors: Floats
    nearest: Floats


def _bonds(atoms: Atoms, where: str) -> _Bonds:
    graph = nearest_graph(atoms, 12, 8.0, where)
    centre, neighbour = graph.edge_index.numpy()
    vectors = graph.edge_vectors().numpy()
    length = np.linalg.norm(vectors, axis=1)
    nearest = np.full(len(atoms), np.inf)
    np.minimum.at(nearest, centre, length)
    first = length <= _NEAREST * nearest[centre]
    unit = vectors[first] / length[first, None]
    return _Bonds(centre[first], neighbour[first], length[first], unit, nearest)


def _plain(atoms: Atoms, radii: Floats) -> Floats:
    row = np.full(len(_PLAIN), np.nan)
    if not atoms.pbc.all():
        return row
    volume = abs(float(atoms.cell.volume))
    row[0] = atomic_masses[atoms.numbers].sum() / volume * _AMU_PER_A3
    row[1] = volume / len(atoms)
    row[2] = 4.0 / 3.0 * np.pi * (radii[atoms.numbers] ** 3).sum() / volume
    row[3:] = _symmetry(atoms)
    return row


def _symmetry(atoms: Atoms) -> Floats:
    """Group, system, inversion, operations that are no translations, and bits per atom."""
    found = symmetry_dataset(atoms, 0.01)
    if found is None:
        return np.full(5, np.nan)
    rotations = np.asarray(found.rotations)
    same = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2)).sum()
    inversion = (rotations == -np.eye(3, dtype=int)).all(axis=(1, 2)).any()
    system = next(place for last, place in _SYSTEMS if found.number <= last)
    share = np.unique(found.crystallographic_orbits, return_counts=True)[1] / len(atoms)
    complexity = -(share * np.log2(share)).sum()
    return np.array([found.number, system, float(inversion), len(rotations) / same, complexity])


def _shells(atoms: Atoms, bonds: _Bonds) -> Floats:
    n = len(atoms)
    count = np.bincount(bonds.centre, minlength=n).astype(np.float64)
    radius = covalent_radii[atoms.numbers]
    ratio = np.full(n, np.inf)
    np.minimum.at(ratio, bonds.centre, bonds.length / (radius[bonds.centre] + radius[bonds.neighbour]))
    alone = count == 0
    nearest, ratio = np.where(alone, np.nan, bonds.nearest), np.where(alone, np.nan, ratio)
    mean = _mean_of_bonds(bonds.length, bonds.centre, count)
    squared = _mean_of_bonds((bonds.length - mean[bonds.centre]) ** 2, bonds.centre, count)
    return np.concatenate([_statistics(one) for one in (nearest, ratio, count, np.sqrt(squared))])


def _angles(bonds: _Bonds) -> Floats:
    """Of all pairs of bonds of one atom, over all atoms."""
    cosines = []
    for atom in np.unique(bonds.centre):
        own = bonds.vectors[bonds.centre == atom]
        cosines.append((own @ own.T)[np.triu_indices(len(own), k=1)])
    every = np.concatenate(cosines) if cosines else np.empty(0)
    if not len(every):
        return np.full(len(_ANGLES), np.nan)
    return np.array([every.mean(), (every**2).mean(), every.std()])


def _differences(atoms: Atoms, bonds: _Bonds, table: Floats) -> Floats:
    values = table[atoms.numbers]
    off = np.abs(values[bonds.centre] - values[bonds.neighbour])
    count = np.bincount(bonds.centre, minlength=len(atoms)).astype(np.float64)
    means = [_mean_of_bonds(off[:, k], bonds.centre, count) for k in range(values.shape[1])]
    return np.concatenate([_statistics(one) for one in means])


def _mean_of_bonds(values: Floats, centre: NDArray[np.int64], count: Floats) -> Floats:
    total = np.bincount(centre, values, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _statistics(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(_STATISTICS), np.nan)
    return np.array([known.mean(), known.std(), known.min(), known.max()])

"""Refuse structures that no model can take, once, at the border; each with one sentence.

The checks come in two parts. :func:`check_arrays` looks at shapes, numbers, finiteness and
the cell in time linear in the atoms, a few microseconds; molecular dynamics can afford it at
each step. :func:`check_distances` looks for coincident atoms with a k-d tree, some
milliseconds for thousands of atoms. :func:`validate_atoms` does both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from atomml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "MIN_DISTANCE",
    "check_arrays",
    "check_distances",
    "check_finite",
    "closest_pair",
    "validate_atoms",
]

MIN_DISTANCE = 0.1
"""Å; atoms closer than this are one atom given twice.

The shortest bond of all is 0.74 Å (H2); nuclei of hydrogen at 10,000 K meet at about 0.4 Å, and
curves of dissociation start near 0.3 Å. Duplicates, on the other hand, come from rounded
symmetry operations and merged files and differ by less than 0.05 Å.
"""

LARGEST_COORDINATE = 1e6
"""Å; beyond it (0.1 mm) float64 keeps fewer than ten decimals, and no simulation is that large."""

_REACH = 6.0  # Å, the cutoff for which the cost of a neighbour search is estimated
_MOST_IMAGES = 100_000  # images of the cell within reach; a cubic cell of 0.27 Å has as many
_MOST_NEIGHBOURS = 10_000  # within reach; diamond has 160, metallic hydrogen at 5 TPa some 2,000
_FLATTEST = 1e-6  # volume over the product of edge lengths; below it the cell vectors lie in a plane


def validate_atoms(atoms: Atoms, where: str = "structure") -> None:
    """Refuse what no model can take.

    Args:
        atoms: The structure.
        where: What to call it in the error: a file and a frame.

    Raises:
        StructureError: No atoms, wrong shapes, elements that do not exist, NaN or infinity, a flat
            or absurdly small periodic cell, or coincident atoms; names the atom and its element.
    """
    check_arrays(atoms, where)
    check_distances(atoms, where)


def check_arrays(atoms: Atoms, where: str = "structure") -> None:
    """The checks that cost little: shapes, elements, finite numbers, a sound cell.

    Raises:
        StructureError: As :func:`validate_atoms`, but for coincident atoms.
    """
    _check_shapes(atoms, where)
    numbers = atoms.numbers
    check_finite(atoms.positions, numbers, where)
    for name, unit in (("momenta", "momentum"), ("masses", "mass"), ("initial_charges", "charge")):
        if name in atoms.arrays:
            _check_finite_rows(atoms.arrays[name], numbers, unit, where)
    if "masses" in atoms.arrays and (atoms.arrays["masses"] <= 0).any():
        atom = int(np.argmax(atoms.arrays["masses"] <= 0))
        raise StructureError(
            f"{where}: {_name(atom, numbers)} has a mass that is not positive: give a mass in u, or none."
        )
    _check_cell(atoms, where)


def check_finite(positions: NDArray[np.float64], numbers: NDArray[Any], where: str = "structure") -> None:
    """Refuse positions that are NaN, infinite or farther than 0.1 mm from the origin.

    Args:
        positions: ``(n_atoms, 3)`` Å.
        numbers: ``(n_atoms,)`` atomic numbers, for the error.
        where: What to call the structure.

    Raises:
        StructureError: Names the first such atom.
    """
    if (np.abs(positions) <= LARGEST_COORDINATE).all():  # False for NaN too
        return
    _check_finite_rows(positions, numbers, "position", where)
    atom = int(np.argmax((np.abs(positions) > LARGEST_COORDINATE).any(axis=1)))
    raise StructureError(
        f"{where}: {_name(atom, numbers)} is more than {LARGEST_COORDINATE:.0e} Å from the origin: "
        "check the units of the positions."
    )


def check_distances(atoms: Atoms, where: str = "structure", minimum: float = MIN_DISTANCE) -> None:
    """Refuse atoms closer than ``minimum`` (Å), periodic images included.

    Raises:
        StructureError: Names both atoms and their distance.
    """
    pair = closest_pair(atoms, minimum)
    if pair is None:
        return
    first, second, distance = pair
    image = "its own periodic image" if first == second else _name(second, atoms.numbers)
    raise StructureError(
        f"{where}: {_name(first, atoms.numbers)} and {image} are {distance:.3g} Å apart, "
        f"closer than {minimum:g} Å: remove the duplicate or mend the positions."
    )


def closest_pair(atoms: Atoms, below: float) -> tuple[int, int, float] | None:
    """The two atoms that are closest to each other, if closer than ``below`` (Å).

    Returns:
        The atoms' indices, lower first, and their distance; None if all are farther apart.
        ``below`` must be at most the distance between opposite faces of the cell for periodic
        images to be seen.
    """
    from scipy.spatial import cKDTree

    points, owner = _with_images(atoms, below)
    if len(points) < 2:
        return None
    distances, others = cKDTree(points).query(points, k=2, distance_upper_bound=below)
    # of coincident points either may come first; the one that is not the point itself counts
    itself = others[:, 1] == np.arange(len(points))
    other = np.where(itself, others[:, 0], others[:, 1])
    point = int(np.argmin(distances[:, 1]))
    if not distances[point, 1] < below:
        return None
    first, second = sorted((int(owner[point]), int(owner[other[point]])))
    return first, second, float(distances[point, 1])


def _with_images(atoms: Atoms, margin: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Atoms wrapped into the cell, and images of those within ``margin`` of a lower face.

    Two atoms that meet across a face, an edge or a corner are neighbours among these points:
    each is moved up along the axes along which it is the lower of the two.
    """
    positions = np.asarray(atoms.positions, dtype=np.float64)
    owner = np.arange(len(positions))
    if not atoms.pbc.any():
        return positions, owner
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    inverse = np.linalg.pinv(vectors)  # in a slab or chain, the other directions have no fraction
    fractions = positions @ inverse
    whole = np.floor(fractions)
    positions, fractions = positions - whole @ vectors, fractions - whole
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    for axis in range(len(vectors)):
        near = fractions[:, axis] * heights[axis] < margin
        positions = np.concatenate([positions, positions[near] + vectors[axis]])
        fractions = np.concatenate([fractions, fractions[near]])
        owner = np.concatenate([owner, owner[near]])
    return positions, owner


def _check_shapes(atoms: Atoms, where: str) -> None:
    arrays = atoms.arrays
    n_atoms = len(arrays["numbers"])
    if n_atoms == 0:
        raise StructureError(f"{where}: there are no atoms: give a structure with at least one.")
    for name, array in arrays.items():
        if len(array) != n_atoms:
            raise StructureError(
                f"{where}: {name} has {len(array)} rows for {n_atoms} atoms: give one row for each atom."
            )
    positions = arrays["positions"]
    if positions.shape != (n_atoms, 3) or positions.dtype.kind not in "fiu":
        raise StructureError(
            f"{where}: positions have shape {positions.shape} and type {positions.dtype}: "
            f"give {n_atoms} rows of 3 real numbers."
        )
    numbers = arrays["numbers"]
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise StructureError(f"{where}: atomic numbers are {numbers.dtype}: give one integer for each atom.")
    unknown = (numbers < 1) | (numbers > 118)
    if unknown.any():
        atom = int(np.argmax(unknown))
        raise StructureError(
            f"{where}: atom {atom} has atomic number {int(numbers[atom])}, which no element has: "
            "give a real element (1 to 118) or remove the dummy atom."
        )


def _check_finite_rows(array: NDArray[Any], numbers: NDArray[Any], what: str, where: str) -> None:
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        atom = int(np.argmax(bad))
        raise StructureError(
            f"{where}: the {what} of {_name(atom, numbers)} is not finite "
            f"({_numbers(array[atom])}): mend or remove that atom."
        )


def _check_cell(atoms: Atoms, where: str) -> None:
    cell = np.asarray(atoms.cell)
    if cell.shape != (3, 3) or not np.isfinite(cell).all():
        raise StructureError(
            f"{where}: the cell is not finite ({_numbers(cell)}): give nine real numbers in Å."
        )
    if np.abs(cell).max() > LARGEST_COORDINATE:
        raise StructureError(
            f"{where}: a cell vector is longer than {LARGEST_COORDINATE:.0e} Å: check the cell's units."
        )
    vectors = cell[atoms.pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths == 0).any():
        axis = int(np.flatnonzero(atoms.pbc)[np.argmax(lengths == 0)])
        raise StructureError(
            f"{where}: it is periodic along {'abc'[axis]}, where the cell vector is zero: "
            "give the cell vector or switch pbc off."
        )
    _check_cost(len(atoms), atoms.positions, vectors, lengths, where)


def _check_cost(
    n_atoms: int,
    positions: NDArray[np.float64],
    vectors: NDArray[np.float64],
    lengths: NDArray[np.float64],
    where: str,
) -> None:
    """Refuse periodic vectors that are dependent, or so small that neighbours cannot be counted."""
    n_periodic = len(vectors)
    cluster = min(1.0, _sphere(3) / _box(positions))  # as if all atoms there were lay in their bounding box
    if n_periodic == 0:
        _check_crowd(n_atoms * cluster, where)
        return
    directions = vectors / lengths[:, None]
    solidity = math.sqrt(max(0.0, float(np.linalg.det(directions @ directions.T))))
    if solidity < _FLATTEST:
        raise StructureError(
            f"{where}: the periodic cell has no volume (its vectors lie in one plane or line): "
            "give independent cell vectors or switch pbc off."
        )
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)
    images = float(np.prod(2.0 * np.ceil(_REACH / heights) + 1.0))
    if images > _MOST_IMAGES:
        raise StructureError(
            f"{where}: the periodic cell is only {heights.min():.3g} Å thick, too thin to count neighbours: "
            "check that its vectors are in Å."
        )
    measure = solidity * float(np.prod(lengths))
    across = np.linalg.svd(vectors)[2][n_periodic:]  # directions in which nothing repeats
    thick = float(np.prod(np.maximum(np.ptp(positions @ across.T, axis=0), 1.0)))
    repeated = min(_sphere(n_periodic) / measure, _sphere(3) / (measure * thick))
    _check_crowd(n_atoms * max(cluster, repeated), where)


def _check_crowd(neighbours: float, where: str) -> None:
    if neighbours > _MOST_NEIGHBOURS and math.isfinite(neighbours):
        raise StructureError(
            f"{where}: about {neighbours:.0f} neighbours within {_REACH:g} Å of an atom are more than matter "
            "has: check that positions and cell are in Å."
        )


def _sphere(dimensions: int) -> float:
    """Length, area or volume within reach."""
    return {1: 2.0 * _REACH, 2: math.pi * _REACH**2, 3: 4.0 / 3.0 * math.pi * _REACH**3}[dimensions]


def _box(positions: NDArray[np.float64]) -> float:
    """Volume of the atoms' bounding box, Å³; sides below 1 Å count as 1 Å."""
    return float(np.prod(np.maximum(np.ptp(positions, axis=0), 1.0)))


def _name(atom: int, numbers: NDArray[Any]) -> str:
    return f"atom {atom} ({chemical_symbols[int(numbers[atom])]})"


def _numbers(array: NDArray[Any]) -> str:
    return ", ".join(f"{float(value):g}" for value in np.ravel(array)[:9])

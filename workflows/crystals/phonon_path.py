"""The standard band path of a primitive cell, and the modes on it that are imaginary."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["BandPath", "imaginary_modes", "standard_path"]

_SAME_FREQUENCY = 0.01  # THz, within which modes are one degenerate mode
_MOVES = 0.1  # part of a mode that an element must have to be named


class BandPath(NamedTuple):
    """Segments between corners of the Brillouin zone.

    ``text`` as ASE writes it, ``segments`` ``(n_points, 3)`` each, their two ``corners``, and the
    ``points`` by name; wave vectors in the primitive reciprocal cell.
    """

    text: str
    segments: list[Array]
    corners: list[tuple[str, str]]
    points: dict[str, Array]


def standard_path(cell: Array, points: int) -> BandPath:
    """The path of W. Setyawan and S. Curtarolo, Comput. Mater. Sci. 49, 299 (2010), found by ASE.

    Args:
        cell: ``(3, 3)`` primitive cell, Å.
        points: Points of each segment, both corners included.
    """
    from ase.cell import Cell
    from ase.dft.kpoints import parse_path_string

    # A relaxed cell keeps the symmetry of its lattice to some 1e-5 only.
    path = Cell(cell).bandpath(npoints=0, eps=1e-3)
    special = {name: np.array(q, dtype=np.float64) for name, q in path.special_points.items()}
    pairs = [pair for line in parse_path_string(path.path) for pair in pairwise(line)]
    segments = [np.linspace(special[start], special[end], points) for start, end in pairs]
    return BandPath(str(path.path), segments, pairs, special)


def imaginary_modes(
    phonopy: Any, path: BandPath, softest: Mapping[str, Array], tolerance: float
) -> list[dict[str, Any]]:
    """Wave vectors with imaginary modes beyond the tolerance, the softest first.

    Args:
        phonopy: phonopy's object with force constants.
        path: The band path, whose corners are looked at.
        softest: Other wave vectors ``(3,)`` by name, each looked at if it is softer than all before.
        tolerance: THz.
    """
    found: list[dict[str, Any]] = []
    corners = {("Γ" if name == "G" else name): q for name, q in path.points.items()}
    lowest = -tolerance
    for name, q in {**corners, **softest}.items():
        frequencies, vectors = _modes(phonopy, q)
        limit = lowest - _SAME_FREQUENCY if name in softest else -tolerance
        if frequencies.min() >= limit:
            continue
        lowest = min(lowest, float(frequencies.min()))
        same = np.flatnonzero(frequencies < frequencies.min() + _SAME_FREQUENCY)
        found.append(
            {
                "point": name,
                "q": [round(float(x), 6) for x in q],
                "frequency_THz": float(frequencies.min()),
                "n_modes": int((frequencies < -tolerance).sum()),
                "move": _movers(phonopy, vectors[:, same]),
            }
        )
    return sorted(found, key=lambda row: float(row["frequency_THz"]))


def _modes(phonopy: Any, q: Array) -> tuple[Array, Any]:
    """Frequencies in THz, imaginary ones negative, and eigenvectors as columns."""
    found = phonopy.run_qpoints([q], with_eigenvectors=True)
    return np.asarray(found.frequencies[0]), np.asarray(found.eigenvectors[0])


def _movers(phonopy: Any, vectors: Any) -> str:
    """Elements that take part in the modes, the most moved first."""
    symbols = np.array(phonopy.primitive.symbols)
    share = (np.abs(vectors) ** 2).sum(axis=1).reshape(-1, 3).sum(axis=1)
    parts = {str(symbol): float(share[symbols == symbol].sum() / share.sum()) for symbol in set(symbols)}
    return " ".join(symbol for symbol, part in sorted(parts.items(), key=lambda p: -p[1]) if part > _MOVES)

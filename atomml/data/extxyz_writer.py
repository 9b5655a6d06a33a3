"""Extended XYZ that reads back with the same bits, here and in ASE.

Floats are written with the shortest digits that give them back; what would be mistaken for
something else (the text ``"123"``, an array of one number) is written as JSON; names that ASE
would take for a result, or fail on, are changed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.key_values import MATRIX_KEYS, VERBATIM_KEYS, format_pair
from atomml.files import write_atomic_with

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["extxyz_frame", "write_structures"]

_log = logging.getLogger(__name__)

_ATOM_RESULTS = ("forces", "stresses", "charges", "magmoms", "energies", "born_effective_charges")
_TOTAL_RESULTS = ("energy", "free_energy", "stress", "magmom", "dipole", "polarization", "dielectric_tensor")
_OWN_COLUMNS = ("numbers", "positions", "symbols", "species", "pos", "Z", "charge", "move_mask")
_OWN_KEYS = ("lattice", "properties", "pbc")


def write_structures(path: Path, structures: Iterable[Atoms]) -> None:
    """Write structures, with their calculators' stored results, to an extended XYZ file, atomically."""

    def write(stream: Any) -> None:
        """Each structure as a frame."""
        for atoms in structures:
            stream.write(extxyz_frame(atoms).encode())

    write_atomic_with(Path(path), write)


def extxyz_frame(atoms: Atoms, results: Mapping[str, Any] | None = None) -> str:
    """One frame of extended XYZ, ASCII, ending in a newline; the same text for the same content.

    Arrays of more than two axes are written as flat columns; single precision is written as the
    double that equals it. Values that JSON cannot hold are left out with a warning in the log.

    Args:
        atoms: The structure, with its arrays, ``info`` and fixed atoms.
        results: What a calculator gives (``energy``, ``forces``, ``stress`` as 6 or 3x3, ``magmoms``
            ...) and further arrays or values; None takes what the atoms' calculator has stored.
    """
    if results is None:
        results = getattr(atoms.calc, "results", None) or {}
    n_atoms = len(atoms)
    given = {name: value for name, value in results.items() if value is not None}
    per_atom = {name: np.asarray(v) for name, v in given.items() if _is_per_atom(name, v, n_atoms)}
    total = {name: value for name, value in given.items() if name not in per_atom}
    columns = _columns(atoms, per_atom)
    properties = ":".join(f"{name}:{kind}:{len(parts)}" for name, kind, parts in columns)
    pairs = [f"Properties={properties}", *_pairs(atoms.info, total, n_atoms)]
    if atoms.cell.any():
        pairs.insert(0, format_pair("Lattice", np.asarray(atoms.cell).T))
    pairs.append('pbc="' + " ".join("T" if periodic else "F" for periodic in atoms.pbc) + '"')
    rows = zip(*(part for _, _, parts in columns for part in parts), strict=True)
    return "\n".join([str(n_atoms), " ".join(pairs), *(" ".join(row) for row in rows)]) + "\n"


def _is_per_atom(name: str, value: Any, n_atoms: int) -> bool:
    if name in _TOTAL_RESULTS:
        return False
    return name in _ATOM_RESULTS or (np.ndim(value) > 0 and len(value) == n_atoms)


_Column = tuple[str, str, list[list[str]]]


def _columns(atoms: Atoms, results: dict[str, np.ndarray[Any, Any]]) -> list[_Column]:
    """Name, type and the written words of each column."""
    columns: list[_Column] = [("species", "S", [list(atoms.symbols)])]
    columns.append(("pos", *_words(np.asarray(atoms.positions, dtype=float))))
    movable = _move_mask(atoms)
    if movable is not None:
        columns.append(("move_mask", *_words(movable)))
    taken = {"species", "pos", "pos0", "pos1", "pos2", "move_mask"}
    own = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    named = [(name, array, False) for name, array in results.items()]
    named += [(name, array, name in results or name in _OWN_COLUMNS) for name, array in own.items()]
    for name, array, clash in named:
        if array.size == 0:
            continue
        kind, parts = _words(array.reshape(len(atoms), -1))
        if any(not word or re.search(r"\s", word) or not word.isascii() for part in parts for word in part):
            _log.warning("array %s holds text that extended XYZ cannot hold; it is not written", name)
            continue
        label = _free_name(name, len(parts), taken, clash=clash)
        columns.append((label, kind, parts))
    return columns


def _free_name(name: str, width: int, taken: set[str], *, clash: bool) -> str:
    """A column's name that no other column has; ASE numbers the parts of a wide one, forces0 and so on."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", f"atoms_{name}" if clash else name) or "column"
    while True:
        names = {label, *(f"{label}{i}" for i in range(width if width > 1 else 0))}
        if not names & taken:
            taken |= names
            return label
        label += "_"


def _words(array: np.ndarray[Any, Any]) -> tuple[str, list[list[str]]]:
    """Type letter and, for each column, its words."""
    columns = (array if array.ndim == 2 else array[:, None]).T
    kind = array.dtype.kind
    if kind == "b":
        return "L", [["T" if value else "F" for value in column] for column in columns.tolist()]
    if kind in "iu" and np.abs(array.astype(float)).max() < 2**31:  # ASE reads 32-bit integers
        return "I", [[str(value) for value in column] for column in columns.tolist()]
    if kind == "f":
        return "R", [[repr(value) for value in column] for column in columns.astype(float).tolist()]
    return "S", [[str(value) for value in column] for column in columns.tolist()]


def _move_mask(atoms: Atoms) -> np.ndarray[Any, Any] | None:
    """True where an atom or a coordinate may move; None where all may."""
    from ase.constraints import FixAtoms, FixCartesian

    movable = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            movable[constraint.index] = False
        elif isinstance(constraint, FixCartesian):
            movable[constraint.index] &= ~np.asarray(constraint.mask)
    if movable.all():
        return None
    whole = (movable == movable[:, :1]).all()
    return movable[:, 0] if whole else movable


def _pairs(info: Mapping[Any, Any], results: Mapping[str, Any], n_atoms: int) -> list[str]:
    pairs: list[str] = []
    taken: set[str] = set()
    for name, value in [*results.items(), *info.items()]:
        reserved = name in results and value is not results[name]
        label = _free_key(str(name), value, reserved, taken)
        if label == "stress":
            value = _full_stress(value)
        try:
            pairs.append(format_pair(label, value))
        except (TypeError, ValueError):
            text = getattr(value, "symbol", None)  # a space group, which ASE puts into info
            if isinstance(text, str):
                pairs.append(format_pair(label, text))
            else:
                _log.warning("info %s cannot be written as JSON; it is not written", name)
        taken.add(label)
    return pairs


def _free_key(name: str, value: Any, reserved: bool, taken: set[str]) -> str:
    label = re.sub(r"[^A-Za-z0-9_-]", "_", name) or "key"
    if reserved or label.lower() in _OWN_KEYS or _misread(label, value):
        label = f"info_{label}"
    while label in taken:
        label += "_"
    return label


def _misread(label: str, value: Any) -> bool:
    """Whether a reader would take this key for something that its value is not."""
    if label in VERBATIM_KEYS or label.lower() in VERBATIM_KEYS:
        return not isinstance(value, str) or not value.isprintable() or not value.isascii() or not value
    size = np.size(value) if _is_numeric(value) else 0
    if label == "stress":
        return size not in (6, 9)
    if label in MATRIX_KEYS:
        return size != 9
    wanted = {
        "energy": 1,
        "free_energy": 1,
        "magmom": None,
        "dipole": 3,
        "polarization": 3,
        "dielectric_tensor": 9,
    }
    if label in wanted:
        return size == 0 or (wanted[label] is not None and size != wanted[label])
    return False


def _is_numeric(value: Any) -> bool:
    try:
        array = np.asarray(value)
    except ValueError:
        return False
    return array.dtype.kind in "fi" and bool(np.isfinite(array).all())


def _full_stress(value: Any) -> np.ndarray[Any, Any]:
    """The 3x3 matrix of a stress in Voigt order (xx, yy, zz, yz, xz, xy) or of nine numbers."""
    stress = np.asarray(value, dtype=float)
    return stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]] if stress.size == 6 else stress.reshape(3, 3)

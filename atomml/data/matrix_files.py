"""Published sets of Hamiltonians: QH9's databases, and those of the MD17 molecules (SchNOrb's layout).

QH9 (Yu et al., NeurIPS 2023): SQLite, a table ``data`` with number, atoms, atomic numbers (int32), positions
(float64, Å) and matrix (float64, Hartree), the last three as raw bytes; B3LYP with VWN5 (PySCF calls it
``b3lyp5`` from 2.3 on) in def2-SVP, PySCF's order.

MD17 (Schütt et al., Nature Communications 10, 5024 (2019)): an ASE database whose rows hold ``hamiltonian``
and ``overlap`` in their data; PBE in def2-SVP by ORCA, whose p shells are z, x, y and whose d shells have the
orders 0, 1, -1, 2, -2.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.data.entry import Entry
from atomml.errors import FileFormatError
from atomml.graph.validate import validate_atoms

__all__ = ["QH9_METHOD", "SCHNORB_METHOD", "from_orca", "read_matrices"]

QH9_METHOD = "b3lyp5/def2-svp grid=3 source=qh9"
SCHNORB_METHOD = "pbe/def2-svp source=schnorb"

_SHELLS = {1: (0, 0, 1), 2: (0, 0, 1)} | dict.fromkeys(range(3, 11), (0, 0, 0, 1, 1, 2))
_ORCA = {0: (0,), 1: (1, 2, 0), 2: (4, 2, 0, 1, 3)}
"""Of each degree, where ORCA has the orbitals of PySCF's order."""

_TOLERANCE = 1e-5
"""Largest difference of an overlap matrix from the recomputed one; ORCA's is printed with about 1e-6."""


def read_matrices(path: str | Path) -> Iterator[Entry]:
    """The molecules of a file with their matrices, Hartree, in PySCF's order.

    Raises:
        FileFormatError: Neither layout, a damaged file, or an entry that does not fit its own molecule.
        StructureError: Positions that no molecule has. Both name the entry.
    """
    file = Path(path)
    if not file.is_file():
        raise FileFormatError(f"There is no file {path}: check the path.")
    tables = _tables(file)
    try:
        if {"systems", "species"} <= tables:
            yield from _schnorb(file)
        elif "data" in tables:
            yield from _qh9(file)
        else:
            raise FileFormatError(
                f"{path} is no database of QH9 or SchNOrb: it has no table of their matrices."
            )
    except sqlite3.DatabaseError as error:
        raise FileFormatError(f"{path} is damaged ({error}): take another copy of it.") from error


def _tables(file: Path) -> set[str]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {str(name) for (name,) in rows}
    except sqlite3.DatabaseError as error:
        raise FileFormatError(f"{file} is no SQLite database ({error}): check the file.") from error
    finally:
        connection.close()


def _qh9(file: Path) -> Iterator[Entry]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        for frame, row in enumerate(connection.execute("SELECT * FROM data")):
            where = f"{file}, frame {frame}"
            try:
                n = int(row[-4])
                numbers = np.frombuffer(row[-3], "<i4")
                positions = np.frombuffer(row[-2], "<f8").reshape(-1, 3)
                packed = np.frombuffer(row[-1], "<f8")
            except (TypeError, ValueError, IndexError) as error:
                raise FileFormatError(f"{where} is no row of QH9 ({error}): check the file.") from error
            if not n == len(numbers) == len(positions):
                raise FileFormatError(f"{where} says {n} atoms and holds {len(numbers)}: it is damaged.")
            yield _entry(Atoms(numbers, positions), packed, file, frame, QH9_METHOD)
    finally:
        connection.close()


def _schnorb(file: Path) -> Iterator[Entry]:
    from ase.db import connect

    for frame, row in enumerate(connect(str(file)).select()):
        where = f"{file}, frame {frame}"
        data: dict[str, Any] = dict(row.data)
        if "hamiltonian" not in data or "overlap" not in data:
            raise FileFormatError(f"{where} has no hamiltonian and overlap in its data: check the file.")
        atoms = Atoms(row.numbers, row.positions)
        matrix, overlap = (from_orca(np.asarray(data[key]), atoms) for key in ("hamiltonian", "overlap"))
        off = np.abs(overlap - _overlap(atoms)).max()
        if not off < _TOLERANCE:
            raise FileFormatError(
                f"{where}: its overlap matrix is off by {off:.1g} from that of def2-SVP in ORCA's order: it "
                "is of another basis set or program."
            )
        yield _entry(atoms, matrix.ravel(), file, frame, SCHNORB_METHOD)


def from_orca(matrix: NDArray[np.float64], atoms: Atoms) -> NDArray[np.float64]:
    """A matrix in def2-SVP from ORCA's order to PySCF's; what is of another size is given back as it is."""
    order: list[int] = []
    for number in atoms.numbers:
        for degree in _SHELLS.get(int(number), ()):
            start = len(order)
            order += [start + place for place in _ORCA[degree]]
    if matrix.shape != (len(order), len(order)):
        return matrix
    return np.asarray(matrix[np.ix_(order, order)], dtype=np.float64)


def _overlap(atoms: Atoms) -> NDArray[np.float64]:
    from atomml.electronic.orbital_levels import molecule_of

    return np.asarray(molecule_of(atoms, "def2-svp").intor_symmetric("int1e_ovlp"))


def _entry(atoms: Atoms, packed: NDArray[np.float64], file: Path, frame: int, method: str) -> Entry:
    """An entry whose matrix has the size that its molecule needs.

    Raises:
        FileFormatError: It has not, or is not symmetric.
    """
    where = f"{file}, frame {frame}"
    validate_atoms(atoms, where)
    n = sum(2 * degree + 1 for z in atoms.numbers for degree in _SHELLS.get(int(z), ()))
    if packed.size != n * n or any(int(z) not in _SHELLS for z in atoms.numbers):
        raise FileFormatError(
            f"{where} holds {packed.size} numbers, and {atoms.get_chemical_formula()} has {n} orbitals in "
            "def2-SVP: it is of another basis set, or damaged."
        )
    matrix = packed.astype(np.float64).reshape(n, n)
    if not np.abs(matrix - matrix.T).max() < 1e-5 or not np.isfinite(matrix).all():
        raise FileFormatError(f"{where}: its matrix is not symmetric: it is damaged.")
    matrix = 0.5 * (matrix + matrix.T)
    return Entry(atoms, source=str(file), frame=frame, method=method, matrices={"hamiltonian": matrix})

"""QH9's and SchNOrb's databases, made here in their layouts from matrices of PySCF."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from atomml.cli.main import main
from atomml.data.dataset import open_dataset
from atomml.data.matrix_files import QH9_METHOD, SCHNORB_METHOD, read_matrices
from atomml.electronic.orbital_levels import molecule_of
from atomml.errors import FileFormatError, StructureError

pytest.importorskip("pyscf")

ORCA_P, ORCA_D = [2, 0, 1], [2, 3, 1, 4, 0]
"""PySCF's places of ORCA's orbitals: z, x, y; and 0, 1, -1, 2, -2 of -2 ... 2."""


def kinetic(atoms: Atoms) -> np.ndarray:
    """A matrix that every program computes alike."""
    return np.asarray(molecule_of(atoms, "def2-svp").intor_symmetric("int1e_kin"))


def to_orca(matrix: np.ndarray, atoms: Atoms) -> np.ndarray:
    order: list[int] = []
    for z in atoms.numbers:
        for degree in (0, 0, 1) if z == 1 else (0, 0, 0, 1, 1, 2):
            own = {0: [0], 1: ORCA_P, 2: ORCA_D}[degree]
            order += [len(order) + place for place in own] if degree == 0 else []
            if degree:
                start = len(order)
                order += [start + place for place in own]
    return matrix[np.ix_(order, order)]


def write_qh9(path: Path, molecules: list[Atoms], **changes: Any) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, R BLOB, H BLOB)")
    for number, atoms in enumerate(molecules):
        row = {
            "n": len(atoms),
            "z": atoms.numbers.astype("<i4").tobytes(),
            "r": atoms.positions.astype("<f8").tobytes(),
            "h": kinetic(atoms).astype("<f8").tobytes(),
        } | changes
        connection.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?)", (number, *row.values()))
    connection.commit()
    connection.close()


def test_qh9_comes_back_bit_for_bit(tmp_path: Path) -> None:
    molecules = [molecule(name) for name in ("CH3OH", "H2O", "HCN")]
    write_qh9(tmp_path / "QH9Stable.db", molecules)
    found = list(read_matrices(tmp_path / "QH9Stable.db"))
    for entry, atoms in zip(found, molecules, strict=True):
        assert np.array_equal(entry.atoms.positions, atoms.positions)
        assert np.array_equal(entry.matrices["hamiltonian"], kinetic(atoms))
        assert entry.method == QH9_METHOD


def test_schnorb_s_orbitals_are_put_in_order(tmp_path: Path) -> None:
    from ase.db import connect

    atoms = molecule("CH3OH")
    overlap = np.asarray(molecule_of(atoms, "def2-svp").intor_symmetric("int1e_ovlp"))
    with connect(str(tmp_path / "md17.db")) as database:
        matrices = {"hamiltonian": to_orca(kinetic(atoms), atoms), "overlap": to_orca(overlap, atoms)}
        database.write(atoms, data=matrices)
        database.write(atoms, data={"hamiltonian": kinetic(atoms), "overlap": overlap})
    entries = read_matrices(tmp_path / "md17.db")
    first = next(entries)
    np.testing.assert_allclose(first.matrices["hamiltonian"], kinetic(atoms), atol=1e-14)
    assert first.method == SCHNORB_METHOD
    with pytest.raises(FileFormatError, match="frame 1: its overlap"):
        next(entries)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n": 4}, "says 4 atoms"),
        ({"h": b"\0" * 800}, "another basis set"),
        ({"z": b"123"}, "no row of QH9"),
        ({"h": np.arange(24.0 * 24).tobytes()}, "not symmetric"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    write_qh9(tmp_path / "bad.db", [molecule("H2O")], **changes)
    with pytest.raises(FileFormatError, match=word) as caught:
        list(read_matrices(tmp_path / "bad.db"))
    assert "frame 0" in str(caught.value)


def test_a_file_that_is_torn_is_refused(tmp_path: Path) -> None:
    """Half a download, or a bad page among the rows: a sentence, no traceback."""
    write_qh9(tmp_path / "QH9.db", [molecule("CH3OH")] * 20)
    whole = bytearray((tmp_path / "QH9.db").read_bytes())
    (tmp_path / "half.db").write_bytes(whole[: len(whole) // 2])
    whole[8192:-8192] = b"\xff" * len(whole[8192:-8192])
    (tmp_path / "torn.db").write_bytes(whole)
    for name, word in (("half.db", "malformed"), ("torn.db", r"torn\.db is damaged")):
        with pytest.raises(FileFormatError, match=word):
            list(read_matrices(tmp_path / name))


def test_positions_that_no_molecule_has_are_named(tmp_path: Path) -> None:
    positions = molecule("H2O").positions.copy()
    positions[1, 2] = np.nan
    write_qh9(tmp_path / "bad.db", [molecule("H2O")], r=positions.astype("<f8").tobytes())
    with pytest.raises(StructureError, match="frame 0: the position of atom 1"):
        list(read_matrices(tmp_path / "bad.db"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE other (x)").connection.commit()
    for name, word in (("text.db", "no SQLite"), ("empty.db", "no database of QH9"), ("none.db", "no file")):
        with pytest.raises(FileFormatError, match=word):
            list(read_matrices(tmp_path / name))


def test_the_command_adds_the_prior(tmp_path: Path) -> None:
    write_qh9(tmp_path / "QH9.db", [molecule("H2O"), molecule("HCN")])
    call = [
        "hamiltonian",
        "import",
        str(tmp_path / "QH9.db"),
        "--to",
        str(tmp_path / "set.lmdb"),
        "--most",
        "1",
    ]
    assert main([*call, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    (entry,) = open_dataset(tmp_path / "set.lmdb", unlabelled=True)
    assert set(entry.matrices) == {"hamiltonian", "minao-pbe"}
    assert main([*call, "--out", str(tmp_path / "other"), "--quiet"]) == 2

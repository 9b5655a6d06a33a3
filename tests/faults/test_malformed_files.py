"""Files that are wrong are refused in one sentence that names them; in little time and memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write as ase_write

from atomml.data.structures import read_structures

HEAD = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3'


def xyz(comment: str = HEAD, atoms: str = "Si 0 0 0\nO 1 1 1\n", count: object = 2) -> bytes:
    return f"{count}\n{comment}\n{atoms}".encode()


GOOD = xyz()
FORCED = HEAD + ":forces:R:3"

XYZ: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("no atoms",)),
    "only blank lines": (b"\n\n  \n", ("no atoms",)),
    "only a count": (b"2\n", ("ends after the number of atoms",)),
    "only a head": (b"2\ncomment\n", ("2 atoms are announced", "0 follow")),
    "a billion atoms": (xyz(count=10**9), ("1000000000 atoms are announced", "2 follow")),
    "more digits than atoms exist": (xyz(count=10**30), ("line 1",)),
    "one atom too few": (xyz(count=3), ("3 atoms are announced",)),
    "one atom too many": (xyz(count=1), ("frame 1", "line 4", "number of atoms")),
    "no atoms": (xyz(count=0, atoms=""), ("announces no atoms",)),
    "negative count": (xyz(count=-2), ("line 1",)),
    "fractional count": (xyz(count=2.0), ("line 1", "'2.0'")),
    "count with a remark": (xyz(count="2 atoms"), ("line 1",)),
    "count in Arabic-Indic digits": (xyz(count="٢"), ("line 1",)),
    "no count": (GOOD.split(b"\n", 1)[1], ("line 1", "number of atoms")),
    "comment line missing": (b"2\nSi 0 0 0\nO 1 1 1\n", ("2 atoms are announced", "1 follow")),
    "cut in the second frame": (GOOD + GOOD[:-8], ("frame 1", "announced")),
    "cut inside the second head": (GOOD + b"2\nLatti", ("frame 1",)),
    "blank line between frames": (GOOD + b"\n" + GOOD, ("frame 1", "line 5 is blank")),
    "garbage after the last frame": (GOOD + b"that is all\n", ("line 5", "'that is all'")),
    "garbage after a blank line": (GOOD + b"\n\nend\n", ("line 5", "more follows")),
    "blank line among the atoms": (xyz(atoms="Si 0 0 0\n\n"), ("line 4 is blank",)),
    "a column too few": (xyz(atoms="Si 0 0 0\nO 1 1\n"), ("line 4 (atom 1)", "3 columns", "4")),
    "a column too many": (xyz(atoms="Si 0 0 0\nO 1 1 1 1\n"), ("line 4 (atom 1)", "5 columns")),
    "columns that nobody named": (xyz("water", "O 0 0 0 1\nH 1 0 0 1\n"), ("5 columns",)),
    "a word for a coordinate": (xyz(atoms="Si 0 0 0\nO 1 x 1\n"), ("pos of atom 1 on line 4", "'x'")),
    "Fortran's exponent": (xyz(atoms="Si 0 0 0\nO 1.0D+00 1 1\n"), ("'1.0D+00'", "not a number")),
    "decimal comma": (xyz(atoms="Si 0 0 0\nO 1,5 1 1\n"), ("'1,5'",)),
    "overflowing stars": (xyz(atoms="Si 0 0 0\nO ******** 1 1\n"), ("atom 1",)),
    "numbers with underscores": (xyz(atoms="Si 0 0 0\nO 1_0 1 1\n"), ("'1_0'",)),
    "digits of another script": (xyz(atoms="Si 0 0 0\nO １ 1 1\n"), ("not a number",)),
    "NaN coordinate": (xyz(atoms="Si 0 0 0\nO nan 1 1\n"), ("frame 0", "atom 1 (O)", "not finite")),
    "infinite coordinate": (xyz(atoms="Si 0 0 0\nO -inf 1 1\n"), ("atom 1 (O)",)),
    "overflowing coordinate": (xyz(atoms="Si 0 0 0\nO 1e999 1 1\n"), ("atom 1 (O)",)),
    "NaN force": (xyz(FORCED, "Si 0 0 0 0 0 0\nO 1 1 1 nan 0 0\n"), ("forces of atom 1 on line 4",)),
    "no such element": (xyz(atoms="Si 0 0 0\nQq 1 1 1\n"), ("species of atom 1", "'Qq'")),
    "label for an element": (xyz(atoms="Si1 0 0 0\nO2 1 1 1\n"), ("species of atom 0", "'Si1'")),
    "number for an element": (xyz(atoms="14 0 0 0\n8 1 1 1\n"), ("species of atom 0",)),
    "dummy element": (xyz(atoms="Si 0 0 0\nX 1 1 1\n"), ("atomic number 0",)),
    "Z beyond the table": (xyz("Properties=Z:I:1:pos:R:3", "14 0 0 0\n119 1 1 1\n"), ("Z of atom 1",)),
    "species and Z at odds": (
        xyz("Properties=species:S:1:Z:I:1:pos:R:3", "Si 14 0 0 0\nO 9 1 1 1\n"),
        ("atom 1 disagree",),
    ),
    "duplicate column": (xyz(HEAD + ":pos:R:3", "Si 0 0 0 0 0 0\nO 1 1 1 2 2 2\n"), ("pos twice",)),
    "one column under two names": (
        xyz(HEAD + ":positions:R:3", "Si 0 0 0 0 0 0\nO 1 1 1 2 2 2\n"),
        ("positions twice",),
    ),
    "unknown column type": (xyz("Properties=species:S:1:pos:D:3"), ("pos:D:3",)),
    "no columns in a column": (xyz("Properties=species:S:1:pos:R:0"), ("pos:R:0",)),
    "half a triple": (xyz("Properties=species:S:1:pos:R"), ("triples",)),
    "Properties as a number": (xyz("Properties=3"), ("Properties",)),
    "no positions": (xyz("Properties=species:S:1:forces:R:3"), ("no positions",)),
    "no elements": (xyz("Properties=pos:R:3", "0 0 0\n1 1 1\n"), ("no elements",)),
    "positions in a plane": (
        xyz("Properties=species:S:1:pos:R:2", "Si 0 0\nO 1 1\n"),
        ("pos:R:2", "pos:R:3"),
    ),
    "forces in a plane": (xyz(HEAD + ":forces:R:2", "Si 0 0 0 0 0\nO 1 1 1 0 0\n"), ("forces:R:3",)),
    "a truth that is none": (
        xyz(HEAD + ":move_mask:L:1", "Si 0 0 0 T\nO 1 1 1 maybe\n"),
        ("move_mask of atom 1", "T or F"),
    ),
    "fractional integer": (xyz(HEAD + ":tags:I:1", "Si 0 0 0 1\nO 1 1 1 1.5\n"), ("'1.5'", "integer")),
    "integer beyond 64 bits": (xyz(HEAD + ":tags:I:1", f"Si 0 0 0 1\nO 1 1 1 {2**63}\n"), ("64-bit",)),
    "eight numbers in a Lattice": (xyz('Lattice="4 0 0 0 4 0 0 0"'), ("Lattice is not nine numbers",)),
    "ten numbers in a Lattice": (xyz('Lattice="4 0 0 0 4 0 0 0 4 0"'), ("nine numbers",)),
    "words in a Lattice": (xyz('Lattice="a b c d e f g h i"'), ("nine numbers",)),
    "NaN in a Lattice": (xyz('Lattice="4 0 0 0 nan 0 0 0 4"'), ("cell is not finite",)),
    "flat Lattice": (xyz('Lattice="4 0 0 0 4 0 4 4 0"'), ("no volume",)),
    "Lattice of zeros": (xyz('Lattice="0 0 0 0 0 0 0 0 0"'), ("zero",)),
    "lattice in lower case": (xyz('lattice="4 0 0 0 4 0 0 0 4"'), ("write Lattice",)),
    "periodic without a Lattice": (xyz('Properties=species:S:1:pos:R:3 pbc="T T T"'), ("periodic along a",)),
    "four periodicities": (xyz(HEAD + ' pbc="T T T T"'), ("pbc",)),
    "periodicity as a word": (xyz(HEAD + " pbc=xyz"), ("pbc",)),
    "key given twice": (xyz(HEAD + " energy=1.0 energy=2.0"), ("energy twice",)),
    "quote never closed": (xyz(HEAD + ' note="to be continued'), ("never closes",)),
    "bracket never closed": (xyz(HEAD + " list=[1, 2"), ("never closes",)),
    "value missing": (xyz(HEAD + " energy="), ("energy", "no value")),
    "value missing before another": (xyz(HEAD + " note= energy=1.0"), ("note", "no value")),
    "value without a key": (xyz(HEAD + " =1.0"), ("without a key",)),
    "energy in words": (xyz(HEAD + " energy=low"), ("energy", "'low'")),
    "energy NaN": (xyz(HEAD + " energy=nan"), ("energy", "finite")),
    "two energies": (xyz(HEAD + ' energy="1.0 2.0"'), ("energy",)),
    "stress of six": (xyz(HEAD + ' stress="1 2 3 4 5 6"'), ("stress is not nine",)),
    "stress without symmetry": (xyz(HEAD + ' stress="1 5 0 0 1 0 0 0 1"'), ("symmetric",)),
    "virial infinite": (xyz(HEAD + ' virial="inf 0 0 0 1 0 0 0 1"'), ("virial",)),
    "JSON cut short": (xyz(HEAD + ' data="_JSON [1, 2"'), ("JSON of data",)),
    "coincident atoms": (xyz(atoms="Si 0 0 0\nO 0 0 4\n"), ("atom 0 (Si)", "atom 1 (O)")),
    "Latin-1 comment": (
        "2\nabstand in Å\nSi 0 0 0\nO 1 1 1\n".encode("latin-1"),
        ("line 2 is not UTF-8", "0xc5"),
    ),
    "Latin-1 among the atoms": (
        xyz() + "1\nx\nH\xe9 0 0 0\n".encode("latin-1"),
        ("frame 1", "line 7 is not UTF-8"),
    ),
    "UTF-16": (GOOD.decode().encode("utf-16"), ("line 1",)),
    "UTF-32": (GOOD.decode().encode("utf-32-le"), ("binary",)),
    "a NUL byte": (GOOD.replace(b"O 1", b"O\0 1"), ("binary",)),
    "binary noise": (np.random.default_rng(0).bytes(4096), ("line 1",)),
    "binary noise after a count": (b"2\n" + np.random.default_rng(1).bytes(4096), ("frame 0",)),
    "a JPEG's beginning": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", ("line 1",)),
    "old Mac line ends": (GOOD.replace(b"\n", b"\r"), ("line 1",)),
}


def poscar(**changes: str) -> bytes:
    """A sound POSCAR with some of its lines changed."""
    lines = {
        "title": "rock salt",
        "scale": "1.0",
        "a": "4 0 0",
        "b": "0 4 0",
        "c": "0 0 4",
        "symbols": "Na Cl",
        "counts": "1 1",
        "mode": "Direct",
        "first": "0 0 0",
        "second": "0.5 0.5 0.5",
    }
    return ("\n".join({**lines, **changes}.values()) + "\n").encode()


CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.5 0.5 0.5 1
"""


def cif(old: str = "", new: str = "") -> bytes:
    assert old in CIF
    return CIF.replace(old, new).encode()


def saved(file_format: str) -> bytes:
    stream: io.StringIO | io.BytesIO = io.BytesIO() if file_format == "traj" else io.StringIO()
    ase_write(stream, bulk("Si"), format=file_format)
    content = stream.getvalue()
    return content.encode() if isinstance(content, str) else content


MOLECULE = """water
     RDKit          3D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1173 O   0  0
    0.0000    0.7572   -0.4692 H   0  0
    0.0000   -0.7572   -0.4692 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""

OTHERS: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "POSCAR cut in its cell": ("POSCAR", b"title\n1.0\n4 0 0\n", ("line 4",)),
    "POSCAR of a billion atoms": ("POSCAR", poscar(counts="1000000000 1"), ("1000000001 atoms",)),
    "POSCAR with a count too low": (
        "POSCAR",
        poscar(counts="1 1", second="0.5 0.5 0.5\n0.7 0.7 0.7"),
        ("line 11",),
    ),
    "POSCAR with a count too high": ("CONTCAR", poscar(counts="1 2"), ("3 atoms",)),
    "POSCAR without elements": ("x.vasp", poscar(symbols="1 1", counts="Direct"), ("names the elements",)),
    "POSCAR of no such element": ("POSCAR", poscar(symbols="Na Qq"), ("'Qq'",)),
    "POSCAR with counts in words": ("POSCAR", poscar(counts="one one"), ("line 7",)),
    "POSCAR with a count missing": ("POSCAR", poscar(counts="2"), ("2 counts",)),
    "POSCAR without a mode": ("POSCAR", poscar(mode="fractional"), ("line 8", "Direct or Cartesian")),
    "POSCAR with a word in it": ("POSCAR", poscar(second="0.5 half 0.5"), ("line 10", "atom 1")),
    "POSCAR with NaN": ("POSCAR", poscar(second="0.5 nan 0.5"), ("line 10",)),
    "POSCAR of scale zero": ("POSCAR", poscar(scale="0.0"), ("line 2",)),
    "POSCAR with a flat cell": ("POSCAR", poscar(c="4 4 0"), ("no volume",)),
    "POSCAR with half its flags": (
        "POSCAR",
        poscar(mode="Selective\nDirect", first="0 0 0 T T"),
        ("selective",),
    ),
    "POSCAR in UTF-16": ("POSCAR", poscar().decode().encode("utf-16"), ("POSCAR",)),
    "CIF of noise": ("a.cif", np.random.default_rng(2).bytes(2000), ("a.cif",)),
    "empty CIF": ("a.cif", b"", ("empty",)),
    "CIF without atoms": ("a.cif", cif(CIF[CIF.index("loop_") :], ""), ("a.cif",)),
    "CIF without a cell": ("a.cif", cif("_cell_length_a 4\n", ""), ("a.cif",)),
    "CIF with half an atom": ("a.cif", cif("0.5 0.5 0.5 1", "0.5 0.5 0.5 0.5"), ("Cl1 (Cl 0.5)", "ordered")),
    "CIF with a shared site": (
        "a.cif",
        cif("0 0 0 1\n", "0 0 0 0.6\nK1 K 0 0 0 0.4\n"),
        ("Na1 (Na 0.6)", "K1 (K 0.4)"),
    ),
    "CIF cut in an atom": ("a.cif", cif(" 0.5 0.5 0.5 1\n", " 0.5"), ("a.cif",)),
    "CIF with unknown coordinates": ("a.cif", cif("0.5 0.5 0.5 1", "? ? ? 1"), ("a.cif",)),
    "CIF with a word in it": ("a.cif", cif("0.5 0.5 0.5 1", "0.5 half 0.5 1"), ("a.cif",)),
    "CIF of no such group": ("a.cif", cif("'P 1'", "'P 99/m'"), ("a.cif",)),
    "CIF of no such element": ("a.cif", cif("Cl1 Cl", "Qq1 Qq"), ("a.cif",)),
    "CIF in Latin-1": ("a.cif", "data_x\n# Å\n".encode("latin-1"), ("UTF-8",)),
    "SDF of text": ("a.sdf", b"not a molecule\n" * 9, ("frame 0", "no molecule")),
    "empty SDF": ("a.sdf", b"", ("no structure",)),
    "SDF cut short": ("a.sdf", MOLECULE[:150].encode(), ("frame 0",)),
    "SDF drawn in 2D": (
        "a.sdf",
        MOLECULE.replace("3D", "2D").replace("0.1173", "0.0000").replace("-0.4692", " 0.0000").encode(),
        ("two dimensions",),
    ),
    "SDF without hydrogens": (
        "a.sdf",
        b"m\n     RDKit          3D\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n"
        b"    0.0000    0.0000    0.1173 O   0  0\nM  END\n$$$$\n",
        ("2 hydrogens",),
    ),
    "SDF with its second record broken": ("a.sdf", (MOLECULE + "x\n" * 8 + "$$$$\n").encode(), ("frame 1",)),
    "trajectory cut short": ("a.traj", saved("traj")[:-40], ("a.traj",)),
    "trajectory of noise": ("a.traj", b"\x80\x04noise" * 40, ("a.traj",)),
    "empty trajectory": ("a.traj", b"", ("empty",)),
    "JSON of something else": ("a.json", json.dumps({"a": [1, 2]}).encode(), ("a.json",)),
    "JSON cut short": ("a.json", saved("json")[:-60], ("a.json",)),
    "data base of text": ("a.db", b"not a data base", ("SQLite",)),
    "gro of a billion atoms": ("a.gro", b"title\n1000000000\n", ("announces 1000000000",)),
    "cube of a billion atoms": ("a.cube", b"t\nt\n1000000000 0 0 0\n1 1 0 0\n", ("announces",)),
    "xsf cut short": ("a.xsf", b"CRYSTAL\nPRIMVEC\n4 0 0\n", ("a.xsf",)),
    "pickle": ("a.pkl", pickle.dumps([1]), ("may run code",)),
    "Python": ("a.py", b"print('hello')\n", ("may run code",)),
    "numpy": ("a.npz", b"PK\x03\x04", ("may run code",)),
    "unknown": ("notes.txt", b"milk, bread\n", ("no format",)),
    "no suffix, no sense": ("notes", np.random.default_rng(3).bytes(100), ("notes",)),
    "gzip cut short": ("a.xyz.gz", gzip.compress(GOOD * 500)[:-20], ("damaged",)),
    "gzip in name only": ("a.xyz.gz", GOOD, ("damaged",)),
    "gzip with a flipped bit": ("a.cif.gz", gzip.compress(cif())[:-6] + b"\0\0\0\0\0\0", ("damaged",)),
    "bzip2 in name only": ("a.xyz.bz2", GOOD, ("damaged",)),
    "xz in name only": ("a.xyz.xz", GOOD, ("damaged",)),
    "malformed inside bzip2": ("a.xyz.bz2", bz2.compress(xyz(count=3)), ("3 atoms are announced",)),
}


@pytest.mark.parametrize("name", XYZ)
@pytest.mark.parametrize("suffix", ["xyz", "extxyz"])
def test_a_malformed_xyz_is_refused_in_one_sentence(
    name: str, suffix: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    content, words = XYZ[name]
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    refused(lambda: list(read_structures(path)), str(path), *words)


@pytest.mark.parametrize("name", OTHERS)
def test_a_malformed_file_is_refused_in_one_sentence(
    name: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if ".sdf" in OTHERS[name][0]:
        pytest.importorskip("rdkit", reason="SD files are read by RDKit")
    file, content, words = OTHERS[name]
    path = tmp_path / file
    path.write_bytes(content)
    refused(lambda: list(read_structures(path)), str(path), *words)


def test_there_are_at_least_sixty_of_them() -> None:
    assert len(XYZ) >= 60
    assert len(XYZ) + len(OTHERS) >= 120


def test_the_files_that_were_spoilt_were_sound(tmp_path: Path) -> None:
    """Otherwise the cases above would be refused for another reason than the one they are about."""
    sound = {
        "a.xyz": GOOD,
        "b.xyz": GOOD + GOOD + b"\n\n",
        "c.xyz": b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"),
        "a.cif": cif(),
        "POSCAR": poscar(),
        "a.sdf": MOLECULE.encode(),
        "a.traj": saved("traj"),
        "a.json": saved("json"),
    }
    for name, content in sound.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert list(read_structures(path)), name


@pytest.mark.parametrize("kind", ["missing", "folder", "long name", "NUL"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    source = {
        "missing": str(tmp_path / "gone.cif"),
        "folder": str(tmp_path),
        "long name": "x" * 5000,
        "NUL": "a\0b.xyz",
    }[kind]
    refused(lambda: list(read_structures(source)), "folder" if kind == "folder" else "no file")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, refused: Callable[..., str]) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.xyz")
    refused(lambda: list(read_structures(tmp_path / "pipe.xyz")), "no regular file")


@pytest.mark.parametrize("index", ["5", 5, "x", "::0", "1:2:3:4", "::-1", "", None])
def test_an_index_that_names_no_frame_is_refused(
    index: object, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "a.xyz").write_bytes(GOOD * 2)
    refused(lambda: list(read_structures(tmp_path / "a.xyz", index=index)))  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["a.xyz", "POSCAR", "a.gro", "a.cube"])
def test_a_billion_atoms_announced_cost_no_time_and_no_memory(
    file: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    contents = {"a.xyz": xyz(count=10**9), "POSCAR": poscar(counts="1000000000 1")}
    path = tmp_path / file
    path.write_bytes(contents.get(file) or next(c for f, c, _ in OTHERS.values() if f == file))
    refused(lambda: list(read_structures(path)))  # imports what it needs
    tracemalloc.start()
    try:
        start = time.perf_counter()
        refused(lambda: list(read_structures(path)))
        assert time.perf_counter() - start < 10.0
        assert tracemalloc.get_traced_memory()[1] < 4_000_000  # the atoms would be 24 GB
    finally:
        tracemalloc.stop()


def test_a_long_file_is_read_in_the_memory_of_one_frame(tmp_path: Path) -> None:
    """Forty frames of 500 atoms need no more memory than two of them."""
    frame = xyz(
        HEAD.replace("4", "40"), "".join(f"Si {i % 10} {i // 10 % 10} {i // 100}\n" for i in range(500)), 500
    )
    peaks = []
    for repeats in (2, 40):
        path = tmp_path / f"{repeats}.xyz"
        path.write_bytes(frame * repeats)
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_structures(path)) == repeats
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_frames_before_a_malformed_one_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(GOOD * 3 + b"garbage\n")
    found: list[Atoms] = []
    with pytest.raises(Exception, match="frame 3"):
        found.extend(frame.atoms for frame in read_structures(tmp_path / "a.xyz"))
    assert len(found) == 3


def test_a_gzip_bomb_stops_at_the_bound(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atomml.data.structures.LARGEST_FILE", 1 << 20)
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(b"#" * (1 << 24)))
    refused(lambda: list(read_structures(tmp_path / "a.cif.gz")), "larger than")

"""Formats that ASE or pymatgen read, behind guards: no code run, no memory for atoms only announced."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from atomml.data.poscar import parse_poscar
from atomml.errors import AtomMLError, FileFormatError

__all__ = ["cif_structures", "format_of", "read_foreign"]

_log = logging.getLogger(__name__)

LARGEST_FILE = 1 << 30
"""Bytes; formats other than XYZ, SDF and trajectories are read whole."""

_UNSAFE = {
    "bundletrajectory": "may hold pickles",
    "gpw": "runs another program's code when it is read",
    "mysql": "is a data base on a server",
    "postgresql": "is a data base on a server",
}
_PICKLES = (".pckl", ".pkl", ".pickle", ".py", ".pt", ".pth", ".npy", ".npz", ".model", ".tar", ".zip")
_SUFFIXES = {
    "xyz": "extxyz",
    "extxyz": "extxyz",
    "cif": "cif",
    "vasp": "vasp",
    "poscar": "vasp",
    "sdf": "sdf",
    "mol": "sdf",
    "traj": "traj",
    "db": "db",
    "json": "json",
}
_COUNTED = {
    "gromacs",
    "gen",
    "cube",
    "xsf",
    "lammps-data",
    "lammps-dump-text",
    "dlp4",
    "v-sim",
    "cfg",
    "vasp-xdatcar",
}


def format_of(path: Path, name: str) -> str:
    """ASE's name of a file's format, from its name and, where that says nothing, its first bytes.

    Args:
        path: The uncompressed file.
        name: Its name without a suffix of compression.

    Raises:
        FileFormatError: Unknown, or one whose reading may run code.
    """
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if f".{suffix}" in _PICKLES:
        raise FileFormatError(
            f"{path} is a .{suffix} file, which may run code and holds no structure: give another."
        )
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if re.search(r"POSCAR|CONTCAR", name):
        return "vasp"
    found = _detect(path)
    if found in _UNSAFE:
        raise FileFormatError(
            f"{path} is a {found} file, which {_UNSAFE[found]}: convert it to extxyz first."
        )
    return "extxyz" if found == "xyz" else found


def _detect(path: Path) -> str:
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return filetype(str(path), read=True, guess=False)
    except UnknownFileTypeError as error:
        raise FileFormatError(
            f"{path} is in no format that can be recognised: give CIF, POSCAR, extxyz, SDF or what ASE reads."
        ) from error
    except Exception as error:
        raise FileFormatError(f"{path} is in no format that can be recognised ({_reason(error)}).") from error


def read_foreign(path: Path, file_format: str, name: str) -> Iterator[Atoms]:
    """Yield the structures of a file in one of ASE's formats.

    Args:
        path: The uncompressed file.
        file_format: From :func:`format_of`.
        name: What to call the file in errors.

    Raises:
        FileFormatError: Names the file and what the reader said.
    """
    if file_format != "traj" and file_format != "db" and path.stat().st_size > LARGEST_FILE:
        raise FileFormatError(f"{name} is larger than 1 GiB, too much for this format: convert it to extxyz.")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{name} is empty: give a file with a structure.")
    if file_format in _COUNTED:
        _check_announced(path, name)
    readers: dict[str, Callable[[Path], Iterator[Atoms]]] = {
        "cif": _read_cif,
        "vasp": lambda file: iter([parse_poscar(_text(file))]),
        "traj": _read_trajectory,
        "db": lambda file: _read_database(file, "db"),
        "json": lambda file: _read_database(file, "json"),
    }
    reader = readers.get(file_format, lambda file: _read_ase(file, file_format))
    yield from _guarded(reader, path, name)


def _guarded(reader: Callable[[Path], Iterator[Atoms]], path: Path, name: str) -> Iterator[Atoms]:
    """What a reader yields; its exceptions typed, its warnings logged."""
    frames: Iterator[Atoms] | None = None
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                frames = reader(path) if frames is None else frames
                atoms = next(frames, None)
            except AtomMLError as error:
                raise type(error)(f"{name}: {error}") from error
            except Exception as error:
                raise FileFormatError(f"{name} cannot be read ({_reason(error)}): mend the file.") from error
        for warning in _serious(caught):
            _log.warning("%s: %s", name, warning)
        if atoms is None:
            return
        if not isinstance(atoms, Atoms):
            raise FileFormatError(f"{name} holds no structure: give another file.")
        yield atoms


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {ascii(text)[1:-1][:150]}" if text else type(error).__name__


def _serious(caught: list[warnings.WarningMessage]) -> list[str]:
    """Warnings about the file; those about a library's own future are none of the user's business."""
    ignored = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
    return [" ".join(str(w.message).split()) for w in caught if not issubclass(w.category, ignored)]


def _text(path: Path) -> str:
    data = path.read_bytes()
    if b"\0" in data:
        raise FileFormatError("this is binary data: give a text file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileFormatError(f"line {line} is not UTF-8: save the file as UTF-8.") from error


def _check_announced(path: Path, name: str) -> None:
    """Readers allocate what the head of a file announces; no atom fits in less than a byte."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(4096).split(b"\n")[:30]
    for number in (
        int(word) for line in head for word in line.split() if re.fullmatch(rb"-?[0-9]{1,18}", word)
    ):
        if number > max(size, 1000):
            raise FileFormatError(f"{name} announces {number} atoms in {size} bytes: mend the count.")


def _read_ase(path: Path, file_format: str) -> Iterator[Atoms]:
    from ase.io import iread

    yield from iread(path, index=":", format=file_format, do_not_split_by_at_sign=True)


def _read_trajectory(path: Path) -> Iterator[Atoms]:
    from ase.io.trajectory import TrajectoryReader

    with path.open("rb") as stream:
        if stream.read(8) != b"- of Ulm":  # older ones are pickles
            raise FileFormatError("this is no ASE trajectory in the present format: convert it to extxyz.")
        stream.seek(0)
        trajectory = TrajectoryReader(stream)
        for index in range(len(trajectory)):
            yield trajectory[index]


def _read_database(path: Path, kind: str) -> Iterator[Atoms]:
    """Rows of an ASE data base; its key-value pairs and data go to ``info``."""
    from ase.db import connect

    if kind == "db" and not path.read_bytes()[:16].startswith(b"SQLite format 3"):
        raise FileFormatError("this is no SQLite data base: give another file.")
    if kind == "json":
        _text(path)
    with connect(str(path), type=kind, use_lock_file=False, append=True) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            yield atoms


def _read_cif(path: Path) -> Iterator[Atoms]:
    """Ordered structures of a CIF: by ASE, and by pymatgen where ASE fails or has doubts."""
    _text(path)
    _refuse_disorder(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            from ase.io.cif import read_cif

            frames = list(read_cif(str(path), index=slice(None)))
            doubts = _serious(caught)
        except Exception as error:
            frames, doubts = [], [_reason(error)]
    if doubts or not frames:
        try:
            frames = _read_cif_pymatgen(path)
        except AtomMLError:
            raise
        except Exception as error:
            reason = doubts[0] if doubts else _reason(error)
            raise FileFormatError(f"the CIF is malformed ({ascii(reason)[1:-1][:150]}): mend it.") from error
    for atoms in frames:
        if not atoms.pbc.all():  # without a whole cell, ASE takes fractions of it for ångströms
            raise FileFormatError("the CIF lacks cell lengths or angles: add them.")
        atoms.info.pop("occupancy", None)
        yield atoms


def _refuse_disorder(path: Path) -> None:
    from ase.io.cif import parse_cif

    try:
        blocks = list(parse_cif(str(path)))
    except Exception:  # pymatgen is asked next, and says whether it is ordered
        return
    for block in blocks:
        occupancy = block.get("_atom_site_occupancy")
        if not isinstance(occupancy, list):
            continue
        kinds = block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or range(len(occupancy))
        labels = block.get("_atom_site_label") or kinds
        partial = [
            f"{label} ({kind} {value:g})"
            for label, kind, value in zip(labels, kinds, occupancy, strict=False)
            if isinstance(value, int | float) and abs(value - 1.0) > 1e-3
        ]
        _refuse_sites(partial)


def _refuse_sites(partial: list[str]) -> None:
    if partial:
        shown = ", ".join(partial[:5]) + (" and more" if len(partial) > 5 else "")
        raise FileFormatError(
            f"sites are partly occupied ({shown}): give an ordered structure, or add --order to have "
            "pymatgen order them."
        )


def cif_structures(path: Path) -> list[Any]:
    """Structures of a CIF as pymatgen has them, partly occupied ones too.

    Raises:
        FileFormatError: It cannot read the file, or would lose atoms.
    """
    try:
        return _parse_cif(path)
    except AtomMLError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        raise FileFormatError(f"{path}: the CIF is malformed ({_reason(error)}): mend it.") from error


def _parse_cif(path: Path) -> list[Any]:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        structures: list[Any] = CifParser(str(path)).parse_structures(primitive=False, on_error="raise")
    if any("Defaulting to P1" in warning for warning in _serious(caught)):  # atoms would be missing
        raise FileFormatError("the CIF's space group is unknown and its operations are not listed: add them.")
    return structures


def _read_cif_pymatgen(path: Path) -> list[Atoms]:
    from pymatgen.io.ase import AseAtomsAdaptor

    structures = _parse_cif(path)
    for structure in structures:
        _refuse_sites([str(site.species) for site in structure if not site.is_ordered])
    found = [AseAtomsAdaptor.get_atoms(structure, msonable=False) for structure in structures]
    return [Atoms(a.numbers, positions=np.array(a.positions), cell=a.cell, pbc=True) for a in found]

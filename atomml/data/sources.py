"""Where labelled data lies: files, folders of runs, trees of DeePMD-kit, data bases of rows, stores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from atomml.data.convergence import program_of
from atomml.data.deepmd_tree import deepmd_files, is_deepmd_tree, read_deepmd_tree
from atomml.data.label_keys import AUTO, LabelKeys
from atomml.data.structures import Frame, plain_name, read_structures
from atomml.errors import FileFormatError, MissingExtraError, OptionError
from atomml.files import sha256_file

__all__ = ["Source", "find_sources", "read_source", "source_record"]

_BY_NAME = ("*.extxyz", "*.xyz", "*.traj", "*.db")
_SNIFFED = ("*.out", "*.pwo", "*.log", "*.output", "*OUTCAR*", "*vasprun*.xml", "*.txt", "*.stdout")
_WHOLE = ("*.aselmdb",)


@dataclass(frozen=True, order=True)
class Source:
    """A file or folder that entries are read from.

    Attributes:
        path: Where it lies.
        kind: ``file``, ``deepmd``, ``aselmdb``, ``store`` or ``dpdata:FORMAT``.
    """

    path: Path
    kind: str

    def keys(self, keys: LabelKeys) -> LabelKeys:
        """What of the keys applies here: dpdata has brought labels to ASE's units, and trees hold virials."""
        if self.kind.startswith("dpdata:"):
            return keys.in_ase_units()
        if self.kind == "deepmd" and keys.stress_quantity == AUTO:
            return replace(keys, stress_unit=LabelKeys.stress_unit, stress_sign=LabelKeys.stress_sign)
        return keys


def find_sources(
    paths: Sequence[str | Path], file_format: str = "auto"
) -> tuple[list[Source], list[tuple[str, str]]]:
    """Sources behind paths, each once, folders walked in the order of names; and what was passed over.

    A file that is named is taken as it is. In a folder, files are taken that by name or by their
    first bytes can hold labels; of one VASP run, ``vasprun.xml`` rather than ``OUTCAR``.

    Args:
        paths: Files and folders.
        file_format: ``auto``, or ``dpdata:FORMAT`` to hand each path to dpdata.

    Returns:
        The sources, and pairs of a path and the reason why it was passed over.

    Raises:
        FileFormatError: A path that does not exist, or no source at all.
    """
    found: dict[Path, Source] = {}
    passed: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileFormatError(f"{path} is neither file nor folder: check the path.")
        if file_format != "auto":
            sources = [Source(path, _checked(file_format))]
        elif path.is_dir() and not is_deepmd_tree(path) and path.suffix != ".aselmdb":
            sources = list(_walk(path, passed))
        else:
            sources = [Source(path, _kind(path))]
        for source in sources:
            found.setdefault(source.path.resolve(), source)
    if not found:
        more = f" ({passed[0][0]}: {passed[0][1]})" if passed else ""
        raise FileFormatError(f"{', '.join(map(str, paths))}: no file with labels is there{more}.")
    return list(found.values()), passed


def read_source(source: Source) -> Iterator[Frame]:
    """The frames of a source, one by one, checked; not for a ``store``, which holds entries.

    Raises:
        FileFormatError: It cannot be read, or contradicts itself.
        StructureError: A structure that no model can take.
        MissingExtraError: dpdata is needed and not installed.
    """
    if source.kind == "file":
        yield from read_structures(source.path)
        return
    from atomml.graph.validate import validate_atoms

    if source.kind == "deepmd":
        frames = read_deepmd_tree(source.path)
    elif source.kind == "aselmdb":
        from atomml.data.aselmdb import read_aselmdb

        frames = read_aselmdb(source.path)
    else:
        frames = _read_dpdata(source.path, source.kind.removeprefix("dpdata:"))
    for frame in frames:
        validate_atoms(frame.atoms, where=f"{frame.path}, frame {frame.index}")
        yield frame


def source_record(source: Source) -> dict[str, Any]:
    """``path`` and ``sha256`` of a source; that of a folder is over its files, in the order of names."""
    path = source.path
    if path.is_file():
        return {"path": str(path), "sha256": sha256_file(path)}
    files = (
        deepmd_files(path) if source.kind == "deepmd" else sorted(f for f in path.rglob("*") if f.is_file())
    )
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return {"path": str(path), "sha256": whole.hexdigest()}


def _checked(file_format: str) -> str:
    head, _, name = file_format.partition(":")
    if head != "dpdata" or not name:
        raise OptionError(f"The format {file_format!r} is unknown: give auto, or dpdata:FORMAT.")
    return file_format


def _kind(path: Path) -> str:
    if path.is_dir():
        return "deepmd" if is_deepmd_tree(path) else "aselmdb"
    if path.suffix == ".aselmdb":
        return "aselmdb"
    if path.suffix == ".lmdb":
        return "store"
    return "dpdata:cp2k/output" if program_of(path) == "cp2k" else "file"


def _walk(folder: Path, passed: list[tuple[str, str]]) -> Iterator[Source]:
    def unreadable(error: OSError) -> None:
        """Note a folder that is not read."""
        passed.append((str(error.filename), f"cannot be read ({error.strerror})"))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(place)
        folders.sort()
        if is_deepmd_tree(here):
            folders[:] = []
            yield Source(here, "deepmd")
            continue
        whole = [name for name in folders if name.endswith(".aselmdb")]
        folders[:] = [name for name in folders if name not in whole and not name.startswith(".")]
        linked = [name for name in folders if (here / name).is_symlink()]
        passed += [
            (str(here / name), "a link to a folder is followed only where it is named") for name in linked
        ]
        yield from (Source(here / name, "aselmdb") for name in whole)
        xml_runs = [name for name in names if fnmatch(plain_name(Path(name)), "*vasprun*.xml")]
        for name in sorted(names):
            reason = _why_not(here / name, bool(xml_runs))
            if reason:
                passed.append((str(here / name), reason))
            elif not name.startswith("."):
                yield Source(here / name, _kind(here / name))


def _why_not(path: Path, xml_beside: bool) -> str:
    """Why a file found in a folder is not read; "" if it is."""
    name = plain_name(path)
    if any(fnmatch(name, pattern) for pattern in (*_BY_NAME, *_WHOLE)):
        return ""
    if path.suffix == ".lmdb":
        return "a store is read only where it is named"
    if xml_beside and "OUTCAR" in name:
        return "the same run as vasprun.xml"
    if any(fnmatch(name, pattern) for pattern in _SNIFFED):
        return "" if program_of(path) else "no program known by its first lines"
    return "not a kind of file that holds labels"


def _read_dpdata(path: Path, name: str) -> Iterator[Frame]:
    try:
        import dpdata
    except ImportError as error:
        raise MissingExtraError.for_extra("dpdata", "dpdata") from error
    import numpy as np
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    try:
        data = dpdata.LabeledSystem(str(path), fmt=name).data
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
        raise FileFormatError(
            f"{path} cannot be read by dpdata as {name} ({reason}): check --format."
        ) from error
    symbols = np.array(data["atom_names"])[data["atom_types"]]
    periodic = not data.get("nopbc", False)
    for index, coordinates in enumerate(data["coords"]):
        cell = data["cells"][index] if periodic else None
        atoms = Atoms(list(symbols), coordinates, cell=cell, pbc=periodic)
        results: dict[str, Any] = {"energy": float(data["energies"][index])}
        if "forces" in data:
            results["forces"] = np.asarray(data["forces"][index])
        if "virials" in data:
            atoms.info["virial"] = np.asarray(data["virials"][index])
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield Frame(path, index, atoms)

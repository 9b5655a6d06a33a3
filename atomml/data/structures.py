"""Structures from files: what ASE, pymatgen and RDKit read, checked once, streamed where files are long.

XYZ and POSCAR are read by our own strict parsers; nothing that could run code is ever loaded.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from atomml.data.ase_import import import_ase_readers
from atomml.data.extxyz_reader import read_extxyz
from atomml.data.extxyz_writer import extxyz_frame, write_structures
from atomml.data.foreign_formats import LARGEST_FILE, format_of, read_foreign
from atomml.data.molecules import is_smiles, read_molecules, read_smiles
from atomml.errors import FileFormatError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Frame", "extxyz_frame", "open_plain", "plain_name", "read_structures", "write_structures"]

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Frame:
    """One structure of a file.

    Attributes:
        path: The file, or the SMILES string where there is none.
        index: Its place in the file, from 0.
        atoms: The structure; labels that the file gives (energy, forces) are in its calculator.
    """

    path: Path
    index: int
    atoms: Atoms


def read_structures(
    source: str | Path, *, index: str | int | slice = ":", validate: bool = True
) -> Iterator[Frame]:
    """Yield the structures of a file, or of a SMILES string, one by one.

    XYZ, SD files and trajectories are streamed, so that a file may be larger than memory. Files
    may be compressed (``.gz``, ``.bz2``, ``.xz``).

    Args:
        source: A file in any format that ASE reads, or a SMILES string where no such file exists
            (extra ``rdkit``).
        index: Which frames: a number, a slice, or either as text (``-1``, ``::10``).
        validate: Whether to refuse structures that no model can take.

    Raises:
        FileFormatError: A file that cannot be read or contradicts itself.
        StructureError: A structure that no model can take; see :func:`atomml.graph.validate_atoms`.
    """
    import_ase_readers()
    wanted = _as_slice(index)
    count = None
    if _counts_from_end(wanted):
        count = sum(1 for _ in _frames(source))
    selection = _Selection(wanted, count)
    n_frames = 0
    for position, atoms in enumerate(_frames(source)):
        n_frames += 1
        if selection.holds(position):
            if validate:
                validate_atoms(atoms, where=f"{source}, frame {position}")
            yield Frame(Path(source), position, atoms)
        if selection.is_past(position):
            return
    if n_frames == 0:
        raise FileFormatError(f"{source} holds no structure: give a file with at least one.")
    if not isinstance(index, slice) and ":" not in str(index) and not selection.holds_any_of(n_frames):
        raise FileFormatError(
            f"{source} has {n_frames} frames and none of index {index}: give a smaller index."
        )


class _Selection:
    """Which frames a slice takes; how many there are matters only to one that counts from the end."""

    def __init__(self, wanted: slice, count: int | None) -> None:
        start, stop, step = (
            wanted.indices(count) if count is not None else (wanted.start or 0, wanted.stop, 0)
        )
        self._start, self._stop = start, stop
        self._step = step or wanted.step or 1

    def holds(self, position: int) -> bool:
        """Whether the frame at this position is chosen."""
        inside = position >= self._start and (self._stop is None or position < self._stop)
        return inside and (position - self._start) % self._step == 0

    def is_past(self, position: int) -> bool:
        """Whether nothing after this position is chosen."""
        return self._stop is not None and position + 1 >= self._stop

    def holds_any_of(self, n_frames: int) -> bool:
        """Whether a file of so many frames has a chosen one."""
        return any(self.holds(position) for position in range(n_frames))


def _as_slice(index: str | int | slice) -> slice:
    try:
        if isinstance(index, slice):
            wanted = index
        elif ":" in str(index):
            parts = [int(part) if part.strip() else None for part in str(index).split(":")]
            wanted = slice(*parts) if len(parts) <= 3 else slice(None, None, 0)
        else:
            number = int(index)
            wanted = slice(number, number + 1 if number != -1 else None)
    except (TypeError, ValueError):
        wanted = slice(None, None, 0)
    if wanted.step is not None and wanted.step < 1:
        raise FileFormatError(
            f"{index!r} names no frames: give a number or start:stop:step with a step above 0."
        )
    return wanted


def _counts_from_end(wanted: slice) -> bool:
    return any(end is not None and end < 0 for end in (wanted.start, wanted.stop))


def _frames(source: str | Path) -> Iterator[Atoms]:
    path = Path(source)
    if not _exists(path):
        if is_smiles(str(source)):
            yield read_smiles(str(source))
            return
        raise FileFormatError(f"{ascii(str(source))[1:-1][:200]} is no file: check the path.")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise FileFormatError(f"{path} is {kind}: give a file with structures.")
    try:
        yield from _frames_of_file(path)
    except PermissionError as error:
        raise FileFormatError(f"{path} may not be read: check its permissions.") from error
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} is damaged ({' '.join(str(error).split())}): take another copy."
        ) from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def _frames_of_file(path: Path) -> Iterator[Atoms]:
    opener = _OPENERS.get(path.suffix.lower(), open)
    name = plain_name(path)
    streamed = {"extxyz": read_extxyz, "sdf": read_molecules}
    suffix = name.rpartition(".")[2].lower()
    if suffix in ("xyz", "extxyz", "sdf", "mol"):
        with opener(path, "rb") as stream:
            yield from streamed[format_of(path, name)](stream, str(path))
        return
    with _uncompressed(path, opener, name) as plain:
        file_format = format_of(plain, name)
        if file_format in streamed:
            with plain.open("rb") as stream:
                yield from streamed[file_format](stream, str(path))
            return
        yield from read_foreign(plain, file_format, str(path))


def plain_name(path: Path) -> str:
    """A file's name without a suffix of compression."""
    return path.stem if path.suffix.lower() in _OPENERS else path.name


def open_plain(path: Path) -> IO[bytes]:
    """The bytes of a file, uncompressed as they are read."""
    return _OPENERS.get(path.suffix.lower(), open)(path, "rb")


@contextmanager
def _uncompressed(path: Path, opener: Any, name: str) -> Iterator[Path]:
    """The file itself, or a temporary copy without compression, never larger than 1 GiB."""
    if opener is open:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / name
        with opener(path, "rb") as source, plain.open("wb") as target:
            _copy(source, target, path)
        yield plain


def _copy(source: IO[bytes], target: IO[bytes], path: Path) -> None:
    while piece := source.read(1 << 20):
        target.write(piece)
        if target.tell() > LARGEST_FILE:
            raise FileFormatError(f"{path} is larger than 1 GiB uncompressed: convert it to extxyz.")
    shutil.copyfileobj(source, target)

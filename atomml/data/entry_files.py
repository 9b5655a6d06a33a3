"""Entries to a file by its suffix: a store (``.lmdb``) or extended XYZ, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import FileFormatError

if TYPE_CHECKING:
    from atomml.data.entry import Entry

__all__ = ["ENTRY_SUFFIXES", "check_entry_file", "entry_frame", "write_entries"]

ENTRY_SUFFIXES = (".lmdb", ".extxyz", ".xyz")
"""Suffixes of files that entries are written to."""


def check_entry_file(path: str | Path) -> Path:
    """The path, if entries can be written there.

    Raises:
        FileFormatError: A suffix that says nothing, or a folder that does not exist.
    """
    path = Path(path)
    if path.suffix not in ENTRY_SUFFIXES:
        raise FileFormatError(
            f"{path}: entries are written to {', '.join(ENTRY_SUFFIXES)}: name such a file."
        )
    if not path.parent.is_dir():
        raise FileFormatError(f"{path.parent} is no folder: make it first.")
    return path


def write_entries(
    path: str | Path, entries: Iterable[Entry], sources: Iterable[Mapping[str, Any]] = ()
) -> int:
    """Write entries one by one, atomically; returns how many.

    Args:
        path: ``NAME.lmdb`` or ``NAME.extxyz``; replaced when the new file is whole.
        entries: Taken one by one.
        sources: ``path`` and ``sha256`` of the files that they came from; kept by a store.

    Raises:
        FileFormatError: As :func:`check_entry_file`.
    """
    path = check_entry_file(path)
    if path.suffix == ".lmdb":
        from atomml.data.store import write_store

        header = write_store(path, entries, [dict(source) for source in sources])
        return int(header["n_entries"])
    from atomml.files import write_atomic_with

    count = 0

    def write(stream: Any) -> None:
        """Each entry as a frame, counted."""
        nonlocal count
        for entry in entries:
            stream.write(entry_frame(entry).encode())
            count += 1

    write_atomic_with(path, write)
    return count


def entry_frame(entry: Entry) -> str:
    """One frame of extended XYZ: the labels under their usual names, the provenance in ``info``.

    ``config_type``, ``trajectory`` and ``config_weight`` are read back as the entry's group,
    trajectory and weight; ``method``, ``source`` and ``source_frame`` say where it came from.
    """
    from atomml.data.extxyz_writer import extxyz_frame

    told = {"config_type": entry.group, "trajectory": entry.trajectory, "method": entry.method}
    if entry.weight != 1.0:
        told["config_weight"] = repr(entry.weight)
    if entry.source:
        told |= {"source": entry.source, "source_frame": str(entry.frame)}
    atoms = entry.atoms.copy()
    atoms.info = {**entry.atoms.info, **{name: _number(text) for name, text in told.items() if text}}
    results = {name: getattr(entry.labels, name) for name in entry.labels.names}
    return extxyz_frame(replace(entry, atoms=atoms).atoms, results)


def _number(text: str) -> str | int | float:
    """Numbers as numbers, so that they are written as such."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text

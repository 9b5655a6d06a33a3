"""Which frames of a file follow each other in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from atomml.data.entry import Entry

__all__ = ["mark_trajectories"]

_TABLES = (".db", ".json", ".aselmdb", ".lmdb", ".cif", ".sdf")
"""Endings of files whose rows stand alone."""


def mark_trajectories(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Name the trajectory of frames that follow each other in one file.

    Two or more consecutive frames with the same atoms in the same order, the same periodicity and
    the same group are taken for one run of dynamics or relaxation, ``FILE#FIRST``. A file that
    names trajectories itself is believed. Rows of data bases stand alone, and so do single atoms.

    Args:
        entries: Those of one file, in order.
    """
    previous: Entry | None = None
    name = ""
    for entry in entries:
        if previous is not None:
            if _continues(previous, entry):
                name = name or f"{previous.source}#{previous.frame}"
                yield replace(previous, trajectory=name)
            else:
                yield replace(previous, trajectory=name) if name else previous
                name = ""
        previous = entry
    if previous is not None:
        yield replace(previous, trajectory=name) if name else previous


def _continues(before: Entry, entry: Entry) -> bool:
    first, second = before.atoms, entry.atoms
    return (
        not before.trajectory
        and not entry.trajectory
        and len(first) == len(second) > 1
        and before.group == entry.group
        and not entry.source.lower().endswith(_TABLES)
        and np.array_equal(first.numbers, second.numbers)
        and np.array_equal(first.pbc, second.pbc)
    )

"""Exact duplicates: the same structure given twice, and whether its labels agree.

Two entries are the same structure if cell, periodicity, charge and spin, elements and positions
are the same to 1e-8 (Å, e), in whatever order the atoms stand. Labels agree if they do to 1e-6
of their largest value. Structures that are merely close are another question:
:mod:`atomml.data.leakage`.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb
import numpy as np
from numpy.typing import NDArray

from atomml.data.entry import Entry

__all__ = ["SeenStructures", "labels_agree", "structure_digest"]

_GRID = 1e8  # per Å: what the usual text formats keep
_SAME = 1e-6  # relative; what eight digits of a text file keep, with some to spare
_COMMIT_EVERY = 50_000


def structure_digest(entry: Entry) -> bytes:
    """16 bytes that are equal for the same structure in any order of its atoms."""
    atoms = entry.atoms
    order = _order(entry)
    cell = np.rint(atoms.cell.array * _GRID).astype("<i8")
    charges = [round(float(atoms.info.get(name) or 0) * _GRID) for name in ("charge", "spin")]
    digest = blake2b(digest_size=16)
    for array in (
        cell,
        atoms.pbc.astype(np.uint8),
        np.array(charges, dtype="<i8"),
        atoms.numbers[order].astype("<i4"),
        np.rint(atoms.positions[order] * _GRID).astype("<i8"),
    ):
        digest.update(array.tobytes())
    return digest.digest()


def labels_agree(first: Entry, second: Entry) -> tuple[bool, bool]:
    """Whether labels that both entries have are equal, and whether ``second`` has none that ``first`` lacks.

    Args:
        first: An entry.
        second: An entry of the same structure; its atoms may stand in another order.
    """
    one, other = _order(first), _order(second)
    agree, nothing_new = True, True
    for name in second.labels.names:
        before, now = getattr(first.labels, name), getattr(second.labels, name)
        if before is None:
            nothing_new = False
            continue
        a, b = np.atleast_1d(before), np.atleast_1d(now)
        if name in ("forces", "magmoms"):
            a, b = a[one], b[other]
        agree = agree and bool(np.abs(a - b).max() <= _SAME * max(float(np.abs(a).max()), 1.0))
    return agree, nothing_new


def _order(entry: Entry) -> NDArray[np.intp]:
    """Atoms by element, then by position on the grid."""
    grid = np.rint(entry.atoms.positions * _GRID)
    return np.lexsort((grid[:, 2], grid[:, 1], grid[:, 0], entry.atoms.numbers))


class SeenStructures:
    """Digests of structures and the index of the first entry with each; on disk, so memory stays constant.

    Args:
        path: A scratch file; removed at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._environment = lmdb.open(
            str(path), subdir=False, lock=False, sync=False, map_size=1 << 40, meminit=False
        )
        self._transaction = self._environment.begin(write=True)
        self._pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.abort()
        self._environment.close()
        self._path.unlink(missing_ok=True)

    def first(self, digest: bytes) -> int | None:
        """Index of the first entry with this digest; None if it is new."""
        found = self._transaction.get(digest)
        return None if found is None else int.from_bytes(found, "big")

    def add(self, digest: bytes, index: int) -> None:
        """Note the index of the first entry with a digest."""
        self._transaction.put(digest, index.to_bytes(8, "big"), overwrite=False)
        self._pending += 1
        if self._pending >= _COMMIT_EVERY:
            self._transaction.commit()
            self._transaction = self._environment.begin(write=True)
            self._pending = 0

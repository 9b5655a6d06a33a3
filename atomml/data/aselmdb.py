"""``.aselmdb``, the data base of ASE rows in LMDB that OMat24, OC20 and OMol25 come in; no pickle.

Each value is a row of ``ase.db`` as JSON, compressed by zlib, under its number in ASCII; the keys
``nextid``, ``deleted_ids`` and ``metadata`` stand beside them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
from ase import Atoms

from atomml.data.structures import Frame
from atomml.errors import AtomMLError, FileFormatError
from atomml.untrusted_json import parse_json

__all__ = ["read_aselmdb"]

_LARGEST_ROW = 1 << 28  # bytes of JSON; a row of 100,000 atoms takes a tenth of it


def read_aselmdb(path: Path) -> Iterator[Frame]:
    """Yield the rows, in the order of their numbers; key-value pairs and data go to ``info``.

    Raises:
        FileFormatError: No such data base, or a row that is no row of ASE's.
    """
    try:
        environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, create=False)
    except lmdb.Error as error:
        raise FileFormatError(f"{path} is no LMDB file ({error}): take another copy.") from error
    with environment, environment.begin() as transaction:
        numbers = sorted(int(key) for key, _ in transaction.cursor() if key.isdigit())
        deleted = set(_decoded(transaction.get(b"deleted_ids"), path, "deleted_ids") or [])
        if not numbers:
            raise FileFormatError(f"{path} holds no rows of ASE's: is it of another program?")
        for index, number in enumerate(n for n in numbers if n not in deleted):
            where = f"{path}, frame {index} (row {number})"
            row = _decoded(transaction.get(str(number).encode()), path, f"row {number}")
            yield Frame(path, index, _atoms(row, where))


def _decoded(value: bytes | None, path: Path, what: str) -> Any:
    if value is None:
        return None
    from ase.io.jsonio import object_hook

    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(value, _LARGEST_ROW)
        if unpacker.unconsumed_tail:
            raise FileFormatError(f"{path}: {what} is larger than 256 MiB: take it out.")
        return parse_json(text, object_hook=object_hook)
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"{path}: {what} cannot be read ({error}): take another copy.") from error


def _atoms(row: Any, where: str) -> Atoms:
    from ase.db.row import AtomsRow

    try:
        found = AtomsRow(row)
        atoms = found.toatoms()
        more = found.data if isinstance(found.data, dict) else {}
        atoms.info.update({**more, **found.key_value_pairs})
    except AtomMLError:
        raise
    except Exception as error:
        raise FileFormatError(f"{where}: this is no row of ASE's ({error}): take another copy.") from error
    return atoms

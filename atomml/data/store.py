"""The on-disk set of labelled structures: one LMDB file, memory-mapped, without pickle.

A store is written once and never changed. It grows under a temporary name, in transactions,
and gets its own name when it is whole, so a killed writer leaves no ``set.lmdb`` behind that
lacks anything. Readers take no lock, and any number of processes read it at once.

Keys and values: an index (8 bytes, big endian) gives a record of :mod:`atomml.data.record`;
after them all stand ``header`` (JSON) and ``sizes`` (atoms of each entry, int32), so that counts,
label statistics and sizes are read without touching a record.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import lmdb
import numpy as np
from numpy.typing import NDArray

from atomml.data.dataset import Dataset, link_digest
from atomml.data.entry import Entry
from atomml.data.label_statistics import LabelStatistics
from atomml.data.record import DIGEST_SIZE, decode_entry, encode_entry
from atomml.errors import AtomMLError, FileFormatError
from atomml.files import sync_folder
from atomml.untrusted_json import parse_json

__all__ = ["STORE_FORMAT", "STORE_VERSION", "StoreDataset", "StoreWriter", "write_store"]

STORE_FORMAT = "atomml-store"
STORE_VERSION = 1
_LARGEST_MAP = 1 << 40  # bytes of address space, not of disk
_TRANSACTION = 1 << 26  # bytes of records between two commits; bounds the memory of a writer
_KEY = struct.Struct(">Q")
_HEADER, _SIZES = b"\xff" * 8 + b"header", b"\xff" * 8 + b"sizes"  # after any index


class StoreWriter:
    """Writes a store entry by entry; :meth:`finish` gives it its name.

    Used as a context manager, it removes what was not finished.

    Args:
        path: The store, ``set.lmdb``; replaced when the new one is whole.
        building: Where it grows; a temporary file beside it if None. On the same file system.
    """

    def __init__(self, path: str | Path, building: Path | None = None) -> None:
        self.path = Path(path)
        if building is None:
            descriptor, name = tempfile.mkstemp(
                prefix=f".{self.path.name}.", suffix=".tmp", dir=_folder(path)
            )
            os.close(descriptor)
            building = Path(name)
        self._building = building
        building.unlink(missing_ok=True)
        self._environment = lmdb.open(
            str(building), subdir=False, lock=False, map_size=_LARGEST_MAP, meminit=True
        )
        self._transaction = self._environment.begin(write=True)
        self._pending = 0
        self._sizes = array("i")
        self._link = b""
        self._statistics = LabelStatistics()

    def __len__(self) -> int:
        return len(self._sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def add(self, entry: Entry, record: bytes | None = None) -> int:
        """Append an entry; returns its index.

        Args:
            entry: The entry.
            record: Its record, if it is at hand.

        Raises:
            AtomMLError: The disk is full, or the entry holds what cannot be stored.
        """
        record = encode_entry(entry) if record is None else record
        index = len(self._sizes)
        try:
            self._transaction.put(_KEY.pack(index), record, append=True)
            self._pending += len(record)
            if self._pending > _TRANSACTION:
                self._commit()
        except lmdb.Error as error:
            raise AtomMLError(f"{self.path} cannot be written ({error}): is the disk full?") from error
        self._sizes.append(len(entry.atoms))
        self._link = link_digest(self._link, record[:DIGEST_SIZE])
        self._statistics.add(entry)
        return index

    def entry(self, index: int) -> Entry:
        """An entry that was added before."""
        record = self._transaction.get(_KEY.pack(index))
        if record is None:
            raise IndexError(f"no entry {index} was added")
        return decode_entry(record)

    def finish(self, sources: Iterable[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
        """Write the header, make the file durable and give it its name; returns the header.

        Args:
            sources: ``path`` and ``sha256`` of the files that the entries came from.
            more: Further keys of the header.
        """
        header = {
            "format": STORE_FORMAT,
            "version": STORE_VERSION,
            "n_entries": len(self._sizes),
            "digest": self._link.hex(),
            **self._statistics.summary(),
            "sources": list(sources),
            **more,
        }
        text = json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
        sizes = np.frombuffer(self._sizes, dtype=np.int32) if self._sizes else np.empty(0, np.int32)
        try:
            self._transaction.put(_SIZES, sizes.astype("<i4").tobytes())
            self._transaction.put(_HEADER, text)
            self._transaction.commit()
            self._environment.sync(True)
        except lmdb.Error as error:
            raise AtomMLError(f"{self.path} cannot be written ({error}): is the disk full?") from error
        self._environment.close()
        self._building.chmod(0o644)
        self._building.replace(self.path)
        sync_folder(self.path.parent)
        return json.loads(text)

    def discard(self) -> None:
        """Remove what was not finished; does nothing after :meth:`finish`."""
        with suppress(lmdb.Error):
            self._transaction.abort()
        self._environment.close()
        self._building.unlink(missing_ok=True)

    def _commit(self) -> None:
        self._transaction.commit()
        self._transaction = self._environment.begin(write=True)
        self._pending = 0


def write_store(
    path: str | Path, entries: Iterable[Entry], sources: Iterable[dict[str, Any]] = (), **more: Any
) -> dict[str, Any]:
    """Write a store of these entries atomically; returns its header.

    Args:
        path: The store; replaced when the new one is whole.
        entries: Taken one by one; memory stays bounded.
        sources: ``path`` and ``sha256`` of the files that the entries came from.
        more: Further keys of the header.
    """
    with StoreWriter(path) as writer:
        for entry in entries:
            writer.add(entry)
        return writer.finish(sources, **more)


class StoreDataset(Dataset):
    """A store on disk; entries are read where they are asked for.

    May be pickled, and carried over a fork.

    Args:
        path: The store.

    Raises:
        FileFormatError: No store, one of a later version, one cut short, or one never finished.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: _MappedFile | None = None
        self._sizes: NDArray[np.int64] | None = None
        self.header = self._read_header()

    def __len__(self) -> int:
        return int(self.header["n_entries"])

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry, from the index."""
        if self._sizes is None:
            raw = self._get(_SIZES)
            sizes = np.frombuffer(b"" if raw is None else raw, dtype="<i4").astype(np.int64)
            if len(sizes) != len(self):
                raise _foreign(self.path)
            self._sizes = sizes
        return self._sizes

    @property
    def sources(self) -> list[dict[str, Any]]:
        """``path`` and ``sha256`` of the files that the entries came from."""
        return list(self.header["sources"])

    @property
    def origins(self) -> list[tuple[str, str]]:
        """The store itself: what it was made from may stand in others too."""
        return [(str(self.path), self.digest)]

    @property
    def digest(self) -> str:
        """SHA-256 over the entries in their order, from the header."""
        return str(self.header["digest"])

    @property
    def label_counts(self) -> dict[str, int]:
        """How many entries carry each label, from the header."""
        return dict(self.header["label_counts"])

    def verify(self) -> None:
        """Read every record and compare with the digest in the header.

        Raises:
            FileFormatError: An entry is damaged or missing, or the whole does not fit.
        """
        link = b""
        for index in range(len(self)):
            self._entry(index)
            link = link_digest(link, bytes(self._record(index)[:DIGEST_SIZE]))
        if link.hex() != self.digest:
            raise FileFormatError(f"{self.path} does not fit its digest: take another copy.")

    def _entry(self, index: int) -> Entry:
        return decode_entry(self._record(index), f"{self.path}, entry {index}")

    def _record(self, index: int) -> Any:
        record = self._get(_KEY.pack(index))
        if record is None:
            raise FileFormatError(f"{self.path} has no entry {index}: it is damaged; take another copy.")
        return record

    def _get(self, key: bytes) -> Any:
        if self._file is None:
            self._file = _MappedFile.of(self.path)
        try:
            return self._file.transaction.get(key)
        except lmdb.Error as error:
            raise _foreign(self.path) from error

    def _read_header(self) -> dict[str, Any]:
        text = self._get(_HEADER)
        if text is None:
            raise FileFormatError(
                f"{self.path} is no store of atomml, or was never finished: write it again."
            )
        try:
            header = parse_json(bytes(text))
        except ValueError as error:
            raise _foreign(self.path) from error
        if not isinstance(header, dict) or header.get("format") != STORE_FORMAT:
            raise _foreign(self.path)
        if header["version"] > STORE_VERSION:
            raise FileFormatError(
                f"{self.path} is a store of version {header['version']}, newer than {STORE_VERSION}: "
                "update atomml to read it."
            )
        return header

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: not the open file."""
        return {**self.__dict__, "_file": None}


class _MappedFile:
    """A file mapped read-only and one long-lived view of it.

    LMDB opens a file but once in a process, so all data sets of one file share this. Without
    locks there is nothing that a fork could spoil: the child reads the map that it inherits.
    """

    _OPEN: ClassVar[WeakValueDictionary[tuple[int, int], _MappedFile]] = WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        try:
            self.environment = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False
            )
        except lmdb.Error as error:
            raise _foreign(path) from error
        needed = (self.environment.info()["last_pgno"] + 1) * self.environment.stat()["psize"]
        if path.stat().st_size < needed:  # reading a page past the end would kill the process
            self.environment.close()
            raise FileFormatError(
                f"{path} is cut short ({path.stat().st_size} of {needed} bytes): take another copy."
            )
        self.transaction = self.environment.begin(buffers=True)

    @classmethod
    def of(cls, path: Path) -> _MappedFile:
        """The map of this file in this process."""
        if not path.is_file():
            raise FileFormatError(f"{path} is no file: check the path.")
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        found = cls._OPEN.get(identity)
        if found is None:
            found = cls._OPEN[identity] = cls(path)
        return found


def _foreign(path: Path) -> FileFormatError:
    return FileFormatError(
        f"{path} is no store of atomml, or is damaged: make one with 'atomml data import'."
    )


def _folder(path: str | Path) -> Path:
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileFormatError(f"{folder} is no folder: make it first.")
    return folder

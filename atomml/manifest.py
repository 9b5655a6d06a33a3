"""The manifest of a job of many items: what is done, what failed and why; whole after any kill.

One SQLite file in write-ahead mode with one row an item: its id, the digest of what it was
computed from, its status, how often it was attempted, the error, the result as JSON (or, in it,
the path of a file that holds it). A row is written in one transaction, so a kill leaves each item
either done or not. ``synchronous`` is NORMAL: a power cut may undo the last transactions, whose
items are then done again, and never damages the file.

One process writes a manifest at a time; a second one is refused. Processes that share a job take
a :class:`Shard` each, with a manifest of its own: SQLite is not safe on many network file systems
when several machines write one file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atomml.errors import AtomMLError, FileFormatError, OptionError

__all__ = ["DONE", "FAILED", "RUNNING", "WAITING", "Manifest", "Row", "Shard", "digest_of", "read_manifest"]

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

_APPLICATION = 0x61746D6C  # "atml", by which SQLite's header says whose file it is
_VERSION = 1
_TABLES = """
CREATE TABLE job (name TEXT NOT NULL);
CREATE TABLE items (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    error TEXT,
    result TEXT
) WITHOUT ROWID;
"""
_COLUMNS = "id, digest, status, attempt, error, result"


@dataclass(frozen=True)
class Row:
    """What the manifest knows of an item.

    Attributes:
        id: The item.
        digest: SHA-256 of what the result depends on.
        status: ``waiting``, ``running``, ``done`` or ``failed``.
        attempt: How often it was started; starts that ended with the whole job do not count.
        error: Why it failed, one sentence.
        result: What the function returned, if it is done.
    """

    id: str
    digest: str
    status: str
    attempt: int
    error: str | None
    result: Any


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count`` parts of a job, chosen by digest.

    An item's part depends on its own digest alone, not on the order or number of the others.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """``i/N`` as a shard.

        Raises:
            OptionError: It is written otherwise, or i is not within 1 to N.
        """
        first, slash, second = text.partition("/")
        if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
            raise OptionError(f"--shard {text}: write it as i/N with i from 1 to N, such as 1/8.")
        return cls(int(first), int(second))

    def holds(self, digest: str) -> bool:
        """Whether the item of this digest (hexadecimal) belongs to the shard."""
        return int(digest[:15], 16) % self.count == self.index - 1


def digest_of(*parts: str | bytes) -> str:
    """SHA-256 (hexadecimal) of several parts; where one ends and the next begins counts too."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Manifest:
    """The manifest of one job, open for writing; a context manager.

    Args:
        path: The file; made if there is none.
        job: What the job is; a manifest of another job is refused.

    Raises:
        OptionError: Another process writes it, or it is another job's.
        FileFormatError: Not a manifest, a damaged one, or one of a later version.
    """

    def __init__(self, path: str | Path, job: str) -> None:
        self.path = Path(path)
        self._ours = False
        self._lock = _lock(self.path)
        try:
            self._base = _open(self.path)
            self._prepare(job)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write it; items that were started go back to waiting."""
        if getattr(self, "_base", None) is not None:
            with closing(self._base):
                if self._ours:
                    self._release()
            del self._base
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def find(self, item: str) -> Row | None:
        """The row of an item, if there is one."""
        with _explained(self.path):
            found = self._base.execute(f"SELECT {_COLUMNS} FROM items WHERE id = ?", (item,)).fetchone()
        return None if found is None else _row(found)

    def start(self, item: str, digest: str) -> int:
        """Write that an item is begun; returns which attempt it is.

        1 for a new item, for one whose digest has changed, and for one that had come to an end.
        """
        before = self.find(item)
        goes_on = before is not None and before.digest == digest and before.status in (WAITING, RUNNING)
        attempt = before.attempt + 1 if before is not None and goes_on else 1
        self._write(item, digest, RUNNING, attempt, None, None)
        return attempt

    def finish(self, item: str, result: Any) -> None:
        """Write that an item is done.

        Raises:
            ValueError, TypeError: The result is not what JSON holds.
        """
        text = json.dumps(result, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
        self._end(item, DONE, None, text)

    def fail(self, item: str, error: str) -> None:
        """Write that an item failed, and why."""
        self._end(item, FAILED, error, None)

    def counts(self) -> dict[str, int]:
        """How many items there are of each status."""
        with _explained(self.path):
            found = self._base.execute("SELECT status, COUNT(*) FROM items GROUP BY status").fetchall()
        return dict.fromkeys((WAITING, RUNNING, DONE, FAILED), 0) | dict(found)

    def rows(self, status: str | None = None) -> Iterator[Row]:
        """The rows in the order of their ids, all or those of one status."""
        condition, values = ("", ()) if status is None else ("WHERE status = ?", (status,))
        with _explained(self.path):
            query = f"SELECT {_COLUMNS} FROM items {condition} ORDER BY id"
            for found in self._base.execute(query, values):
                yield _row(found)

    def _write(self, *values: Any) -> None:
        with _explained(self.path):
            self._base.execute(f"INSERT OR REPLACE INTO items ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", values)

    def _end(self, item: str, status: str, error: str | None, result: str | None) -> None:
        with _explained(self.path):
            self._base.execute(
                "UPDATE items SET status = ?, error = ?, result = ? WHERE id = ?",
                (status, error, result, item),
            )

    def _release(self) -> None:
        """What was running when its job ended was not its own doing: the attempt does not count."""
        self._base.execute(
            f"UPDATE items SET status = '{WAITING}', attempt = attempt - 1 WHERE status = '{RUNNING}'"
        )

    def _prepare(self, job: str) -> None:
        with _explained(self.path):
            known = _is_manifest(self._base, self.path)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            if not known:
                self._base.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._base.execute(statement)
                self._base.execute("INSERT INTO job VALUES (?)", (job,))
                self._base.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {_VERSION}")
                self._base.execute("COMMIT")
            (name,) = self._base.execute("SELECT name FROM job").fetchone()
            if name != job:
                raise OptionError(f"{self.path} is the manifest of {name!r}, not of {job!r}: give another.")
            self._ours = True
            self._release()


def read_manifest(path: str | Path) -> list[Row]:
    """Every row of a manifest, in the order of ids; also while another process writes it, or begins to.

    Raises:
        FileFormatError: There is no such file, it is no manifest, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path} is no file: check the path.")
    with _explained(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
        if not _is_manifest(base, path):
            return []  # its job has only just begun, or was killed as it did
        return [_row(found) for found in base.execute(f"SELECT {_COLUMNS} FROM items ORDER BY id")]


def _open(path: Path) -> sqlite3.Connection:
    with _explained(path):
        return sqlite3.connect(path, isolation_level=None)


def _is_manifest(base: sqlite3.Connection, path: Path) -> bool:
    """Whether it is one; False for an empty file, an error for anything else."""
    (application,) = base.execute("PRAGMA application_id").fetchone()
    (version,) = base.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION and version == _VERSION:
        return True
    if application == _APPLICATION and version > _VERSION:
        raise FileFormatError(f"{path} was written by a newer atomml: update atomml to go on with it.")
    if base.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,):
        raise _foreign(path)
    return False


def _row(found: tuple[Any, ...]) -> Row:
    item, digest, status, attempt, error, result = found
    return Row(item, digest, status, attempt, error, None if result is None else json.loads(result))


def _foreign(path: Path) -> FileFormatError:
    return FileFormatError(f"{path} is no manifest of atomml: give another path.")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise AtomMLError(f"{path} cannot be read or written ({error}): is the disk full?") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise FileFormatError(f"{path} is no manifest of atomml, or is damaged ({error}).") from error


def _lock(path: Path) -> int | None:
    """A lock that the kernel drops with the process, on a file of its own beside the manifest.

    Not on the manifest itself: closing any descriptor of it would drop the locks of SQLite.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    beside = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror}): give another path.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OptionError(
            f"Another process writes the manifest {path}: wait for it, or give each process a shard."
        ) from error
    return descriptor

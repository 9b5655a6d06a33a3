"""Sets of labelled structures: in memory, on disk, several in a row, or a selection of one."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from atomml.data.entry import LABELS, Entry
from atomml.data.label_keys import LabelKeys, entries_of
from atomml.data.record import DIGEST_SIZE, encode_entry
from atomml.errors import FileFormatError

if TYPE_CHECKING:
    from atomml.data.sources import Source

__all__ = [
    "ConcatDataset",
    "Dataset",
    "HeadDataset",
    "LabelsLeftOut",
    "ListDataset",
    "Subset",
    "content_digest",
    "link_digest",
    "open_dataset",
    "store_entries",
]

_log = logging.getLogger(__name__)


class Dataset(Sequence[Entry], ABC):
    """A sequence of entries whose sizes are known without loading them.

    ``dataset[i]`` loads one entry and gives arrays of its own; ``dataset[2:8]`` is a
    :class:`Subset`. Sets may be sent to other processes and read there.
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many entries there are."""

    @abstractmethod
    def _entry(self, index: int) -> Entry:
        """Entry ``index``, which lies in range."""

    @property
    @abstractmethod
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry; costs no loading."""

    @property
    @abstractmethod
    def sources(self) -> list[dict[str, Any]]:
        """``path`` and ``sha256`` of each file behind the set."""

    @property
    def digest(self) -> str:
        """SHA-256 over the entries in their order: the same content, the same digest, in a store too."""
        return content_digest(encode_entry(entry)[:DIGEST_SIZE] for entry in self)

    @property
    def origins(self) -> list[tuple[str, str]]:
        """Path and digest of each file or store that entries were taken from, whole as it is.

        Parts of a set have the origins of the set. A set without files has one, with its own digest.
        """
        return [("", self.digest)]

    @property
    def label_counts(self) -> dict[str, int]:
        """How many entries carry each of energy, forces, stress and magmoms."""
        counts = dict.fromkeys(LABELS, 0)
        for entry in self:
            for name in entry.labels.names:
                counts[name] += 1
        return counts

    def subset(self, indices: Iterable[int]) -> Subset:
        """The entries of these indices, in this order."""
        return Subset(self, indices)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Subset: ...

    def __getitem__(self, index: int | slice) -> Entry | Subset:
        """An entry, or a selection.

        Raises:
            IndexError: No such entry.
        """
        if isinstance(index, slice):
            return Subset(self, range(*index.indices(len(self))))
        position = int(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"entry {index} of a set of {len(self)}")
        return self._entry(position % len(self))

    def __iter__(self) -> Iterator[Entry]:
        """Each entry once, in order."""
        return (self._entry(index) for index in range(len(self)))


class ListDataset(Dataset):
    """Entries in memory.

    Args:
        entries: The entries; kept as they are.
        sources: Files that they came from.
    """

    def __init__(self, entries: Iterable[Entry], sources: Iterable[dict[str, Any]] = ()) -> None:
        self._entries = list(entries)
        self._sources = list(sources)

    def __len__(self) -> int:
        return len(self._entries)

    def _entry(self, index: int) -> Entry:
        return self._entries[index]

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry."""
        return np.array([len(entry.atoms) for entry in self._entries], dtype=np.int64)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """``path`` and ``sha256`` of each file behind the set."""
        return list(self._sources)

    @property
    def origins(self) -> list[tuple[str, str]]:
        """Path and digest of each file."""
        known = [(str(source.get("path")), str(source.get("sha256"))) for source in self._sources]
        return known or super().origins


class _View(Dataset):
    """Another set, seen in another way; it comes from the same files."""

    def __init__(self, parent: Dataset) -> None:
        self.parent = parent

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Files behind the whole set."""
        return self.parent.sources

    @property
    def origins(self) -> list[tuple[str, str]]:
        """Those of the whole set."""
        return self.parent.origins


class Subset(_View):
    """Some entries of another set, in an order of their own.

    Args:
        parent: The set.
        indices: Which of its entries.

    Raises:
        IndexError: An index outside the set.
    """

    def __init__(self, parent: Dataset, indices: Iterable[int]) -> None:
        super().__init__(parent)
        self.indices = np.fromiter(indices, dtype=np.int64)
        n = len(parent)
        if len(self.indices) and not (-n <= self.indices.min() and self.indices.max() < n):
            raise IndexError(f"an index lies outside the set of {n} entries")
        self.indices %= max(n, 1)

    def __len__(self) -> int:
        return len(self.indices)

    def _entry(self, index: int) -> Entry:
        return self.parent[int(self.indices[index])]

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry."""
        return self.parent.n_atoms[self.indices]


class ConcatDataset(Dataset):
    """Several sets, one after another."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _entry(self, index: int) -> Entry:
        part = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[part - 1]) if part else 0
        return self.parts[part][index - before]

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry."""
        return np.concatenate([part.n_atoms for part in self.parts] or [np.empty(0, np.int64)])

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Files behind all of the sets."""
        return [source for part in self.parts for source in part.sources]

    @property
    def origins(self) -> list[tuple[str, str]]:
        """Those of all of the sets."""
        return [origin for part in self.parts for origin in part.origins]

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the parts; that of the only part if there is one."""
        if len(self.parts) == 1:
            return self.parts[0].digest
        return content_digest(bytes.fromhex(part.digest) for part in self.parts)

    @property
    def label_counts(self) -> dict[str, int]:
        """How many entries carry each label."""
        counts = [part.label_counts for part in self.parts]
        return {name: sum(part[name] for part in counts) for name in LABELS}


class _Changed(_View):
    """Another set, each of whose entries is changed as it is read."""

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """``(n_entries,)`` atoms of each entry."""
        return self.parent.n_atoms


class HeadDataset(_Changed):
    """Another set, whose entries belong to a head of a model.

    Args:
        parent: The set.
        head: The head.
    """

    def __init__(self, parent: Dataset, head: str) -> None:
        super().__init__(parent)
        self.head = head

    def _entry(self, index: int) -> Entry:
        return replace(self.parent[index], head=self.head)

    @property
    def digest(self) -> str:
        """SHA-256 over head and set."""
        return hashlib.sha256(f"{self.head}\n{self.parent.digest}".encode()).hexdigest()

    @property
    def label_counts(self) -> dict[str, int]:
        """How many entries carry each label."""
        return self.parent.label_counts


class LabelsLeftOut(_Changed):
    """Another set without some of its labels.

    Args:
        parent: The set.
        names: Labels that its entries lose.
    """

    def __init__(self, parent: Dataset, names: Sequence[str]) -> None:
        super().__init__(parent)
        self.names = tuple(names)

    def _entry(self, index: int) -> Entry:
        entry = self.parent[index]
        return replace(entry, labels=replace(entry.labels, **dict.fromkeys(self.names)))


def link_digest(link: bytes, digest: bytes) -> bytes:
    """The next link of the chain of SHA-256 that is the digest of a set.

    A chain is carried on from 32 bytes, so a store keeps it as it grows.

    Args:
        link: The link before; empty for the first entry.
        digest: Digest of the record of the next entry.
    """
    return hashlib.sha256(link + digest).digest()


def content_digest(digests: Iterable[bytes]) -> str:
    """The chain of SHA-256 over the digests of records, in hexadecimal; "" for an empty set."""
    link = b""
    for digest in digests:
        link = link_digest(link, digest)
    return link.hex()


def open_dataset(
    paths: str | Path | Sequence[str | Path],
    keys: LabelKeys | None = None,
    *,
    unlabelled: bool = False,
) -> Dataset:
    """The entries of files: ``.lmdb`` stores by memory map, any other file read whole into memory.

    Args:
        paths: Files and folders; one or several. ``FILE@INDEX`` is not taken here.
        keys: Where labels stand in files other than stores; the usual names if None.
        unlabelled: Whether a file without any label is taken.

    Raises:
        InputError: A file that cannot be read, a label that is wrong, a file without labels, the output of
            a run whose electrons did not converge.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise FileFormatError("no file is given: name at least one.")
    parts = [_open(Path(path), keys or LabelKeys(), unlabelled) for path in given]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def store_entries(path: Path, keys: LabelKeys) -> Dataset:
    """A store, without the labels that the keys leave out; a warning says what does not apply to it.

    Raises:
        FileFormatError: No store, or a damaged one.
    """
    from atomml.data.store import StoreDataset

    store = StoreDataset(path)
    if keys.about_files:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in keys.about_files)
        _log.warning(
            "%s is a store, with the labels that it was written with: %s says nothing of it.", path, told
        )
    return LabelsLeftOut(store, keys.left_out) if keys.left_out else store


def _open(path: Path, keys: LabelKeys, unlabelled: bool) -> Dataset:
    if path.suffix == ".lmdb":
        return store_entries(path, keys)
    from atomml.data.sources import find_sources, source_record

    entries: list[Entry] = []
    sources, passed_over = find_sources([path])
    if passed_over:
        _log.info(
            "%s: %d files are passed over ('atomml data import %s --dry-run' lists them).",
            path, len(passed_over), path,
        )  # fmt: skip
    for source in sources:
        entries += _labelled(source, keys, unlabelled)
    return ListDataset(entries, map(source_record, sources))


def _labelled(source: Source, keys: LabelKeys, unlabelled: bool) -> Iterator[Entry]:
    """The entries of one source.

    Raises:
        FileFormatError: The output of a run whose electrons did not converge everywhere.
    """
    from atomml.data.convergence import inspect_run
    from atomml.data.sources import read_source

    run = inspect_run(source.path) if source.path.is_file() else None
    if run is None:
        return entries_of(read_source(source), source.keys(keys), unlabelled=unlabelled)
    n_bad = len(run.converged) - sum(run.converged)
    if n_bad:
        raise FileFormatError(
            f"{source.path}: {n_bad} of {len(run.converged)} self-consistent fields did not converge: make a "
            "store of the runs with 'atomml data import', which leaves out and lists such."
        )
    return entries_of(read_source(source), keys.in_ase_units(), unlabelled=unlabelled, method=run.method)

"""One source at a time, on its way into a store: read, checked, and left as a file of records.

A part is named by what it was made of (the source's digest, keys, options), so an import that
was killed finds what it had finished; its JSON report is written last and says that it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from atomml.data.convergence import RunRecord, inspect_run
from atomml.data.entry import Entry
from atomml.data.label_keys import LabelKeys, entries_of
from atomml.data.label_reader import UNREAD_COLUMNS
from atomml.data.record import encode_entry
from atomml.data.sources import Source, read_source, source_record
from atomml.data.structures import Frame
from atomml.errors import AtomMLError, FileFormatError, MissingExtraError
from atomml.files import write_atomic, write_atomic_with

__all__ = ["PartReport", "PartTask", "make_part", "read_part", "remove_parts"]

_VERSION = 2  # of the layout of a part, and of what is read into it
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class PartTask:
    """What a worker needs to make a part.

    Attributes:
        source: Where to read.
        keys: Where labels stand.
        folder: Where parts go.
        keep_unconverged: Whether frames whose electrons did not converge are taken.
        unlabelled: Whether a source without labels is taken.
    """

    source: Source
    keys: LabelKeys
    folder: Path
    keep_unconverged: bool = False
    unlabelled: bool = False


@dataclass
class PartReport:
    """What became of a source.

    Attributes:
        path: The source.
        sha256: Its digest.
        part: Name of the file of records; "" if there is none.
        n_frames: Structures in the source, unconverged ones included.
        n_entries: Records in the part.
        unconverged: Self-consistent fields that did not converge, by their place in the source.
        unfinished: Whether the run was cut short; what it finished is taken.
        error: Why nothing of the source was taken; "" if something was.
        exit_code: Of the error.
        method: Level of theory.
        unread: Columns of vectors that were not read, of entries without forces.
    """

    path: str
    sha256: str = ""
    part: str = ""
    n_frames: int = 0
    n_entries: int = 0
    unconverged: list[int] = field(default_factory=list)
    unfinished: bool = False
    error: str = ""
    exit_code: int = 0
    method: str = ""
    unread: str = ""


def make_part(task: PartTask) -> PartReport:
    """Read a source into a part, or find the part that an earlier import made."""
    try:
        record = source_record(task.source)
    except OSError as error:
        return PartReport(
            str(task.source.path), error=f"{task.source.path} cannot be read ({error}).", exit_code=2
        )
    name = _name(task, record["sha256"])
    report_file = task.folder / f"{name}.json"
    if report_file.is_file():
        return PartReport(**json.loads(report_file.read_bytes()))
    report = PartReport(str(task.source.path), record["sha256"], part=f"{name}.part")
    try:
        write_atomic_with(task.folder / report.part, lambda stream: _write(stream, task, report))
    except MissingExtraError as error:  # may be there next time
        return PartReport(report.path, report.sha256, error=str(error), exit_code=error.exit_code)
    except AtomMLError as error:
        report.part, report.n_entries = "", 0
        report.error, report.exit_code = str(error), error.exit_code
    write_atomic(report_file, json.dumps(asdict(report)))
    return report


def read_part(folder: Path, report: PartReport) -> Iterator[bytes]:
    """The records of a part, in order.

    Raises:
        FileFormatError: It has fewer than its report says.
    """
    n_read = 0
    with (folder / report.part).open("rb") as stream:
        while head := stream.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            yield stream.read(length)
            n_read += 1
    if n_read != report.n_entries:
        raise FileFormatError(f"{folder / report.part} is damaged: delete {folder} and import again.")


def _name(task: PartTask, sha256: str) -> str:
    options = [asdict(task.keys), task.keep_unconverged, task.unlabelled]
    text = json.dumps([_VERSION, task.source.kind, str(task.source.path), sha256, options])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(stream: Any, task: PartTask, report: PartReport) -> None:
    for entry in _entries(task, report):
        record = encode_entry(entry)
        stream.write(_LENGTH.pack(len(record)) + record)
        report.n_entries += 1
        report.unread = report.unread or str(entry.atoms.info.get(UNREAD_COLUMNS, ""))
        report.n_frames = max(report.n_frames, report.n_entries)


def _entries(task: PartTask, report: PartReport) -> Iterable[Entry]:
    if task.source.kind == "store":
        from atomml.data.dataset import store_entries

        return store_entries(task.source.path, task.keys)
    run = inspect_run(task.source.path) if task.source.path.is_file() else None
    if run is None:
        return entries_of(read_source(task.source), task.source.keys(task.keys), unlabelled=task.unlabelled)
    report.unfinished, report.method = not run.finished, run.method
    report.unconverged = [i for i, converged in enumerate(run.converged) if not converged]
    frames = list(_frames(task.source, run))
    if not run.converged and not any(frame.atoms.calc for frame in frames):
        return ()  # not one step was finished
    report.n_frames = max(len(frames), len(run.converged))
    if not task.keep_unconverged:
        frames = _converged(frames, run, task.source.path)
    if not frames:
        return ()
    return entries_of(frames, task.keys.in_ase_units(), unlabelled=task.unlabelled, method=run.method)


def _frames(source: Source, run: RunRecord) -> Iterator[Frame]:
    """The frames that a reader makes of a run; none if it fails on one that never converged."""
    try:
        yield from read_source(source)
    except FileFormatError:
        if any(run.converged):
            raise


def _converged(frames: Sequence[Frame], run: RunRecord, path: Path) -> list[Frame]:
    """Frames whose electrons converged.

    Readers differ in whether they give a frame for a field that did not converge.

    Raises:
        FileFormatError: Some did not converge, and which frames they are cannot be told.
    """
    n_good = sum(run.converged)
    if n_good == len(run.converged) or len(frames) == n_good:
        return list(frames)
    if len(frames) == len(run.converged):
        return list(compress(frames, run.converged))
    if not n_good:
        return []
    raise FileFormatError(
        f"{path}: {len(run.converged) - n_good} of {len(run.converged)} self-consistent fields did not "
        f"converge, and the file gives {len(frames)} frames, so it is not known which they are: "
        "pass --keep-unconverged to take them all."
    )


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts with what is in it; reports first, for a report promises its part."""
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix != ".json"):
        file.unlink(missing_ok=True)
    os.rmdir(folder)  # noqa: PTH106

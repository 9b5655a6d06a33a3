"""``data import``: labelled structures of any origin in one store, checked, each with its provenance."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from atomml.data.label_keys import LabelKeys
from atomml.errors import FileFormatError, OptionError, RunFailedError
from atomml.options import option

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.data.import_parts import PartReport, PartTask
    from atomml.data.sources import Source

__all__ = ["ImportOptions", "ImportResult", "import_data", "planned_sources"]

_LARGEST_PRESSURE = 400.0  # GPa; the Earth's centre has 364. 3 GPa are 481 if they are taken for eV/Å³
_LARGEST_FORCE = 100.0  # eV/Å; few structures that a model should learn have such forces on every atom
_MOST_LISTED = 1000  # conflicts and refusals kept one by one; beyond it they are only counted


@dataclass(frozen=True)
class ImportOptions(LabelKeys):
    """Options of ``data import``."""

    format: str = option("auto", "auto, or dpdata:FORMAT to read with dpdata", metavar="FORMAT")
    workers: int | None = option(None, "processes that read; as many as there are CPUs if none", minimum=1)
    keep_unconverged: bool = option(False, "take calculations whose electrons did not converge")
    keep_duplicates: bool = option(False, "keep a structure that is given twice with the same labels")
    unlabelled: bool = option(False, "take files without labels")
    overwrite: bool = option(False, "replace an existing store")


@dataclass
class ImportResult:
    """What ``data import`` returns.

    Attributes:
        store: The store that was written.
        header: Its header: counts, elements, groups, label statistics, sources, digest.
        sources: What became of each source, in order.
        duplicates: Structures left out because they were there with the same labels.
        conflicts: Structures that are there twice with labels that differ; both are kept.
        passed_over: Files in folders that were not read, with the reason.
        doubts: Sentences about labels of a size that no unit of the options explains.
    """

    store: Path
    header: dict[str, Any]
    sources: list[dict[str, Any]]
    duplicates: int = 0
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Sources of which nothing was taken because of an error."""
        return [source for source in self.sources if source["error"]]

    @property
    def n_unconverged(self) -> int:
        """Self-consistent fields that did not converge."""
        return sum(len(source["unconverged"]) for source in self.sources)

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {
            "command": "data import",
            "store": str(self.store),
            "n_duplicates": self.duplicates,
            "n_unconverged": self.n_unconverged,
            "n_failed": len(self.failed),
            "conflicts": self.conflicts,
            "doubts": self.doubts,
            "passed_over": [{"path": path, "reason": reason} for path, reason in self.passed_over],
            "files": self.sources,
            **self.header,
        }


def planned_sources(
    paths: Sequence[str | Path], file_format: str = "auto"
) -> tuple[list[Source], list[tuple[str, str]]]:
    """Sources behind files, folders and patterns, and what is passed over; nothing is read whole.

    Raises:
        FileFormatError: Nothing is there.
    """
    from glob import glob, has_magic

    from atomml.data.sources import find_sources

    expanded: list[str] = []
    for path in map(str, paths):
        is_pattern = has_magic(path) and not Path(path).exists()
        matches = sorted(glob(path, recursive=True)) if is_pattern else [path]  # noqa: PTH207 (absolute ones too)
        if not matches:
            raise FileFormatError(f"{path} matches no file: check the pattern.")
        expanded += matches
    return find_sources(expanded, file_format)


def import_data(
    paths: str | Path | Sequence[str | Path],
    to: str | Path,
    options: ImportOptions | None = None,
    *,
    listen: Callable[[Mapping[str, Any]], None] | None = None,
) -> ImportResult:
    """Read files and folders into a store.

    The same sources and options give the same content digest, whatever the number of workers.
    Beside the store stands ``set.lmdb.json`` with what became of each file. A killed import
    leaves ``.set.lmdb.parts/``; the same call goes on from there.

    Args:
        paths: Files, folders and patterns.
        to: The store, ``NAME.lmdb``.
        options: As on the command line; the defaults if None.
        listen: Called with an event for each source (``step``, ``of``).

    Raises:
        InputError: A path that does not exist; a store that does; nothing that could be taken.
        RunFailedError: A worker was killed.
    """
    from atomml.data.import_parts import PartTask, remove_parts
    from atomml.files import remove_leftovers, write_atomic
    from atomml.run_checks import plain

    options = options or ImportOptions()
    target = _checked_target(Path(to), options.overwrite)
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    sources, passed_over = planned_sources(given, options.format)
    sources = [source for source in sources if source.path.resolve() != target.resolve()]
    folder = target.with_name(f".{target.name}.parts")
    keys = LabelKeys.of(options)
    tasks = [
        PartTask(source, keys, folder, options.keep_unconverged, options.unlabelled) for source in sources
    ]
    with _locked(folder):
        remove_leftovers(target)
        remove_leftovers(_summary_path(target))
        reports = []
        for number, report in enumerate(_reports(tasks, options.workers), 1):
            reports.append(report)
            if listen is not None:
                listen({"step": number, "of": len(tasks)})
        _check_any(reports)
        result = _merge(folder, target, reports, options)
        result.passed_over, result.doubts = passed_over, list(_doubts(result.header["statistics"]))
        write_atomic(_summary_path(target), json.dumps(plain(result.summary()), indent=1, ensure_ascii=False))
        remove_parts(folder)
    return result


def _checked_target(target: Path, overwrite: bool) -> Path:
    if target.suffix != ".lmdb":
        raise OptionError(f"{target} is no name of a store: give --to NAME.lmdb.")
    if target.exists() and not overwrite:
        raise OptionError(f"{target} exists: give another --to, or --overwrite to replace it.")
    if not target.parent.is_dir():
        raise OptionError(f"{target.parent} is no folder: make it first.")
    return target


def _summary_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder of parts, held by this process alone; it stays if the import does not end well."""
    import fcntl

    folder.mkdir(exist_ok=True)
    stream: TextIO
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OptionError(f"Another import writes {folder}: wait for it, or give another --to.") from None
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        yield


def _reports(tasks: Sequence[PartTask], workers: int | None) -> Iterator[PartReport]:
    """What became of each source, in order, made by as many processes as there are workers."""
    from atomml.data.import_parts import make_part

    n_workers = min(workers or os.cpu_count() or 1, len(tasks))
    if n_workers <= 1:
        yield from map(make_part, tasks)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(make_part, tasks)
        except BrokenProcessPool as error:
            raise RunFailedError(
                "A process that reads was killed, perhaps for want of memory: give the same command again "
                "to go on, with fewer --workers."
            ) from error


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that leads ends the others."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check_any(reports: Sequence[PartReport]) -> None:
    """Refuse if there is nothing to write."""
    if any(report.n_entries for report in reports):
        return
    errors = [report for report in reports if report.error]
    if errors:
        more = f" ({len(errors) - 1} more files failed)" if len(errors) > 1 else ""
        raise FileFormatError(f"Nothing could be imported: {errors[0].error}{more}")
    n_refused = sum(len(report.unconverged) for report in reports)
    if not n_refused:
        raise FileFormatError(
            f"Nothing could be imported: no calculation is finished in {len(reports)} files (the first is "
            f"{reports[0].path})."
        )
    raise FileFormatError(
        f"Nothing could be imported: none of {n_refused} calculations converged "
        f"(the first is {reports[0].path}): pass --keep-unconverged to take them all the same."
    )


def _merge(folder: Path, target: Path, reports: Sequence[PartReport], options: ImportOptions) -> ImportResult:
    """Parts in the order of their sources into one store, each structure once."""
    from dataclasses import asdict

    from atomml.data.duplicates import SeenStructures
    from atomml.data.import_parts import read_part
    from atomml.data.record import decode_entry
    from atomml.data.store import StoreWriter

    result = ImportResult(target, {}, [asdict(report) for report in reports])
    writer = StoreWriter(target, folder / "store.building")
    with writer, SeenStructures(folder / "seen") as seen:
        for report, source in zip(reports, result.sources, strict=True):
            source.pop("part")
            source["n_duplicates"] = -result.duplicates
            for record in read_part(folder, report) if report.part else ():
                entry = decode_entry(record, report.path)
                if options.keep_duplicates or _is_new(entry, seen, writer, result):
                    writer.add(entry, record)
            source["n_duplicates"] += result.duplicates
            source["n_entries"] -= source["n_duplicates"]
        records = [
            {key: source[key] for key in ("path", "sha256", "n_entries")}
            for source in result.sources
            if not source["error"]
        ]
        result.header = writer.finish(records)
    return result


def _doubts(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What is too large to be in the unit that it was read in; ``data report`` looks closer."""
    pressure = statistics.get("pressure_GPa", {"mean": 0.0, "std": 0.0})
    usual = (pressure["mean"] ** 2 + pressure["std"] ** 2) ** 0.5
    if usual > _LARGEST_PRESSURE:
        yield f"Pressures of {usual:.3g} GPa (root mean square) are hardly meant: check --stress-unit."
    force = statistics.get("force_rms_eV_per_A", 0.0)
    if force > _LARGEST_FORCE:
        yield f"Forces of {force:.3g} eV/Å (root mean square) are hardly meant: check --forces-unit."


def _is_new(entry: Entry, seen: Any, writer: Any, result: ImportResult) -> bool:
    """Whether an entry goes in: a new structure, or one whose labels say something else or more."""
    from atomml.data.duplicates import labels_agree, structure_digest

    digest = structure_digest(entry)
    index = seen.first(digest)
    if index is None:
        seen.add(digest, len(writer))
        return True
    first = writer.entry(index)
    agree, nothing_new = labels_agree(first, entry)
    if agree and nothing_new:
        result.duplicates += 1
        return False
    if not agree and len(result.conflicts) < _MOST_LISTED:
        energies = [first.labels.energy, entry.labels.energy]
        result.conflicts.append({"first": first.where, "second": entry.where, "energies_eV": energies})
    return True

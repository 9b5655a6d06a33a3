"""``data label``: structures labelled by one method, in parallel, through crashes and interruptions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options, option_units
from atomml.data.label import METHODS, Engine, LabelSettings
from atomml.data.label_keys import LabelKeys
from atomml.errors import InputError, OptionError, RunFailedError
from atomml.manifest import Manifest, Shard
from atomml.options import option
from atomml.result import Result
from atomml.run import RunFolder, open_run

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.jobs import Item, Outcome

__all__ = ["DataLabelOptions", "DataLabelResult", "data_label", "plan_labels"]

MANIFEST = "manifest.sqlite"


@dataclass(frozen=True)
class DataLabelOptions(LabelSettings, LabelKeys):
    """Options of ``data label``; keys and units say what the files hold, for groups, charges and spins."""

    method: str = option("", "what to label with: pbe/def2-svp, gfn2, a model ...", metavar="METHOD")
    charge: int | None = option(None, "total charge of every structure; else as the file says", unit="e")
    spin: int | None = option(None, "unpaired electrons of every structure; else as the file says", minimum=0)
    drop_cell: bool = option(False, "label molecules that stand in a periodic box as molecules")
    on_error: str = option(
        "stop",
        "what to do with a structure that the method cannot take: refuse before anything runs, or skip it",
        choices=("stop", "skip"),
    )
    workers: int | None = option(None, "processes that compute; as many as there are CPUs if none", minimum=1)
    threads: int = option(1, "CPU threads of each; with more than 1 the last bits may vary", minimum=1)
    retries: int = option(2, "how often a structure is tried again after its worker died", minimum=0)
    redo_failed: bool = option(False, "on --resume, try again what failed")
    shard: str | None = option(None, "label part i of N of the structures, chosen by digest", metavar="i/N")

    def settings(self) -> LabelSettings:
        """The part that the engines read."""
        return LabelSettings(**{entry.name: getattr(self, entry.name) for entry in fields(LabelSettings)})


@dataclass(kw_only=True)
class DataLabelResult(Result):
    """What ``data_label`` returns.

    Attributes:
        method: The exact method with versions.
        n_structures: Structures given, or of this shard.
        n_labelled: Of them, those with a label now.
        n_failed: Of them, those without.
        n_second_order: Labels whose SCF needed the second-order solver.
        output: The file with the labelled entries; None where they are in ``entries``.
        failures: Id, attempt and error of what failed; all of them are in ``failed.csv``.
        entries: The labelled entries, where there is no ``output``.
    """

    method: str = ""
    n_structures: int = 0
    n_labelled: int = 0
    n_failed: int = 0
    n_second_order: int = 0
    output: str | None = None
    failures: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})
    entries: list[Entry] = field(default_factory=list, metadata={"summary": False}, repr=False)


def data_label(
    structures: Any,
    *,
    to: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: Executor | None = None,
    options: DataLabelOptions | None = None,
    **overrides: Any,
) -> DataLabelResult:
    """Label structures and write them, in the order given, to a store or an extended XYZ file.

    The result has the same bits whatever the number of workers and interruptions. What fails is
    listed in ``failed.csv`` and left out.

    Args:
        structures: Files, ``FILE@INDEX``, stores, ``ase.Atoms``, entries, or several of these.
        to: ``set.lmdb`` or ``set.extxyz``. With a shard, its number is put into the name. None
            returns the entries in the result.
        out: Run folder with the manifest; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder, and a file ``to``, of an earlier run.
        executor: Any executor; a pool of our own if None.
        options: All options at once.
        **overrides: Fields of :class:`DataLabelOptions`, over those of ``options``.

    Raises:
        InputError: A wrong option, or a structure that the method cannot take.
        RunFailedError: Not one structure could be labelled.
    """
    chosen = build_options(DataLabelOptions, (as_config(options) if options else {}) | overrides)
    plan = plan_labels(structures, chosen)
    target = _target(to, plan.shard, resume or overwrite)
    config = {"structures": plan.names, "to": None if to is None else str(to)} | as_config(chosen)
    with open_run(
        out,
        command="data label",
        config=config,
        resume=resume,
        overwrite=overwrite,
        may_change=("workers", "threads", "retries", "redo_failed"),
        units=option_units(DataLabelOptions),
    ) as run:
        return _Job(run, plan, target, executor).go()


@dataclass(frozen=True)
class LabelPlan:
    """What will be labelled, read and checked once.

    Attributes:
        sources: Files with their index, and entries given in Python.
        options: The options.
        engine: The method, ready.
        shard: Which part; None for all.
        n_structures: Structures of this part.
        n_refused: Structures of this part that the method cannot take.
        smallest_cell: Smallest distance between faces of a periodic cell, Å; infinity without one.
    """

    sources: list[Any]
    options: DataLabelOptions
    engine: Engine
    shard: Shard | None
    n_structures: int = 0
    n_refused: int = 0
    smallest_cell: float = float("inf")

    @property
    def names(self) -> list[str]:
        """The sources, as the configuration names them."""
        return [source if isinstance(source, str) else "structure" for source in self.sources]

    def entries(self) -> Iterator[tuple[str, str, Entry]]:
        """Id, digest and entry of each structure of this part, in the order given."""
        from atomml.data.label import structure_digest

        for place, (name, entry) in enumerate(_entries(self.sources, self.options)):
            entry = _as_asked(entry, self.options)
            digest = structure_digest(entry.atoms)
            if self.shard is None or self.shard.holds(digest):
                yield f"{place:07d} {name}", digest, entry

    def problem(self, entry: Entry, where: str) -> str | None:
        """Why the method cannot take the structure; None if it can."""
        try:
            self.engine.check(entry.atoms, where)
        except InputError as error:
            return str(error)
        return None


def plan_labels(structures: Any, options: DataLabelOptions) -> LabelPlan:
    """Read and check everything before anything is computed.

    Raises:
        InputError: A wrong option, an unreadable file, or, with ``on_error`` stop, a structure that
            the method cannot take.
    """
    from atomml.data.label import engine_of

    if not options.method:
        raise OptionError(f"Say what to label with, --method: {', '.join(METHODS)}.")
    shard = Shard.parse(options.shard) if options.shard is not None else None
    plan = LabelPlan(_sources(structures), options, engine_of(options.method, options.settings()), shard)
    n_structures = n_refused = 0
    first, thinnest = "", float("inf")
    for name, _, entry in plan.entries():
        n_structures += 1
        thinnest = min(thinnest, _thickness(entry))
        problem = plan.problem(entry, _place(name))
        if problem is not None:
            n_refused += 1
            first = first or problem
            if options.on_error == "stop":
                raise InputError(f"{problem.rstrip('.')} (--on-error skip goes on without it).")
    if n_structures and n_refused == n_structures:
        raise InputError(first)
    if not n_structures and shard is None:
        raise InputError("There is no structure to label: give at least one.")
    return replace(plan, n_structures=n_structures, n_refused=n_refused, smallest_cell=thinnest)


class _Job:
    """One run: items through the manifest, then the output in the order given."""

    def __init__(
        self, run: RunFolder, plan: LabelPlan, target: Path | None, executor: Executor | None
    ) -> None:
        self.run, self.plan, self.target, self.executor = run, plan, target, executor
        self.result = DataLabelResult(method=plan.engine.method, n_structures=plan.n_structures)
        self.result.folder = run.path if run.kept else None
        self.refused: dict[str, str] = {}
        self.started = time.perf_counter()
        self.computed = 0

    def go(self) -> DataLabelResult:
        from atomml.data.entry_files import write_entries

        self._warn_of_small_cells()
        inputs = _input_records(self.plan.sources)
        with Manifest(self.run.file(MANIFEST), "data label") as manifest:
            self._compute(manifest)
            labelled = self._labelled(manifest)
            if self.target is None:
                self.result.entries = list(labelled)
                self.result.n_labelled = len(self.result.entries)
            else:
                self.result.n_labelled = write_entries(self.target, labelled, inputs)
                self.result.output = str(self.target)
        return self._finish(inputs)

    def _compute(self, manifest: Manifest) -> None:
        from atomml.data.label import label_payload
        from atomml.jobs import run_jobs

        options = self.plan.options
        outcomes = run_jobs(
            self._items(),
            label_payload,
            manifest,
            context=self.plan.engine.method,
            executor=self.executor,
            workers=options.workers,
            threads=options.threads,
            retries=options.retries,
            redo_failed=options.redo_failed,
        )
        for number, outcome in enumerate(outcomes, 1):
            self._tell(number, outcome)

    def _items(self) -> Iterator[Item]:
        from atomml.jobs import Item

        options, settings = self.plan.options, self.plan.options.settings()
        for name, digest, entry in self.plan.entries():
            problem = self.plan.problem(entry, _place(name))
            if problem is not None:
                self.refused[name] = problem
            else:
                yield Item(name, (_bare(entry), options.method, settings), digest)

    def _tell(self, number: int, outcome: Outcome) -> None:
        if outcome.kept:
            return
        self.computed += 1
        total = self.plan.n_structures - self.plan.n_refused
        elapsed = time.perf_counter() - self.started
        self.run.event(
            "label",
            step=number,
            of=total,
            id=outcome.id,
            attempt=outcome.attempt,
            error=outcome.error,
            remaining_s=elapsed / self.computed * (total - number),
        )

    def _labelled(self, manifest: Manifest) -> Iterator[Entry]:
        """The entries that have a label, in the order given; what has none is counted."""
        from atomml.data.label import labels_from_json

        for name, _, entry in self.plan.entries():
            row = manifest.find(name)
            if name in self.refused or row is None or row.result is None:
                error = self.refused.get(name) or (row.error if row is not None else None) or "not labelled"
                attempt = row.attempt if row is not None else 0
                self.result.failures.append({"structure": _place(name), "attempt": attempt, "error": error})
                continue
            method = str(row.result["method"])
            self.result.n_second_order += "solver=" in method
            yield replace(entry, labels=labels_from_json(row.result), method=method)

    def _finish(self, inputs: list[dict[str, Any]]) -> DataLabelResult:
        result, run = self.result, self.run
        result.n_failed = len(result.failures)
        result.converged = result.n_failed == 0
        _write_failures(run.file("failed.csv"), result.failures)
        if result.failures:
            worst = result.failures[0]
            run.warn(
                f"{result.n_failed} of {result.n_structures} structures have no label (failed.csv); the first "
                f"is {worst['structure']}: {worst['error']}"
            )
        result.warnings = list(run.warnings)
        result.summary = run.write_summary(
            results=result.results(),
            units=result.units(),
            model=None,
            inputs=inputs,
            timing={"total_s": time.perf_counter() - self.started},
            converged=result.converged,
        )
        if result.n_failed == result.n_structures > 0:
            raise RunFailedError(f"No structure could be labelled; the first: {result.failures[0]['error']}")
        return result

    def _warn_of_small_cells(self) -> None:
        if not self.plan.options.method.lower().startswith("gfn"):
            return
        from atomml.data.label_tblite import SMALL_CELL

        if self.plan.smallest_cell < SMALL_CELL:
            self.run.warn(
                f"A cell is {self.plan.smallest_cell:.1f} Å thick, and {self.plan.options.method} samples the Γ "
                f"point only: below {SMALL_CELL:g} Å its energies are crude; label supercells."
            )


def _sources(structures: Any) -> list[Any]:
    """Files as text with their index, entries for what was given in Python."""
    from ase import Atoms

    from atomml.data.entry import Entry
    from atomml.workflows.inputs import expand_sources

    alone = isinstance(structures, str | Path | Atoms | Entry)
    found: list[Any] = []
    for given in [structures] if alone else list(structures):
        if isinstance(given, str | Path):
            found += expand_sources([given])
        elif isinstance(given, Atoms):
            found.append(Entry(given.copy()))
        elif isinstance(given, Entry):
            found.append(given)
        else:
            raise InputError(f"{type(given).__name__} is no structure: give files, Atoms or entries.")
    return found


def _entries(sources: Sequence[Any], options: DataLabelOptions) -> Iterator[tuple[str, Entry]]:
    from atomml.data.label_keys import entries_of
    from atomml.data.store import StoreDataset
    from atomml.data.structures import read_structures
    from atomml.workflows.inputs import split_index

    keys = LabelKeys.of(options)
    for source in sources:
        if not isinstance(source, str):
            yield source.where, source
        elif source.endswith(".lmdb"):
            for index, entry in enumerate(StoreDataset(source)):
                yield f"{source}, entry {index}", entry
        else:
            path, index_text = split_index(source)
            frames = read_structures(path, index=index_text, validate=False)
            for entry in entries_of(frames, keys, unlabelled=True):
                yield entry.where, entry


def _as_asked(entry: Entry, options: DataLabelOptions) -> Entry:
    """The entry with the charge, spin and periodicity that the options ask for; labels of its own go."""
    from atomml.data.entry import Labels

    atoms = entry.atoms.copy()
    given = {"charge": options.charge, "spin": options.spin}
    atoms.info.update({name: value for name, value in given.items() if value is not None})
    if options.drop_cell:
        atoms.pbc = False
        atoms.cell = None
    return replace(entry, atoms=atoms, labels=Labels(), method="")


def _bare(entry: Entry) -> Any:
    """What a label depends on, and nothing else, for the way to a worker."""
    atoms = entry.atoms.copy()
    atoms.info = {name: atoms.info[name] for name in ("charge", "spin") if name in atoms.info}
    return atoms


def _thickness(entry: Entry) -> float:
    if not entry.atoms.pbc.all() or entry.atoms.cell.rank < 3:
        return float("inf")
    from atomml.data.label_tblite import thickness

    return thickness(entry.atoms)


def _place(name: str) -> str:
    """The id without the number that keeps it unique."""
    return name.partition(" ")[2]


def _target(to: str | Path | None, shard: Shard | None, replace_it: bool) -> Path | None:
    if to is None:
        return None
    from atomml.data.entry_files import check_entry_file

    path = Path(to)
    if shard is not None:
        path = path.with_name(f"{path.stem}-{shard.index}-of-{shard.count}{path.suffix}")
    path = check_entry_file(path)
    if path.exists() and not replace_it:
        raise OptionError(f"{path} exists: give another --to, or --overwrite to replace it.")
    return path


def _input_records(sources: Sequence[Any]) -> list[dict[str, Any]]:
    from atomml.workflows.inputs import input_record, split_index

    files = dict.fromkeys(str(split_index(source)[0]) for source in sources if isinstance(source, str))
    return [input_record(Path(file)) for file in files] or [input_record(None)]


def _write_failures(path: Path, failures: list[dict[str, Any]]) -> None:
    import csv
    import io

    from atomml.files import write_atomic

    text = io.StringIO()
    writer = csv.DictWriter(text, ["structure", "attempt", "error"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(failures)
    write_atomic(path, text.getvalue())

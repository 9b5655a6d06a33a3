"""``data label``: structures labelled by one method, in parallel, through crashes and interruptions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError, RunFailedError
from atomml.files import write_table
from atomml.manifest import Manifest, Shard
from atomml.result import Result
from atomml.run import RunFolder
from atomml.workflows.datasets.label_plan import (
    DataLabelOptions,
    LabelPlan,
    input_records,
    place_of,
    plan_labels,
)
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.jobs import Item, Outcome

__all__ = ["DataLabelOptions", "DataLabelResult", "label_data"]

MANIFEST = "manifest.sqlite"


@dataclass(kw_only=True)
class DataLabelResult(Result):
    """What ``label_data`` returns.

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


def label_data(
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
    if target is not None and target.suffix != ".lmdb" and (chosen.density or chosen.hamiltonian):
        raise OptionError(f"{to} has no room for matrices: name a store, such as set.lmdb.")
    with open_with_options(
        out,
        "data label",
        chosen,
        resume=resume,
        overwrite=overwrite,
        may_change=("workers", "threads", "retries", "redo_failed", "max_cycle", "time_limit"),
        structures=plan.names,
        to=None if to is None else str(to),
    ) as run:
        return _Job(run, plan, target, executor).go()


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
        self.computed = self.n_done = 0

    def go(self) -> DataLabelResult:
        """Label what is not labelled yet, then write the set."""
        from atomml.data.entry_files import write_entries

        self._warn_of_small_cells()
        inputs = input_records(self.plan.sources)
        with Manifest(self.run.file(MANIFEST), "data label") as manifest:
            self._compute(manifest)
            labelled = self._labelled(manifest)
            if self.target is None or not self.n_done:  # an empty file would be no set of structures
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
            problem = self.plan.problem(entry, place_of(name))
            if problem is not None:
                self.refused[name] = problem
            else:
                yield Item(name, (_bare(entry), options.method, settings), digest)

    def _tell(self, number: int, outcome: Outcome) -> None:
        self.n_done += outcome.error is None
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
        from atomml.data.label import labels_from_json, matrices_from_json

        for name, _, entry in self.plan.entries():
            row = manifest.find(name)
            if name in self.refused or row is None or row.result is None:
                error = self.refused.get(name) or (row.error if row is not None else None) or "not labelled"
                attempt = row.attempt if row is not None else 0
                self.result.failures.append({"structure": place_of(name), "attempt": attempt, "error": error})
                continue
            method = str(row.result["method"])
            self.result.n_second_order += "solver=" in method
            labels, matrices = labels_from_json(row.result), matrices_from_json(row.result)
            yield replace(entry, labels=labels, method=method, matrices=matrices)

    def _finish(self, inputs: list[dict[str, Any]]) -> DataLabelResult:
        result, run = self.result, self.run
        result.n_failed = len(result.failures)
        result.converged = result.n_failed == 0
        write_table(run.file("failed.csv"), result.failures, ["structure", "attempt", "error"])
        if result.failures:
            worst = result.failures[0]
            run.warn(
                f"{result.n_failed} of {result.n_structures} structures have no label (failed.csv); the "
                f"first is {worst['structure']}: {worst['error']}"
            )
        finish_run(run, result, model=None, inputs=inputs, seconds=time.perf_counter() - self.started)
        if result.n_failed == result.n_structures > 0:
            raise RunFailedError(f"No structure could be labelled; the first: {result.failures[0]['error']}")
        return result

    def _warn_of_small_cells(self) -> None:
        if not self.plan.options.method.lower().startswith("gfn"):
            return
        from atomml.data.label_tblite import SMALL_CELL

        if self.plan.smallest_cell < SMALL_CELL:
            self.run.warn(
                f"A cell is {self.plan.smallest_cell:.1f} Å thick, and {self.plan.options.method} samples "
                f"the Γ point only: below {SMALL_CELL:g} Å its energies are crude; label supercells."
            )


def _bare(entry: Entry) -> Any:
    """What a label depends on, and nothing else, for the way to a worker."""
    atoms = entry.atoms.copy()
    atoms.info = {name: atoms.info[name] for name in ("charge", "spin") if name in atoms.info}
    return atoms


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

"""How ``ligand-strain`` runs: records into ligands, ligands to workers by a manifest, answers into rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomml.config import as_config
from atomml.data.force_fields import rdkit_chem
from atomml.data.ligands import SUFFIXES, Pose, check_file, read_poses
from atomml.errors import AtomMLError, FileFormatError, InputError
from atomml.jobs import Item, Outcome, run_jobs
from atomml.manifest import Manifest, Shard, digest_of
from atomml.run import RunFolder
from atomml.workflows.inputs import GivenModel, expand_sources, input_record
from atomml.workflows.ligands.ligand_chemistry import PreparedPose, prepare_pose
from atomml.workflows.ligands.ligand_work import LigandOrder, LigandTask, PoseOrder, work
from atomml.workflows.ligands.pose_strain import LigandStrainOptions, LigandStrainResult, threshold_for
from atomml.workflows.run_record import finish_run
from atomml.workflows.shards import MANIFEST, adopt_shards, recorded_outcomes, shard_named
from atomml.workflows.work_sharing import Clock, context_of, executor_of, workers_for

__all__ = [
    "LigandRun",
    "Record",
    "check_sources",
    "plan",
    "records_of",
    "records_of_all",
    "sources_of_poses",
    "work_each",
]

_ELSEWHERE = (
    *("workers", "batch", "shard", "merge", "retry_failed", "executor"),
    *("threshold", "template", "tolerance"),
)
_SHOWN_WARNINGS = 20


@dataclass
class Record:
    """A pose on its way from a file to a row.

    Attributes:
        pose: As it was read.
        prepared: With hydrogens, and the ligand that it is of; None where that failed.
        error: Why there is no strain.
        found: What a worker answered of it.
        waiting: Whether no shard has done it yet.
    """

    pose: Pose
    prepared: PreparedPose | None = None
    error: str | None = None
    found: dict[str, Any] | None = None
    waiting: bool = False

    @property
    def same_molecule(self) -> bool:
        """Whether the pose that was found is still the ligand."""
        return self.found is not None and bool(self.found.get("same_molecule", True))

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.pose.source}, record {self.pose.index} ({self.pose.name})"


def sources_of_poses(poses: Any) -> list[Any]:
    """Files as text, patterns and folders expanded (of a folder, the files of poses); molecules as they are.

    Raises:
        FileFormatError: A pattern or folder without files.
    """
    single = isinstance(poses, str | Path | rdkit_chem().Mol)
    sources: list[Any] = []
    molecules: list[Any] = []
    for entry in [poses] if single else poses:
        if isinstance(entry, str | Path):
            files = expand_sources([entry])
            sources += [f for f in files if not Path(entry).is_dir() or f.lower().endswith(SUFFIXES)]
        else:
            molecules.append(entry)
    return [*dict.fromkeys(sources), *([molecules] if molecules else [])]


def check_sources(sources: Sequence[Any], template: str | None) -> None:
    """Refuse what nothing can be done with, before a run folder is made.

    Raises:
        InputError: No source, a file that is not there, of no kind that is read or without its template; the
            only file, if it cannot be read at all.
    """
    if not sources:
        raise InputError("There is no pose: give a file.")
    files = [source for source in sources if isinstance(source, str)]
    for name in files:
        check_file(Path(name), template)
    if len(sources) == len(files) == 1:
        next(read_poses(files[0], template), None)


def records_of(source: Any, template: str | None) -> Iterator[Record]:
    """The records of a source, read and prepared; what is wrong with one is its own error.

    Raises:
        InputError: The source cannot be read at all.
    """
    for pose in read_poses(source, template):
        record = Record(pose, error=pose.error)
        if pose.molecule is not None:
            try:
                record.prepared = prepare_pose(pose.molecule)
            except (AtomMLError, ValueError, RuntimeError) as error:
                record.error = " ".join(str(error).split())
        yield record


def records_of_all(sources: Sequence[Any], template: str | None) -> Iterator[Record]:
    """The records of several sources; a file that cannot be read, or read on, is one with its error.

    Args:
        sources: Files and lists of molecules that passed :func:`check_sources`.
        template: SMILES for PDB files.

    Raises:
        FileFormatError: The only source cannot be read at all.
    """
    for source in sources:
        count = 0
        try:
            for record in records_of(source, template):
                yield record
                count += 1
        except FileFormatError as error:
            if count == 0 and len(sources) == 1:
                raise
            stem = f"{Path(source).name.split('.')[0]}-{count}"
            yield Record(Pose(str(source), count, stem, None), error=str(error))


@dataclass
class LigandRun:
    """One run, from its records to its files.

    Attributes:
        run: Its folder.
        sources: Files as text, or a list of molecules.
        model: The model.
        named: Whether a worker can load the model by its name.
        options: Of the run.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Of the conformer search.
        threads: CPU threads of a worker.
        pool: An executor from outside.
    """

    run: RunFolder
    sources: list[Any]
    model: GivenModel
    named: bool
    options: LigandStrainOptions
    dtype: str
    device: str
    seed: int
    threads: int | None = None
    pool: Executor | None = None

    def go(self, started: float) -> LigandStrainResult:
        """Read, do what an earlier run left, write every file."""
        from atomml.workflows.ligands.ligand_files import result_of, write_files

        records, ligands = self._of_this_shard()
        with Manifest(self.run.file(MANIFEST), "ligand-strain") as manifest:
            self._compute(manifest, ligands)
        threshold = threshold_for(self.options.threshold, self.model)
        result = result_of(records, len(ligands), threshold)
        result.n_waiting = sum(record.waiting for record in records) if self.options.merge else None
        write_files(self.run, result)
        self._warn(records, result)
        files = [source for source in self.sources if isinstance(source, str)]
        inputs = [input_record(Path(name)) for name in files] or [input_record(None)]
        seconds = time.perf_counter() - started
        model = self.model.record() | ({"threshold_kcal_per_mol": threshold} if threshold is not None else {})
        finish_run(self.run, result, model=model, inputs=inputs, seconds=seconds)
        return result

    def _of_this_shard(self) -> tuple[list[Record], dict[str, list[Record]]]:
        """The records that are done here, and by ligand, in the order in which ligands first occur.

        A ligand goes with all its poses into one shard; a record without a ligand into one too.
        """
        shard = shard_named(self.options.shard, self.options.merge) or Shard()
        records = list(records_of_all(self.sources, self.options.template))
        ligands: dict[str, list[Record]] = {}
        for record in records:
            if record.prepared is not None:
                ligands.setdefault(record.prepared.ligand, []).append(record)
        ligands = {smiles: poses for smiles, poses in ligands.items() if shard.holds(_digest(smiles, poses))}
        ours = [
            record
            for record in records
            if (
                record.prepared.ligand in ligands
                if record.prepared is not None
                else shard.holds(digest_of(record.label))
            )
        ]
        if not ours and records:
            self.run.warn(f"None of {len(records)} poses belongs to shard {self.options.shard}.")
        return ours, ligands

    def _compute(self, manifest: Manifest, ligands: Mapping[str, list[Record]]) -> None:
        context = self._context()
        wanted = {smiles: digest_of(_digest(smiles, poses), context) for smiles, poses in ligands.items()}
        if self.options.shard is None and self.run.kept:
            adopt_shards(self.run.path, manifest, wanted)
        if self.options.merge:
            for outcome in recorded_outcomes(manifest, wanted).values():
                _take(outcome, ligands[outcome.id])
            return
        by_name = self.pool is not None or self._workers(len(ligands)) > 0
        model: str | GivenModel = self.model.source if by_name else self.model
        task = LigandTask(self.options, model, dict(self.model.settings), self.dtype, self.device, self.seed)
        items = (_item(smiles, records, task) for smiles, records in ligands.items())
        clock = Clock(len(ligands))
        with self._executor(len(ligands)) as executor:
            for outcome in run_jobs(
                items,
                work_each,
                manifest,
                context=context,
                executor=executor,
                redo_failed=self.options.retry_failed,
                group=self._group(len(ligands)),
            ):
                _take(outcome, ligands[outcome.id])
                clock.tell(self.run, outcome)

    def _context(self) -> str:
        """What a result depends on beside the poses."""
        options = {key: value for key, value in as_config(self.options).items() if key not in _ELSEWHERE}
        return context_of(self.model, options, self.seed)

    def _workers(self, count: int) -> int:
        """Processes; none where there is one ligand and none are asked for."""
        if self.options.workers is None and count < 2:
            return 0
        workers = workers_for(self.model, self.named, self.options.workers)
        return workers if self.options.workers is not None else min(count, workers)

    def _group(self, count: int) -> int:
        workers = self._workers(count)
        return max(1, min(self.options.batch, -(-count // (2 * max(1, workers)))))

    def _executor(self, count: int) -> AbstractContextManager[Executor]:
        if self.pool is not None:
            return nullcontext(self.pool)
        return executor_of(self._workers(count), self.threads or 1, self.options.executor)

    def _warn(self, records: Sequence[Record], result: LigandStrainResult) -> None:
        if result.n_waiting:
            self.run.warn(f"{result.n_waiting} poses wait for the shard that does them.")
        failed = [record for record in records if record.error is not None and not record.waiting]
        for record in failed[:_SHOWN_WARNINGS]:
            self.run.warn(f"{record.label}: {record.error}")
        if len(failed) > _SHOWN_WARNINGS:
            self.run.warn(f"{len(failed)} poses have no strain; their rows in results.csv say why.")
        unfinished = sum(row.get("converged") is False for row in result.rows)
        if unfinished:
            self.run.warn(f"{unfinished} poses are not converged in {self.options.steps} steps: add some.")
        if result.n_flagged:
            self.run.warn(
                f"{result.n_flagged} poses have left their basin or have a search that is not converged: see "
                "the columns left_basin, search_converged and note."
            )


def work_each(orders: Sequence[LigandOrder]) -> list[tuple[dict[str, Any] | None, str | None]]:
    """:func:`atomml.workflows.ligands.ligand_work.work`, without the progress of each relaxation."""
    from atomml.run import listening

    with listening(None):
        return work(orders)


def _item(smiles: str, records: Sequence[Record], task: LigandTask) -> Item:
    poses = [PoseOrder(one.positions, one.places) for _, one in _prepared(records)]
    return Item(smiles, LigandOrder(task, smiles, tuple(poses)), _digest(smiles, records))


def _digest(smiles: str, records: Sequence[Record]) -> str:
    """Of a ligand and its poses."""
    parts: list[bytes | str] = [smiles]
    for _, pose in _prepared(records):
        parts += [np.ascontiguousarray(pose.positions).tobytes(), str(pose.places)]
    return digest_of(*parts)


def _prepared(records: Sequence[Record]) -> Iterator[tuple[Record, PreparedPose]]:
    for record in records:
        assert record.prepared is not None
        yield record, record.prepared


def _take(outcome: Outcome, records: Sequence[Record]) -> None:
    """The answer of a ligand, to its records."""
    for place, record in enumerate(records):
        found = outcome.result["poses"][place] if outcome.result is not None else {"error": outcome.error}
        record.error = found.get("error")
        record.found = None if record.error is not None else found
        record.waiting = outcome.attempt == 0


def plan(poses: Any, options: LigandStrainOptions) -> list[str]:
    """What a run would do, in sentences; every record is read.

    Raises:
        InputError: As the run itself would.
    """
    from atomml.workflows.ligands.ligand_chemistry import ligand_of
    from atomml.workflows.ligands.ligand_conformers import number_of_conformers

    good: dict[str, int] = {}
    bad = []
    sources = sources_of_poses(poses)
    check_sources(sources, options.template)
    for record in records_of_all(sources, options.template):
        if record.prepared is None:
            bad.append(f"{record.label}: {record.error}")
        else:
            good[record.prepared.ligand] = good.get(record.prepared.ligand, 0) + 1
    conformers = sum(options.conformers or number_of_conformers(ligand_of(smiles)) for smiles in good)
    head = f"{sum(good.values())} poses of {len(good)} ligands, {conformers} conformers to embed and minimise"
    return [head, *(f"without a strain: {one}" for one in bad[:_SHOWN_WARNINGS])]

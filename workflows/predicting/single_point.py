"""Energy, forces and stress of one or thousands of structures: batched, streamed, resumable.

Structures are read one by one and evaluated in batches of about ``batch_edges`` edges, so memory
does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import AtomMLError, FileFormatError, InputError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    input_record,
    sources_of,
    split_index,
    with_charge,
)
from atomml.workflows.predicting.prediction_batches import BatchEvaluator
from atomml.workflows.predicting.prediction_files import PredictionFiles, read_rows, row_of
from atomml.workflows.predicting.prediction_items import Item, batches, items_of
from atomml.workflows.run_record import RunRequest, render_kept, write_result

__all__ = ["PredictOptions", "PredictResult", "predict"]

_SHOWN = 20


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``predict``."""

    features: bool = option(False, "write features.npz: embeddings of each atom and each structure")
    on_error: str = option(
        "stop",
        "what to do with a structure that no model can take: refuse the run before it starts, or skip it",
        choices=("stop", "skip"),
    )
    batch_edges: int = option(6000, "edges that are evaluated at once; more memory, little speed", minimum=1)
    charge: float | None = option(None, "total charge of every structure; else as the file says", unit="e")
    spin: float | None = option(
        None, "unpaired electrons of every structure; else as the file says", minimum=0
    )
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class PredictResult(Result):
    """What ``predict`` returns; the energy and what follows it are there if there was one structure.

    Attributes:
        n_structures: Structures that were evaluated.
        n_failed: Structures that were skipped.
        n_atoms: Atoms in all of them.
        energy: eV.
        energy_per_atom: eV/atom.
        max_force: Largest force on an atom, eV/Å.
        pressure: GPa, positive under compression.
        rows: Rows of ``results.csv``; the first 20 where there is a folder.
        predictions: Arrays by name for each structure (``energy``, ``forces``, ``stress`` ...),
            None for one that was skipped; empty where there is a folder, whose files hold them.
    """

    n_structures: int = 0
    n_failed: int = 0
    n_atoms: int = 0
    energy: float | None = quantity("eV", default=None)
    energy_per_atom: float | None = quantity("eV/atom", default=None)
    max_force: float | None = quantity("eV/Å", default=None)
    pressure: float | None = quantity("GPa", default=None)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})
    predictions: list[dict[str, Any] | None] = field(
        default_factory=list, metadata={"summary": False}, repr=False
    )


def predict(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **options: Any,
) -> PredictResult:
    """Evaluate structures and, with ``out``, write them to a run folder.

    Args:
        structures: ``ase.Atoms``, a file, or several of either; files may hold many frames.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of a model that is loaded here.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        **options: Fields of :class:`PredictOptions`.

    Raises:
        InputError: A structure that no model can take, or a wrong option; names file and frame.
    """
    chosen = build_options(PredictOptions, options)
    sources = sources_of(structures)
    if not sources:
        raise FileFormatError("There is no structure to predict: give at least one.")
    used = given_model(model, dtype=dtype, device=device)
    names = [source if isinstance(source, str) else "structure" for source in sources]
    total = _survey(sources, used, chosen)
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": names, **used.config(), "dtype": dtype}
    with request.open("predict", chosen, **facts) as run:
        finished = run.finished_summary() if run.resumed else None
        return _from_summary(run, finished) if finished else _Job(run, used, chosen, total).go(sources)


class _Job:
    """One run: takes structures, evaluates them by batches, writes, and sums up."""

    def __init__(self, run: RunFolder, model: GivenModel, options: PredictOptions, total: int) -> None:
        self.run, self.model, self.options, self.total = run, model, options, total
        self.result = PredictResult(folder=run.path if run.kept else None)
        self.files = PredictionFiles(run, options.features)
        self.evaluator = BatchEvaluator(model, options.features)

    def go(self, sources: list[Any]) -> PredictResult:
        """Evaluate what an earlier run left, then sum up."""
        started = time.perf_counter()
        skip = self.files.done
        try:
            for batch in batches(self._prepared(sources, skip), self.options.batch_edges):
                self._evaluate(batch)
                self._write(batch)
        finally:
            self.files.close()
        self._finish(sources, time.perf_counter() - started)
        return self.result

    def _prepared(self, sources: list[Any], skip: int) -> Iterator[Item]:
        """Each structure checked and, for one of our models, as a graph; those done are only counted."""
        for place, item in enumerate(items_of(sources)):
            if item.given is not None:
                item.error = _problem(item.given, self.model, self.options, self.run.warn)
            if place < skip:
                self._count(item)
                continue
            self.evaluator.prepare(item)
            yield item

    def _evaluate(self, batch: list[Item]) -> None:
        good = [item for item in batch if item.error is None]
        try:
            self.evaluator.evaluate(good)
        except InputError:
            raise
        except AtomMLError as error:
            names = ", ".join(f"{item.source} frame {item.frame}" for item in good[:3])
            told = str(error).rstrip(".")
            raise type(error)(f"{told} (in the batch that starts with {names}).") from error

    def _write(self, batch: list[Item]) -> None:
        from atomml.data.structures import extxyz_frame

        rows, frames, features = [], [], []
        for item in batch:
            row = self._count(item)
            rows.append(row)
            results = item.results
            if results is not None and item.given is not None:
                shown = {k: v for k, v in results.items() if not k.endswith("_features")}
                frames.append(extxyz_frame(item.given.atoms, shown))
                if self.options.features:
                    features.append(results)
            if not self.run.kept:
                self.result.predictions.append(results)
        self.files.write(rows, "".join(frames), features)
        self.files.commit(self.total)

    def _count(self, item: Item) -> dict[str, Any]:
        """The row of a structure, counted in the result."""
        result = self.result
        row: dict[str, Any] = {"input": item.source, "frame": item.frame, "error": item.error}
        if item.error is None:
            assert item.given is not None
            result.n_structures += 1
            result.n_atoms += len(item.given.atoms)
            if item.results is not None:
                row = row_of(item.source, item.frame, item.given.atoms, item.results)
        else:
            result.n_failed += 1
            self.run.warn(f"{item.source}, frame {item.frame} was skipped: {item.error}")
        if not self.run.kept:
            result.rows.append(row)
        return row

    def _finish(self, sources: list[Any], seconds: float) -> None:
        result, run = self.result, self.run
        if self.options.features:
            self.files.write_features(*self.evaluator.channels)
        if run.kept:
            result.rows = read_rows(run.path, _SHOWN)
        _fill_from_single(result)
        result.converged = result.n_failed == 0
        files = dict.fromkeys(str(split_index(s)[0]) for s in sources if isinstance(s, str))
        inputs = [input_record(Path(name)) for name in files] or [input_record(None)]
        write_result(run, result, model=self.model.record(), inputs=inputs, seconds=seconds)
        self.files.discard_parts()
        render_kept(run)


def _from_summary(run: RunFolder, summary: dict[str, Any]) -> PredictResult:
    """The result of a run that had already finished when it was resumed."""
    counts = {name: summary["results"][name] for name in ("n_structures", "n_failed", "n_atoms")}
    result = PredictResult(folder=run.path, converged=summary["converged"], summary=summary, **counts)
    result.rows = read_rows(run.path, _SHOWN)
    _fill_from_single(result)
    return result


def _fill_from_single(result: PredictResult) -> None:
    if len(result.rows) == 1 and result.n_structures == 1 and result.rows[0].get("energy_eV") is not None:
        row = result.rows[0]
        result.energy, result.energy_per_atom = row["energy_eV"], row["energy_per_atom_eV"]
        result.max_force, result.pressure = row["max_force_eV_per_A"], row["pressure_GPa"]


def _problem(given: GivenStructure, model: GivenModel, options: PredictOptions, warn: Any) -> str | None:
    """Why the structure cannot be evaluated, or None; with charge and spin set as asked for."""
    try:
        with_charge(given, options.charge, options.spin)
        check_covered(given, model, warn, options.allow_charge_mismatch)
    except InputError as error:
        return str(error)
    return None


def _survey(sources: list[Any], model: GivenModel, options: PredictOptions) -> int:
    """Number of structures; with ``on_error`` stop, the first bad one is refused here.

    Raises:
        InputError: A bad structure, or nothing but bad ones.
    """
    total = n_bad = 0
    first = ""
    for item in items_of(sources):
        total += 1
        error = item.error or (_problem(item.given, model, options, lambda _: None) if item.given else None)
        if error is not None:
            n_bad += 1
            first = first or error
            if options.on_error == "stop":
                hint = "" if len(sources) == 1 and total == 1 else " (--on-error skip goes on without it)"
                raise InputError(f"{error.rstrip('.')}{hint}.")
    if n_bad == total:
        raise InputError(first or "There is no structure to predict: give at least one.")
    return total

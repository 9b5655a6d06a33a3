"""Properties of hundreds of structures: ``atomml property predict`` and :func:`predict_property`.

Structures are read one by one and answered in batches. A structure that cannot be answered for is a row with
its reason. After each batch the run says how far its table goes, so that it can be killed and resumed.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import InputError
from atomml.options import option
from atomml.result import Result
from atomml.workflows.inputs import input_record, sources_of, split_index
from atomml.workflows.predicting.prediction_files import AppendedFiles
from atomml.workflows.predicting.prediction_items import Item, items_of
from atomml.workflows.run_record import open_with_options, render_kept, write_result

if TYPE_CHECKING:
    from atomml.property.domain import Known
    from atomml.property.ensemble import PropertyEnsemble
    from atomml.run import RunFolder

__all__ = ["PropertyPredictOptions", "PropertyPredictResult", "predict_property"]

_CSV = "results.csv"
_FIRST = ("input", "frame", "id", "formula", "n_atoms")
_LAST = ("same_as_training", "error")
_SHOWN = 20


@dataclass(frozen=True)
class PropertyPredictOptions:
    """Options of ``property predict``."""

    batch: int = option(32, "structures that are answered at once", minimum=1)
    parquet: bool = option(True, "write results.parquet too, where the extra parquet is installed")
    device: str = option("auto", "device of the model")


@dataclass(kw_only=True)
class PropertyPredictResult(Result):
    """What was predicted.

    Attributes:
        n_structures: Structures that were answered for.
        n_failed: Structures that were not; their rows say why.
        n_outside: Structures outside the model's domain.
        n_known: Structures that the model was trained on.
        targets: What was predicted, on which scale it was learned.
        rows: Rows of ``results.csv``; the first 20 where there is a folder.
    """

    n_structures: int = 0
    n_failed: int = 0
    n_outside: int = 0
    n_known: int = 0
    targets: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})


def predict_property(
    structures: Any,
    model: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> PropertyPredictResult:
    """Predict properties with 90% intervals, and say how far each structure lies from the training set.

    Args:
        structures: Files, folders, patterns, ``FILE@INDEX``, ``ase.Atoms``, or several of these.
        model: A checkpoint of ``atomml property train``, or the model.
        out: The run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`PropertyPredictOptions`.

    Raises:
        InputError: A model or option that is wrong, or nothing but structures that cannot be answered for.
    """
    from atomml.property.ensemble import load_property_model

    started = time.perf_counter()
    settings = build_options(PropertyPredictOptions, options)
    ensemble = load_property_model(model, settings.device)
    sources = sources_of(structures)
    names = [source if isinstance(source, str) else "structure" for source in sources]
    facts: dict[str, Any] = {
        "structures": names,
        "model": str(model) if isinstance(model, str | Path) else ensemble.info.name,
    }
    with open_with_options(
        out, "property predict", settings, resume=resume, overwrite=overwrite, **facts
    ) as run:
        job = _Job(run, ensemble, settings)
        job.go(sources)
        return job.finish(sources, started)


class _Job:
    """One run: reads, answers, writes."""

    def __init__(self, run: RunFolder, model: PropertyEnsemble, options: PropertyPredictOptions) -> None:
        from atomml.workflows.properties.property_rows import answer_columns

        self.run, self.model, self.options = run, model, options
        self.columns = [*_FIRST, *answer_columns(model), *_LAST]
        self.known: Known | None = model.known
        self.files = AppendedFiles(run, [_CSV])
        if self.files.sizes()[_CSV] == 0:
            self.files.append(_CSV, _line(self.columns))

    def go(self, sources: list[Any]) -> None:
        """Answer for what an earlier run left."""
        try:
            for batch in self._batches(sources, self.files.done):
                rows = self._answered(batch)
                data = b"".join(_line([row.get(name) for name in self.columns]) for row in rows)
                self.files.append(_CSV, data)
                self.files.done += len(rows)
                self.files.commit(None)
        finally:
            self.files.close()

    def _batches(self, sources: list[Any], skip: int) -> Iterator[list[Item]]:
        batch: list[Item] = []
        for place, item in enumerate(items_of(sources)):
            if place < skip:
                continue
            batch.append(item)
            if len(batch) == self.options.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _answered(self, batch: list[Item]) -> list[dict[str, Any]]:
        """A row for each structure of a batch."""
        from atomml.workflows.properties.property_rows import answer_rows

        rows, good, inputs = [], [], []
        for item in batch:
            row: dict[str, Any] = {"input": item.source, "frame": item.frame, "error": item.error}
            rows.append(row)
            if item.given is None:
                continue
            atoms = item.given.atoms
            row |= {"formula": str(atoms.get_chemical_formula()), "n_atoms": len(atoms)}
            row["id"] = atoms.info.get("id")
            try:
                self.model.check_atoms(atoms, item.given.label)
                inputs.append(self.model.inputs_of(atoms, item.given.label))
            except InputError as error:
                row["error"] = str(error)
                continue
            row["same_as_training"] = self.known.same_as(atoms) if self.known else None
            good.append(row)
        if inputs:
            for row, found in zip(good, answer_rows(self.model, self.model.answer(inputs)), strict=True):
                row |= found
        return rows

    def finish(self, sources: list[Any], started: float) -> PropertyPredictResult:
        """Count, write Parquet, summary and report."""
        rows = _read(self.run.file(_CSV))
        failed = [row for row in rows if row["error"]]
        if not rows or len(failed) == len(rows):
            reason = failed[0]["error"] if failed else "There is no structure to predict: give at least one."
            raise InputError(reason)
        for row in failed[:20]:
            self.run.warn(f"{row['input']}, frame {row['frame']} has no answer: {row['error']}")
        result = PropertyPredictResult(
            n_structures=len(rows) - len(failed),
            n_failed=len(failed),
            n_outside=sum(row.get("outside_domain") == "True" for row in rows),
            n_known=sum(bool(row.get("same_as_training")) for row in rows),
            targets=[target.label for target in self.model.targets],
            rows=rows[:_SHOWN] if self.run.kept else rows,
            converged=not failed,
            folder=self.run.path if self.run.kept else None,
        )
        if self.options.parquet and self.run.kept:
            self._write_parquet()
        info = self.model.info
        files = dict.fromkeys(str(split_index(s)[0]) for s in sources if isinstance(s, str))
        inputs = [input_record(Path(name)) for name in files] or [input_record(None)]
        record = {"name": info.name, "sha256": info.sha256, "family": info.family}
        seconds = time.perf_counter() - started
        write_result(self.run, result, model=record, inputs=inputs, seconds=seconds)
        render_kept(self.run)
        return result

    def _write_parquet(self) -> None:
        try:
            import pyarrow.csv as arrow_csv
            import pyarrow.parquet as arrow_parquet
        except ImportError:
            self.run.warn("results.parquet was not written: it needs the extra 'parquet'.")
            return
        from atomml.files import write_atomic_with

        options = arrow_csv.ConvertOptions(strings_can_be_null=True)
        table = arrow_csv.read_csv(str(self.run.file(_CSV)), convert_options=options)
        write_atomic_with(
            self.run.file("results.parquet"), lambda stream: arrow_parquet.write_table(table, stream)
        )


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


def _line(values: Any) -> bytes:
    text = io.StringIO()
    cells = ["" if v is None else repr(v) if isinstance(v, float) else v for v in values]
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()

"""How far a model is from labelled data: errors with intervals, by part, beside a baseline.

Structures stream through in batches; what is kept of each is a row of sums, so a data set need
not fit into memory. One that no model can take is listed and does not stop the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.data.label_keys import LabelKeys
from atomml.errors import AtomMLError, InputError, OptionError, RunFailedError
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
)
from atomml.workflows.predicting.prediction_batches import BatchEvaluator
from atomml.workflows.predicting.prediction_items import Item, batches
from atomml.workflows.run_record import RunRequest, finish_run

if TYPE_CHECKING:
    from atomml.data.entry import Entry

__all__ = ["EvaluateOptions", "EvaluationResult", "evaluate"]


@dataclass(frozen=True)
class EvaluateOptions(LabelKeys):
    """Options of ``evaluate``; those of :class:`LabelKeys` say where the labels stand."""

    baseline: str | None = option(
        None, "a model to compare with, on the same structures; named like --model", metavar="MODEL"
    )
    force_ranges: tuple[float, ...] = option(
        (0.1, 0.3, 1.0, 3.0, 10.0), "edges that group atoms by their labelled force", unit="eV/Å", above=0
    )
    resample: str = option(
        "structures",
        "what intervals draw: structures, or whole trajectories (frames of one resemble each other)",
        choices=("structures", "trajectories"),
    )
    resamples: int = option(1000, "resamples of each 95% interval", minimum=100)
    worst: int = option(10, "structures to name, by energy and by force", minimum=0)
    batch_edges: int = option(6000, "edges that are evaluated at once; more memory, little speed", minimum=1)
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class EvaluationResult(Result):
    """What ``evaluate`` returns; an error is None where no structure has the label.

    Attributes:
        n_structures: Structures that were evaluated.
        n_failed: Structures that were not; listed in ``failed``.
        n_atoms: Atoms of those that were evaluated.
        mae_energy: Mean absolute error of the energy per atom, as predicted, meV/atom.
        mae_shifted_energy: The same after a constant for each element was fitted, meV/atom.
        mae_forces: Mean absolute error of force components, meV/Å.
        rmse_forces: Root mean square error of force components, meV/Å.
        mae_force_vectors: Mean length of the errors of forces, meV/Å.
        mean_force_angle: Mean angle between predicted and labelled forces, degrees.
        mae_stress: Mean absolute error of the six components, GPa.
        mae_stress_meV_per_A3: The same in meV/Å³.
        mae_magmoms: Mean absolute error of the sizes of magnetic moments, μB.
        element_shift_eV: What was fitted: what the model's energy has too much for each atom.
        n_labelled: Evaluated structures with each label.
        not_evaluated: Labels without an error, and why.
        errors: Statistics of each quantity, with intervals, the trivial predictor and the baseline.
        groups: The same by element, configuration type, range of force, composition, number of atoms.
        calibration: Of a committee, what its spread is worth: a row for forces and one for energies.
        learned_from: Files that a model, or one that it descends from, was trained on or chosen by:
            ``input``, ``model``, ``role``.
        worst: Structures with the largest errors, by file and frame.
        failed: Structures that were not evaluated: ``input``, ``frame``, ``error``.
    """

    n_structures: int = 0
    n_failed: int = 0
    n_atoms: int = 0
    mae_energy: float | None = quantity("meV/atom", default=None)
    mae_shifted_energy: float | None = quantity("meV/atom", default=None)
    mae_forces: float | None = quantity("meV/Å", default=None)
    rmse_forces: float | None = quantity("meV/Å", default=None)
    mae_force_vectors: float | None = quantity("meV/Å", default=None)
    mean_force_angle: float | None = quantity("°", default=None)
    mae_stress: float | None = quantity("GPa", default=None)
    mae_stress_meV_per_A3: float | None = None  # noqa: N815 (its unit, as the key has it)
    mae_magmoms: float | None = quantity("μB", default=None)
    element_shift_eV: dict[str, float] = field(default_factory=dict)  # noqa: N815
    n_labelled: dict[str, int] = field(default_factory=dict)
    not_evaluated: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list, repr=False)
    calibration: list[dict[str, Any]] = field(default_factory=list)
    learned_from: list[dict[str, Any]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list, repr=False)
    failed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table that a terminal shows: a line for each quantity."""
        from atomml.workflows.evaluations.evaluation_tables import shown_rows

        return shown_rows(self.errors)


def evaluate(
    data: Any,
    model: Any = DEFAULT_MODEL,
    *,
    baseline: Any = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **options: Any,
) -> EvaluationResult:
    """Compare a model with labels and, with ``out``, write tables, predictions and a report.

    Args:
        data: A file, several, or a sequence of :class:`~atomml.data.entry.Entry`.
        model: Registered name, file, ``Potential`` or ASE calculator.
        baseline: A model to compare with, in any of these forms.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of models that are loaded here.
        device: Device of models that are loaded here.
        seed: Seed of the resamples; 0 if None.
        **options: Other fields of :class:`EvaluateOptions`.

    Raises:
        InputError: A file that cannot be read, no label at all, a wrong option, or no structure
            that the model can take.
    """
    used = given_model(model, dtype=dtype, device=device)
    other = None if baseline is None else given_model(baseline, dtype=dtype, device=device)
    chosen = build_options(EvaluateOptions, options | {"baseline": other.source if other else None})
    if list(chosen.force_ranges) != sorted(set(chosen.force_ranges)):
        raise OptionError(f"force_ranges must ascend, not {', '.join(map(str, chosen.force_ranges))}.")
    entries, names = _opened(data, chosen)
    if not any(entry.labels.names for entry in entries):
        raise InputError(f"{names[0]}: no structure has a label: say where they are with --energy-key.")
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": names, **used.config(), "dtype": dtype}
    with request.open("evaluate", chosen, **facts) as run:
        finished = run.finished_summary() if run.resumed else None
        if finished is not None:
            return EvaluationResult.from_summary(finished, run.path)
        models = {"model": used} | ({"baseline": other} if other is not None else {})
        return _Job(run, models, chosen, entries, seed or 0).go()


class _Job:
    """One run: takes entries, asks the models by batches, sums up the errors, writes."""

    def __init__(
        self,
        run: RunFolder,
        models: dict[str, GivenModel],
        options: EvaluateOptions,
        entries: Sequence[Entry],
        seed: int,
    ) -> None:
        from atomml.workflows.evaluations.evaluation_record import EvaluationRecord

        self.run, self.models, self.options, self.entries, self.seed = run, models, options, entries, seed
        self.evaluators = {who: BatchEvaluator(model) for who, model in models.items()}
        self.record = EvaluationRecord(list(models), options.force_ranges)
        self.n_refused = 0

    def go(self) -> EvaluationResult:
        """Ask for every entry that an earlier run left, then sum up."""
        from atomml.workflows.evaluations.evaluation_files import EvaluationFiles

        started = time.perf_counter()
        sources = getattr(self.entries, "sources", [])
        digests = [source.get("sha256") for source in sources]
        self.run.check_inputs(n_structures=len(self.entries), sha256=digests)
        files = EvaluationFiles(self.run)
        try:
            for place, outcome in enumerate(files.restored(self.entries, list(self.models))):
                self.record.add(self.entries[place], outcome)
            for batch in batches(self._prepared(files.done), self.options.batch_edges):
                self._take(batch, files)
        finally:
            files.close()
        return self._finish(time.perf_counter() - started)

    def _prepared(self, skip: int) -> Iterator[Item]:
        from atomml.data.error_tally import check_labels

        for place in range(skip, len(self.entries)):
            entry = self.entries[place]
            path = Path(entry.source) if entry.source else None
            given = GivenStructure(entry.atoms, entry.where, path, entry.frame)
            item = Item(entry.source, entry.frame, given, error=check_labels(entry), entry=entry)
            if item.error is None:
                item.error = self._problem(given)
            self.n_refused += item.error is not None
            if item.error is None:
                self._attempt("model", self.evaluators["model"].prepare, item)
            yield item

    def _problem(self, given: GivenStructure) -> str | None:
        try:
            for model in self.models.values():
                check_covered(given, model, self.run.warn, self.options.allow_charge_mismatch)
        except InputError as error:
            return str(error)
        return None

    def _take(self, batch: list[Item], files: Any) -> None:
        """Ask each model for the batch; what one of them fails on is failed for both."""
        outcomes: list[dict[str, Any]] = [{} for _ in batch]
        for who in self.models:
            if who != "model":
                for item in batch:
                    item.results = None
                    if item.error is None:
                        self._attempt(who, self.evaluators[who].prepare, item)
            for part in batches(batch, self.options.batch_edges):
                self._ask(who, [item for item in part if item.error is None])
            for item, outcome in zip(batch, outcomes, strict=True):
                outcome[who] = item.results
        answers = [
            item.error if item.error is not None else outcome
            for item, outcome in zip(batch, outcomes, strict=True)
        ]
        entries = [item.entry for item in batch if item.entry is not None]
        for entry, answer in zip(entries, answers, strict=True):
            self.record.add(entry, answer)
        files.write(entries, answers, len(self.entries), self.record.progress())

    def _ask(self, who: str, items: list[Item]) -> None:
        """All at once; where that fails (a NaN, memory), one by one, so that one bad structure is alone."""
        evaluator = self.evaluators[who]
        try:
            evaluator.evaluate(items)
        except self._failures(who):
            for item in items:
                if item.results is None:
                    self._attempt(who, lambda item: evaluator.evaluate([item]), item)

    def _failures(self, who: str) -> tuple[type[Exception], ...]:
        """What a structure can be blamed for: a foreign calculator may raise anything, ours only these."""
        foreign = self.models[who].potential is None
        return (Exception,) if foreign else (AtomMLError, MemoryError, RuntimeError)

    def _attempt(self, who: str, act: Any, item: Item) -> None:
        try:
            act(item)
        except self._failures(who) as error:  # the structure is listed with it
            what = " ".join(str(error).split()) or type(error).__name__
            assert item.given is not None
            item.error = what if what.startswith(item.given.label) else f"{item.given.label}: {what}"

    def _finish(self, seconds: float) -> EvaluationResult:
        from atomml.workflows.evaluations.evaluation_files import write_tables
        from atomml.workflows.evaluations.evaluation_known import known_data, sentence_of

        run, record = self.run, self.record
        if not len(record.structures):
            first = record.failed[0]["error"]
            kind = InputError if self.n_refused == len(record.failed) else RunFailedError
            raise kind(f"None of {len(record.failed)} structures could be evaluated: {first}")
        result = EvaluationResult(folder=run.path if run.kept else None)
        record.fill(result, self.options, self.seed)
        result.learned_from = known_data(self.models.values(), self.entries)
        for line in result.learned_from:
            run.warn(sentence_of(line))
        for warning in record.warnings({who: model.source for who, model in self.models.items()}):
            run.warn(warning)
        result.warnings = list(run.warnings)
        write_tables(run, record, result)
        others = {who: model.record() for who, model in self.models.items() if who != "model"}
        inputs = getattr(self.entries, "sources", None) or [input_record(None)]
        finish_run(run, result, model=self.models["model"].record(), inputs=inputs, seconds=seconds, **others)
        return result


def _opened(data: Any, options: EvaluateOptions) -> tuple[Sequence[Entry], list[str]]:
    """The entries, and what to call where they came from."""
    from atomml.data.dataset import open_dataset
    from atomml.data.entry import Entry

    if isinstance(data, str | Path):
        data = [data]
    if len(data) == 0:
        raise InputError("There is nothing to evaluate: give at least one file.")
    if all(isinstance(one, str | Path) for one in data):
        return open_dataset(list(data), LabelKeys.of(options)), [str(one) for one in data]
    if not isinstance(data[0], Entry):
        raise InputError(f"{type(data[0]).__name__} is no labelled structure: give files or entries.")
    paths = [str(source["path"]) for source in getattr(data, "sources", []) if source.get("path")]
    return data, paths or ["structure"]

"""One training of properties: data in, members and intervals, the file with its card, summary and report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from atomml.config import as_config
from atomml.property.domain import Known
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.judgement import judge
from atomml.property.targets import Target
from atomml.workflows.properties.property_data import LabelledSet, read_labelled, with_classes
from atomml.workflows.properties.property_fitting import EnsembleFit, InputStore, Parts, answers_for, deal
from atomml.workflows.properties.property_training import PropertyTrainOptions, PropertyTrainResult
from atomml.workflows.run_record import finish_run, open_with_options
from atomml.workflows.trainings.training_run import Paths

if TYPE_CHECKING:
    from atomml.run import RunFolder

__all__ = ["PropertySession"]

MODEL = "model.safetensors"


class PropertySession:
    """A training in its folder; a context manager that holds the folder.

    Args:
        options: The options.
        targets: What is learned.
        paths: Files and folder.
        config: What ``config.yaml`` says besides.
        resume, overwrite: As for :class:`atomml.run.RunFolder`.
        started: ``time.perf_counter()`` when the command began.
    """

    def __init__(
        self,
        options: PropertyTrainOptions,
        targets: list[Target],
        paths: Paths,
        config: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        started: float,
    ) -> None:
        self.options, self.targets, self.paths, self.started = options, targets, paths, started
        self.shape: dict[str, dict[str, Any]] = config.get("shape", {})
        self._how = {"resume": resume, "overwrite": overwrite}
        self._stack = ExitStack()
        self.run: RunFolder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def open_data(self) -> None:
        """Read the files and hold parts out.

        Raises:
            InputError: A file that cannot be read, a label that cannot be, too few structures.
        """
        o = self.options
        train = read_labelled(list(self.paths.train), self.targets, o.labels)
        self.targets = with_classes(self.targets, o.classes, train)
        valid = self._read(self.paths.valid)
        self.test = self._read(self.paths.test)
        self.parts: Parts = deal(train, valid, o.valid_fraction, o.calibration_fraction, o.seed)
        labels = self.parts.train.encoded(self.targets)
        self.targets = [target.fitted(labels[:, k]) for k, target in enumerate(self.targets)]
        for one in (train, valid, self.test):
            if one is not None:
                one.encoded(self.targets)
        self.sources = [
            *train.sources,
            *(valid.sources if valid else []),
            *(self.test.sources if self.test else []),
        ]

    def _read(self, paths: tuple[str, ...]) -> LabelledSet | None:
        if not paths:
            return None
        return read_labelled(list(paths), self.targets, self.options.labels, needed=False)

    def begin(self) -> None:
        """Open the folder: what is wrong with the data is known by now, and has left nothing behind."""
        facts = {**self.paths.config(), "shape": self.shape}
        may_change = ("tensorboard", "save_every", "device")
        self.run = self._stack.enter_context(
            open_with_options(
                self.paths.out, "property train", self.options, may_change=may_change, **self._how, **facts
            )
        )

    def go(self) -> PropertyTrainResult:
        """Train, judge, write."""
        from atomml.checkpoint import load_any_model, save_model

        run = self.run
        assert run is not None
        fit = self._fit(run)
        ready = time.perf_counter()
        ensemble = fit.run(
            self.options.name or f"property-{'-'.join(self.options.family)}", resume=run.resumed
        )
        trained = time.perf_counter()
        run.event("fitted", seconds=trained - ready)
        scores, duplicates = self._judged(ensemble, fit.inputs)
        ensemble.card = self._card(scores, duplicates)
        path = self.paths.out / MODEL
        save_model(ensemble, path)
        ensemble.info = replace(ensemble.info, sha256=load_any_model(path, "float32", "cpu").info.sha256)
        result = self._result(ensemble, fit, scores, len(duplicates))
        self._write_tables(run, ensemble, fit.inputs, duplicates)
        record = {"name": ensemble.info.name, "sha256": ensemble.info.sha256, "family": "property"}
        finish_run(run, result, model=record, inputs=self.sources, seconds=time.perf_counter() - self.started)
        return result

    def _fit(self, run: RunFolder) -> EnsembleFit:
        from atomml.train.processes import Processes
        from atomml.train.trainer import Hooks

        options = self.options
        told = as_config(options)
        for key in ("device", "tensorboard", "save_every", "labels"):
            told.pop(key, None)
        data = {
            name: getattr(self.parts, name).digest(self.targets) for name, n in self.parts.sizes.items() if n
        }
        hooks = Hooks(run.event, run.warn, lambda: time.perf_counter() - self.started)
        return EnsembleFit(
            options,
            self.targets,
            self.parts,
            self.shape,
            self.paths.out,
            Processes(options.device, options.precision),
            hooks,
            InputStore(run.event, self.paths.out),
            {"method": "fresh", "data": data, "options": told},
        )

    def _judged(
        self, ensemble: PropertyEnsemble, inputs: InputStore
    ) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
        """Scores of the sets that chose nothing, and test structures that training knew."""
        scores: dict[str, dict[str, Any]] = {}
        sets = {"calibration": self.parts.calibration, "test": self.test}
        for name, data in sets.items():
            if data is None or not len(data):
                continue
            answers = answers_for(ensemble, data, inputs)
            scores[name] = judge(ensemble, answers, data.encoded(self.targets))
            if name == "calibration":  # that its own intervals hold is no finding
                for one in scores[name].values():
                    one.pop("coverage", None)
        known, run = ensemble.known, self.run
        assert run is not None
        duplicates = _known_again(known, self.test) if known and self.test else []
        if duplicates:
            run.warn(
                f"{len(duplicates)} of {len(self.test or ())} test structures are, or nearly are, training "
                f"structures ({duplicates[0][0]} is {duplicates[0][1]}): duplicates.csv lists them."
            )
        return scores, duplicates

    def _card(self, scores: Mapping[str, Any], duplicates: list[tuple[str, str]]) -> dict[str, Any]:
        files = [{"name": Path(str(one["path"])).name, "sha256": one["sha256"]} for one in self.sources]
        notes = [
            f"{target.label}: {n} labelled training structures"
            for target, n in zip(self.targets, self._labelled(), strict=True)
        ]
        if self.test is not None:
            notes.append(f"{len(duplicates)} test structures are, or nearly are, training structures")
        sizes = self.parts.sizes | ({"test": len(self.test)} if self.test else {})
        how = f"held out at random, seed {self.options.seed}; errors are of the learned scale."
        return {
            "data": {"files": files, "notes": notes},
            "splits": {"sizes": sizes, "how": how},
            "errors": dict(scores),
            "options": {"family": list(self.options.family), "ensemble": self.options.ensemble},
        }

    def _labelled(self) -> list[int]:
        import numpy as np

        return np.isfinite(self.parts.train.encoded(self.targets)).sum(axis=0).tolist()

    def _result(
        self, ensemble: PropertyEnsemble, fit: EnsembleFit, scores: dict[str, dict[str, Any]], duplicates: int
    ) -> PropertyTrainResult:
        learned = [p for m in ensemble.members for n, p in m.named_parameters() if "describer." not in n]
        assert self.run is not None
        return PropertyTrainResult(
            model=str(self.paths.out / MODEL),
            name=ensemble.info.name,
            families=[member.info.family for member in ensemble.each()],
            targets=[target.label for target in self.targets],
            structures=self.parts.sizes | ({"test": len(self.test)} if self.test else {}),
            steps=fit.steps,
            n_weights=sum(p.numel() for p in learned),
            scores=scores,
            duplicates=duplicates,
            weights={t.key: [row[k] for row in ensemble.weights] for k, t in enumerate(self.targets)},
            folder=self.paths.out,
        )

    def _write_tables(
        self,
        run: RunFolder,
        ensemble: PropertyEnsemble,
        inputs: InputStore,
        duplicates: list[tuple[str, str]],
    ) -> None:
        """Labels against answers of the sets that chose nothing; importances; duplicates."""
        from atomml.files import write_table
        from atomml.property.importance import importance_rows
        from atomml.workflows.properties.property_rows import parity_rows

        rows = []
        for name, data in (("calibration", self.parts.calibration), ("test", self.test)):
            if data is not None and len(data):
                answers = answers_for(ensemble, data, inputs)
                rows += parity_rows(ensemble, data, answers, name)
        if rows:
            write_table(run.file("parity.csv"), rows, list(rows[0]))
        important = importance_rows(ensemble)
        if important:
            write_table(run.file("importances.csv"), important, list(important[0]))
        if duplicates:
            table = [{"test": one, "train": other} for one, other in duplicates]
            write_table(run.file("duplicates.csv"), table, ["test", "train"])


def _known_again(known: Known, data: LabelledSet) -> list[tuple[str, str]]:
    """Structures of a set that are training structures: their names and those in training."""
    found = []
    for atoms, name in zip(data.atoms, data.ids, strict=True):
        same = known.same_as(atoms)
        if same is not None:
            found.append((name, same))
    return found

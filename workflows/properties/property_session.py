"""One training of properties: data in, members and intervals, the file with its card, summary and report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atomml.config import as_config
from atomml.property.domain import Known
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.judgement import judge
from atomml.property.targets import Target
from atomml.run import RunFolder
from atomml.workflows.properties.property_data import LabelledSet, read_labelled, with_classes
from atomml.workflows.properties.property_fitting import EnsembleFit, InputStore, Parts, answers_for, deal
from atomml.workflows.properties.property_training import PropertyTrainOptions, PropertyTrainResult
from atomml.workflows.run_record import finish_run
from atomml.workflows.trainings.training_folder import TrainingFolder

__all__ = ["GivenSets", "PropertySession"]

MODEL = "model.safetensors"


@dataclass(frozen=True)
class GivenSets:
    """Structures in any form that :func:`~atomml.workflows.inputs.sources_of` takes; None for no such set."""

    train: Any
    valid: Any = None
    test: Any = None


class PropertySession(TrainingFolder):
    """A training in its folder; a context manager that holds the folder.

    Started by ``torchrun``, the processes share every batch of a network; trees are grown by the first, which
    alone writes files.

    Args:
        options: The options.
        targets: What is learned.
        given: The structures.
        out: The folder.
        config: What ``config.yaml`` says besides.
        **how: ``resume``, ``overwrite`` and ``started``, as for :class:`TrainingFolder`.
    """

    def __init__(
        self,
        options: PropertyTrainOptions,
        targets: list[Target],
        given: GivenSets,
        out: Path,
        config: Mapping[str, Any],
        **how: Any,
    ) -> None:
        super().__init__("property train", options, PropertyTrainOptions, out, config, **how)
        self.options, self.targets, self.given = options, targets, given
        self.shape: dict[str, dict[str, Any]] = config.get("shape", {})

    def open_data(self) -> None:
        """Read the files and hold parts out.

        Raises:
            InputError: A file that cannot be read, a label that cannot be, too few structures.
        """
        o = self.options
        train = read_labelled(self.given.train, self.targets, o.labels)
        self.targets = with_classes(self.targets, o.classes, train)
        valid = self._read(self.given.valid)
        self.test = self._read(self.given.test)
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

    def _read(self, structures: Any) -> LabelledSet | None:
        if structures is None:
            return None
        return read_labelled(structures, self.targets, self.options.labels, needed=False)

    def event(self, kind: str, /, **data: Any) -> None:
        """As of every training; each member has its own curves in TensorBoard's files."""
        if kind == "member":
            self.show_on_board(f"member-{data['number']}")
        super().event(kind, **data)

    def go(self) -> PropertyTrainResult:
        """Train, judge, write."""
        fit = self._fit()
        ready = time.perf_counter()
        name = self.options.name or f"property-{'-'.join(self.options.family)}"
        ensemble = fit.run(name, resume=self.folder.resumed)
        self.folder.event("fitted", seconds=time.perf_counter() - ready)
        scores, duplicates = self._judged(ensemble, fit.inputs)
        ensemble.card = self._card(scores, duplicates)
        self._save(ensemble)
        result = self._result(ensemble, fit, scores, len(duplicates))
        if isinstance(self.folder, RunFolder):
            self._write_tables(self.folder, ensemble, fit.inputs, duplicates)
            record = {"name": ensemble.info.name, "sha256": ensemble.info.sha256, "family": "property"}
            seconds = time.perf_counter() - self.started
            finish_run(self.folder, result, model=record, inputs=self.sources, seconds=seconds)
        return result

    def _save(self, ensemble: PropertyEnsemble) -> None:
        """The file, written by the first process and read by all."""
        from atomml.checkpoint import load_any_model, save_model

        path = self.out / MODEL
        if self.processes.is_first:
            save_model(ensemble, path)
        self.processes.wait()
        ensemble.info = replace(ensemble.info, sha256=load_any_model(path, "float32", "cpu").info.sha256)

    def _fit(self) -> EnsembleFit:
        options = self.options
        told = as_config(options)
        for key in ("device", "tensorboard", "save_every", "labels"):
            told.pop(key, None)
        data = {
            name: getattr(self.parts, name).digest(self.targets) for name, n in self.parts.sizes.items() if n
        }
        return EnsembleFit(
            options,
            self.targets,
            self.parts,
            self.shape,
            self.out,
            self.processes,
            self.hooks(),
            InputStore(self.event, self.out, self.processes),
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
        known = ensemble.known
        duplicates = _known_again(known, self.test) if known and self.test else []
        if duplicates:
            self.folder.warn(
                f"{len(duplicates)} of {len(self.test or ())} test structures are, or nearly are, training "
                f"structures ({duplicates[0][0]} is {duplicates[0][1]}): duplicates.csv lists them."
            )
        return scores, duplicates

    def _card(self, scores: Mapping[str, Any], duplicates: list[tuple[str, str]]) -> dict[str, Any]:
        files = [{"name": _source_name(one), "sha256": one["sha256"]} for one in self.sources]
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
        return PropertyTrainResult(
            model=str(self.out / MODEL),
            name=ensemble.info.name,
            families=[member.info.family for member in ensemble.each()],
            targets=[target.label for target in self.targets],
            structures=self.parts.sizes | ({"test": len(self.test)} if self.test else {}),
            steps=fit.steps,
            n_weights=sum(p.numel() for p in learned),
            scores=scores,
            duplicates=duplicates,
            weights={t.key: [row[k] for row in ensemble.weights] for k, t in enumerate(self.targets)},
            folder=self.out,
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


def _source_name(record: Mapping[str, Any]) -> str:
    """Of a file its name, without the folders that led to it."""
    if record["path"] is None:
        return f"{record['structures']} structures given in Python"
    return Path(str(record["path"])).name


def _known_again(known: Known, data: LabelledSet) -> list[tuple[str, str]]:
    """Structures of a set that are training structures: their names and those in training."""
    found = []
    for atoms, name in zip(data.atoms, data.ids, strict=True):
        same = known.same_as(atoms)
        if same is not None:
            found.append((name, same))
    return found

"""The folds of a study: each fitted once with all families, judged family by family and combined.

The combined model is a mean whose weights come from the other folds' tests: every one of these answers is of
a structure that its model has not seen, and there are four times as many as a fold could test itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.checkpoint import load_state, save_state
from atomml.errors import CheckpointError
from atomml.files import write_table
from atomml.property.conformal import calibrate, calibrate_classes, coverage_interval
from atomml.property.domain import duplicates_within
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.folds import grouped_folds, prototype_of, random_folds
from atomml.property.importance import importance_rows
from atomml.property.judgement import inside
from atomml.property.scores import class_scores, number_scores
from atomml.property.targets import Target
from atomml.workflows.properties.property_fitting import EnsembleFit, InputStore, deal
from atomml.workflows.properties.property_weights import family_weights

if TYPE_CHECKING:
    from atomml.workflows.properties.property_data import LabelledSet
    from atomml.workflows.properties.property_study import PropertyStudyOptions, PropertyStudyResult
    from atomml.workflows.trainings.training_folder import TrainingFolder

__all__ = ["Study"]

Floats = NDArray[np.float64]

COMBINED = "combined"
_FORMAT = "atomml fold 3"
_LEAST = 20  # structures of a prototype that gets a row of its own


@dataclass
class _Found:
    """What the folds of a scheme say of every structure, by model and target.

    Attributes:
        learned: ``(n,)`` or ``(n, n_classes)`` by model and target.
        held: ``(n,)`` 1 where the interval held the label, 0 where it did not, NaN where there was none.
        weights: By target the weight of each family, a row for each fold.
        calibrated: Calibration structures of all folds, by target.
    """

    learned: dict[tuple[str, int], Floats]
    held: dict[tuple[str, int], Floats]
    weights: dict[int, list[Floats]]
    calibrated: dict[int, int]


@dataclass(frozen=True)
class _Fold:
    """One fold: places of its test structures, and what members say of these and of calibration ones."""

    test: NDArray[np.int64]
    arrays: Mapping[str, Floats]


class Study:
    """A study in its run folder.

    Args:
        run: The folder; where several processes train together, the first of them writes.
        options: The options.
        targets: What is learned.
        data: All structures.
        shape: Hyperparameters by family.
    """

    def __init__(
        self,
        run: TrainingFolder,
        options: PropertyStudyOptions,
        targets: list[Target],
        data: LabelledSet,
        shape: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.run, self.options, self.targets, self.data = run, options, targets, data
        self.shape, self.writes = shape, run.processes.is_first
        self.inputs = InputStore(run.event, run.out, run.processes)
        self.prototypes = [prototype_of(atoms) for atoms in data.atoms]
        self.models = [*options.family, *([COMBINED] if len(options.family) > 1 else [])]
        self._describer: Any = None
        self._digest = data.digest(targets)

    def go(self) -> PropertyStudyResult:
        """Every fold of every scheme, then the tables."""
        from atomml.workflows.properties.property_study import PropertyStudyResult

        result = PropertyStudyResult(
            n_structures=len(self.data),
            n_prototypes=len(set(self.prototypes)),
            n_duplicates=len(duplicates_within(self.data.atoms, self.data.ids)),
            folder=self.run.out,
        )
        parity: list[dict[str, Any]] = []
        for scheme in self.options.schemes:
            found = self._scheme(scheme)
            result.table[scheme] = self._scores(found)
            result.weights[scheme] = self._weights(found)
            parity += self._parity(scheme, found)
            if not self.writes:
                continue
            if scheme == "prototype":
                self._write_prototypes(found)
            write_table(self.run.out / "parity.csv", parity, list(parity[0]))
            rows = comparison_rows(result.table)
            write_table(self.run.out / "comparison.csv", rows, list(rows[0]))
        if self.writes:
            self._write_importances()
        return result

    def _folds(self, scheme: str) -> list[NDArray[np.int64]]:
        n, options = len(self.data), self.options
        if scheme == "random":
            return random_folds(n, options.folds, options.seed)
        return [fold for fold in grouped_folds(self.prototypes, options.folds, options.seed) if len(fold)]

    def _scheme(self, scheme: str) -> _Found:
        n = len(self.data)
        found = _Found(
            {}, {}, {k: [] for k in range(len(self.targets))}, dict.fromkeys(range(len(self.targets)), 0)
        )
        for model in self.models:
            for k, target in enumerate(self.targets):
                shape = (n, target.width) if target.classes else (n,)
                found.learned[model, k] = np.full(shape, np.nan)
                found.held[model, k] = np.full(n, np.nan)
        folds = [
            _Fold(test, self._fold(scheme, number, test)) for number, test in enumerate(self._folds(scheme))
        ]
        labels = self.data.encoded(self.targets)
        for number, fold in enumerate(folds):
            others = [one for place, one in enumerate(folds) if place != number]
            for k in range(len(self.targets)):
                weights = self._weights_from(others, k, labels)
                found.weights[k].append(weights)
                found.calibrated[k] += int(np.isfinite(fold.arrays[f"held_labels.{k}"]).sum())
                for model in self.models:
                    learned, held = self._judged(fold, k, model, weights, labels[fold.test, k])
                    found.learned[model, k][fold.test] = learned
                    found.held[model, k][fold.test] = held
        return found

    def _weights_from(self, folds: Sequence[_Fold], k: int, labels: Floats) -> Floats:
        """Weights of the families that fit the tests of these folds best."""
        n = len(self.options.family)
        if not folds:
            return np.full(n, 1.0 / n)
        members = np.concatenate([fold.arrays[f"members.{k}"] for fold in folds], axis=1)
        known = np.concatenate([labels[fold.test, k] for fold in folds])
        return family_weights(members, known, self.targets[k], n)

    def _judged(
        self, fold: _Fold, k: int, model: str, weights: Floats, labels: Floats
    ) -> tuple[Floats, Floats]:
        """Answers of a family, or of all, for the test structures of a fold, and whether intervals held."""
        target, each = self.targets[k], self.options.ensemble
        if model != COMBINED:
            weights = np.array([1.0 if family == model else 0.0 for family in self.options.family])
        share = np.repeat(weights / each, each)
        learned, spread = _mean(fold.arrays[f"members.{k}"], share)
        held = np.full(len(labels), np.nan)
        own = fold.arrays[f"held_labels.{k}"]
        if len(own):
            seen, seen_spread = _mean(fold.arrays[f"held_members.{k}"], share)
            one = calibrate_classes(seen, own) if target.classes else calibrate(own - seen, seen_spread)
            known = np.isfinite(labels)
            held[known] = inside(target, one, learned, spread, labels)[known]
        return learned, held

    def _fold(self, scheme: str, number: int, test: NDArray[np.int64]) -> dict[str, Floats]:
        """Answers of the members of one fold: fitted now, or kept from before.

        Raises:
            CheckpointError: What was kept is of an older version, or of other structures or labels.
        """
        folder = self.run.out / f"{scheme}-{number}"
        kept = folder / "answers.safetensors"
        if self.run.processes.agree(kept.exists()):
            state = load_state(kept)
            if state.header.get("format") != _FORMAT:
                raise CheckpointError(f"{kept} is of an older version: start the study with --overwrite.")
            if state.header.get("data") != self._digest:
                raise CheckpointError(
                    f"{kept} is of other structures or labels: start the study with --overwrite."
                )
            return state.arrays
        folder.mkdir(exist_ok=True)
        began = time.perf_counter()
        fit, ensemble = self._fitted(folder, test)
        arrays = self._answers(fit, ensemble, self.data.subset(test))
        if self.writes:
            important = importance_rows(ensemble)
            if important:
                write_table(folder / "importances.csv", important, list(important[0]))
            save_state(kept, arrays, {"format": _FORMAT, "data": self._digest})
        self.run.processes.wait()
        seconds = time.perf_counter() - began
        self.run.event("fold", scheme=scheme, number=number, structures=len(test), seconds=seconds)
        return arrays

    def _fitted(self, folder: Any, test: NDArray[np.int64]) -> tuple[EnsembleFit, PropertyEnsemble]:
        o = self.options
        rest = self.data.subset(np.setdiff1d(np.arange(len(self.data)), test))
        parts = deal(rest, None, o.valid_fraction, o.calibration_fraction, o.seed)
        labels = parts.train.encoded(self.targets)
        targets = [target.fitted(labels[:, k]) for k, target in enumerate(self.targets)]
        digests = {name: getattr(parts, name).digest(targets) for name, n in parts.sizes.items() if n}
        fit = EnsembleFit(
            o,
            targets,
            parts,
            self.shape,
            folder,
            self.run.processes,
            self.run.hooks(),
            self.inputs,
            {"method": "fresh", "data": digests},
            describer=self._describer,
        )
        ensemble = fit.run("study", resume=self.run.folder.resumed)
        self._describer = fit.describer
        return fit, ensemble

    def _answers(self, fit: EnsembleFit, ensemble: PropertyEnsemble, test: LabelledSet) -> dict[str, Floats]:
        """By target what each member says of the test and of the calibration structures, and their labels."""
        tested = fit.answers(ensemble, test).members
        held_out = fit.parts.calibration
        held = fit.answers(ensemble, held_out).members if len(held_out) else [one[:, :0] for one in tested]
        own = held_out.encoded(fit.targets)
        arrays: dict[str, Floats] = {}
        for k in range(len(fit.targets)):
            arrays |= {f"members.{k}": tested[k], f"held_members.{k}": held[k]}
            arrays[f"held_labels.{k}"] = own[:, k]
        return arrays

    def _scores(self, found: _Found) -> dict[str, dict[str, Any]]:
        """By model and target's key."""
        labels = self.data.encoded(self.targets)
        table: dict[str, dict[str, Any]] = {model: {} for model in self.models}
        n = self.options.resamples
        for (model, k), learned in found.learned.items():
            target = self.targets[k]
            judge: Any = class_scores if target.classes else number_scores
            scores = judge(labels[:, k], learned, resamples=n)
            held = found.held[model, k]
            known = np.isfinite(held)
            if known.any():
                inside_, count = int(held[known].sum()), int(known.sum())
                ends = coverage_interval(inside_, count, found.calibrated[k])
                scores["coverage"] = [inside_ / count, *ends]
            table[model][target.key] = scores
        return table

    def _weights(self, found: _Found) -> dict[str, dict[str, float]]:
        return {
            target.key: dict(
                zip(self.options.family, np.mean(found.weights[k], axis=0).tolist(), strict=True)
            )
            for k, target in enumerate(self.targets)
        }

    def _parity(self, scheme: str, found: _Found) -> list[dict[str, Any]]:
        labels = self.data.encoded(self.targets)
        rows = []
        for (model, k), learned in found.learned.items():
            target = self.targets[k]
            for i in np.flatnonzero(np.isfinite(labels[:, k])):
                value = int(learned[i].argmax()) if target.classes else float(learned[i])
                rows.append(
                    {
                        "scheme": scheme,
                        "model": model,
                        "target": target.key,
                        "id": self.data.ids[i],
                        "prototype": self.prototypes[i],
                        "label": float(labels[i, k]),
                        "prediction": value,
                    }
                )
        return rows

    def _write_prototypes(self, found: _Found) -> None:
        """Errors of each frequent prototype by models that saw none of it."""
        labels = self.data.encoded(self.targets)
        groups = np.asarray(self.prototypes)
        names, counts = np.unique(groups, return_counts=True)
        rows = []
        for name in names[np.argsort(-counts, kind="stable")]:
            mine = groups == name
            if mine.sum() < _LEAST:
                continue
            row: dict[str, Any] = {"prototype": str(name), "structures": int(mine.sum())}
            for (model, k), learned in found.learned.items():
                if not self.targets[k].classes:
                    off = np.abs(learned[mine] - labels[mine, k])
                    row[f"{model}_{self.targets[k].key}_mae"] = float(np.nanmean(off))
            rows.append(row)
        if rows:
            write_table(self.run.out / "prototypes.csv", rows, list(rows[0]))

    def _write_importances(self) -> None:
        """Mean over the random folds (or the only scheme's)."""
        import csv

        total: dict[tuple[str, str], float] = {}
        files = sorted(self.run.out.glob(f"{self.options.schemes[0]}-*/importances.csv"))
        for path in files:
            with path.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    key = row["target"], row["descriptor"]
                    total[key] = total.get(key, 0.0) + float(row["share_of_gain"]) / len(files)
        rows = [
            {"target": target.key, "descriptor": name, "share_of_gain": share}
            for target in self.targets
            for (key, name), share in sorted(total.items(), key=lambda item: -item[1])
            if key == target.key
        ]
        if rows:
            write_table(self.run.out / "importances.csv", rows, list(rows[0]))


def _mean(members: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and spread of members ``(n_members, n, ...)``."""
    mean = np.tensordot(share, members, axes=1)
    off = np.sqrt(np.maximum(np.tensordot(share, (members - mean) ** 2, axes=1), 0.0))
    return mean, off if off.ndim == 1 else off.max(axis=1)


def comparison_rows(table: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of ``comparison.csv``: a number with the ends of its 95% interval in three columns."""
    columns = ("r2", "mae", "rmse", "accuracy", "balanced_accuracy", "coverage")
    rows = []
    for scheme, models in table.items():
        for model, targets in models.items():
            for target, scores in targets.items():
                row: dict[str, Any] = {"scheme": scheme, "target": target, "model": model, "n": scores["n"]}
                for name in columns:
                    value = scores.get(name) or [None, None, None]
                    row |= dict(zip((name, f"{name}_low", f"{name}_high"), value, strict=True))
                rows.append(row)
    used = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["scheme"] != "random", rows[i]["target"], i))
    return [{name: rows[i][name] for name in used} for i in order]

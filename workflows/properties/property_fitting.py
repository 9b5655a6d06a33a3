"""From labelled structures to an ensemble with intervals: what a training and each fold of a study do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.checkpoint import load_state, save_state
from atomml.data.label import structure_digest
from atomml.property.conformal import Calibration, calibrate, calibrate_classes
from atomml.property.domain import Known, make_domain
from atomml.property.ensemble import Answers, PropertyEnsemble, input_key
from atomml.property.property_model import PropertyInput, PropertyModel, bare_graph, property_info
from atomml.property.targets import Target
from atomml.workflows.properties.property_weights import family_weights

if TYPE_CHECKING:
    from atomml.property.describer import Describer
    from atomml.train.processes import Processes
    from atomml.train.trainer import Hooks
    from atomml.workflows.properties.property_data import LabelledSet
    from atomml.workflows.properties.property_training import PropertyTrainOptions

__all__ = ["EnsembleFit", "InputStore", "Parts", "deal"]

Floats = NDArray[np.float64]

_KEEP_EVERY = 500
SETS = ("train", "valid", "calibration")
_AT_ONCE = 64


class InputStore:
    """What models see of structures, made once for each way of seeing and kept.

    Args:
        event: ``event(kind, **data)``, told how far the making is.
        folder: Where rows of descriptors are kept for a run that is resumed; None for nowhere.
        processes: Who computes; all make what they look at, and only the first of them writes.
    """

    def __init__(
        self, event: Any = None, folder: Path | None = None, processes: Processes | None = None
    ) -> None:
        self._kept: dict[str, dict[int, PropertyInput]] = {}
        self._event, self._folder = event, folder
        self._writes = processes is None or processes.is_first

    def fill(self, model: PropertyModel, data: LabelledSet) -> list[PropertyInput]:
        """What a model sees of every structure of a set, in order."""
        key = input_key(model)
        kept = self._kept.setdefault(key, {})
        missing = [k for k, atoms in enumerate(data.atoms) if id(atoms) not in kept]
        rows = self._rows_before(key) if missing and "describer" in model.hyperparameters() else None
        for done, k in enumerate(missing, start=1):
            atoms, where = data.atoms[k], data.wheres[k]
            name = structure_digest(atoms)
            known = None if rows is None else rows.get(name)
            if known is not None:
                kept[id(atoms)] = PropertyInput(bare_graph(atoms), torch.from_numpy(known[None]))
                continue
            kept[id(atoms)] = model.input_of(atoms, where)
            if rows is not None:
                row = kept[id(atoms)].row
                assert row is not None
                rows[name] = row[0].numpy()
                if done % _KEEP_EVERY == 0 or done == len(missing):
                    self._keep_rows(key, rows)
            if self._event is not None and done % 100 == 0:
                self._event("progress", step=done, of=len(missing), what=f"inputs of {model.info.family}")
        return [kept[id(atoms)] for atoms in data.atoms]

    def _file(self, key: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"rows-{hashlib.sha256(key.encode()).hexdigest()[:12]}.safetensors"

    def _rows_before(self, key: str) -> dict[str, Floats]:
        """Rows by digest of the structure, as an interrupted run left them."""
        path = self._file(key)
        if path is None or not path.exists():
            return {}
        state = load_state(path)
        return dict(zip(state.header["names"], state.arrays["rows"], strict=True))

    def _keep_rows(self, key: str, rows: Mapping[str, Floats]) -> None:
        path = self._file(key)
        if path is not None and self._writes:
            save_state(path, {"rows": np.stack(list(rows.values()))}, {"names": list(rows)})


@dataclass(frozen=True)
class Parts:
    """Sets of a training; ``valid`` and ``calibration`` may be empty."""

    train: LabelledSet
    valid: LabelledSet
    calibration: LabelledSet

    @property
    def sizes(self) -> dict[str, int]:
        """Structures in each."""
        return {name: len(getattr(self, name)) for name in SETS}


def deal(
    data: LabelledSet,
    valid: LabelledSet | None,
    valid_fraction: float,
    calibration_fraction: float,
    seed: int,
) -> Parts:
    """Hold parts out at random: to choose weights by, unless ``valid`` is given, and to calibrate with.

    Raises:
        OptionError: Nothing would be left to train on.
    """
    from atomml.errors import OptionError

    n = len(data)
    order = np.random.default_rng([seed, 77]).permutation(n)
    n_valid = round(valid_fraction * n) if valid is None and valid_fraction > 0 else 0
    n_valid = max(n_valid, 1) if valid is None and valid_fraction > 0 else n_valid
    n_calibration = max(round(calibration_fraction * n), 1) if calibration_fraction > 0 else 0
    if n - n_valid - n_calibration < 2:
        raise OptionError(
            f"{n} structures leave {n - n_valid - n_calibration} to train on after {n_valid} for validation "
            f"and {n_calibration} for calibration: give more, or lower --valid-fraction and "
            "--calibration-fraction."
        )
    held, rest = order[: n_valid + n_calibration], np.sort(order[n_valid + n_calibration :])
    own = valid if valid is not None else data.subset(np.sort(held[:n_valid]))
    return Parts(data.subset(rest), own, data.subset(np.sort(held[n_valid:])))


@dataclass
class EnsembleFit:
    """One ensemble in the making.

    Attributes:
        options: Those of the training.
        targets: Fitted to the training set.
        parts: The sets.
        shape: Hyperparameters by family.
        folder: Where members have their folders; exists.
        processes: Who computes.
        hooks: Where the run reports to.
        inputs: What models see, shared.
        header: What the members' checkpoints say of their making.
        steps: Steps or rounds of each member, once it is fitted.
    """

    options: PropertyTrainOptions
    targets: list[Target]
    parts: Parts
    shape: Mapping[str, Mapping[str, Any]]
    folder: Path
    processes: Processes
    hooks: Hooks
    inputs: InputStore
    header: Mapping[str, Any] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    describer: Describer | None = None

    def run(self, name: str, *, resume: bool) -> PropertyEnsemble:
        """Train every member, weigh them, calibrate.

        Raises:
            InputError: A structure or setting that a family cannot take.
            RunFailedError: A training failed.
        """
        members: list[PropertyModel] = []
        for number, (family, seed) in enumerate(self._plan()):
            folder = self.folder / f"member-{number}"
            folder.mkdir(exist_ok=True)
            self.hooks.event("member", number=number, family=family, seed=seed)
            member = self._member(family, seed, folder, resume)
            members.append(member.eval().requires_grad_(False))
        info = property_info(
            name,
            "property",
            self._elements(),
            properties=tuple(target.key for target in self.targets),
            training_data=f"{len(self.parts.train)} structures",
        )
        return self._trusted(PropertyEnsemble(info, members, self._weights(info, members)))

    def _plan(self) -> list[tuple[str, int]]:
        options = self.options
        return [(family, options.seed + k) for family in options.family for k in range(options.ensemble)]

    def _elements(self) -> list[int]:
        known = set(self.parts.train.elements)
        if self.describer is not None and self.describer.elements is not None:
            known &= self.describer.elements
        return sorted(known)

    def _fresh(self, family: str, seed: int) -> PropertyModel:
        from atomml.registry import family_class, seeded_generator

        settings: dict[str, Any] = {"targets": self.targets}
        if family in ("fcnn", "xgboost"):
            settings |= self._described()
        if family != "xgboost":
            settings |= self.shape.get(family, {})
        kind: Any = family_class(family, "The configuration")
        with seeded_generator(seed):
            model: PropertyModel = kind.fresh(
                f"{self.options.name or family}-{seed}", self.parts.train.elements, settings
            )
        if family in ("fcnn", "xgboost"):
            fit: Any = model
            fit.fit_rows(self._rows(model, self.parts.train))
        return model

    def _described(self) -> dict[str, Any]:
        if self.describer is None:
            from atomml.property.describer import Describer

            self.describer = Describer.fresh(self.options.descriptors)
        first = self.parts.train
        width = len(self.describer.row(first.atoms[0], first.wheres[0]))
        return {"describer": self.describer, "width": width}

    def _rows(self, model: PropertyModel, data: LabelledSet) -> Floats:
        found = [one.row for one in self.inputs.fill(model, data)]
        return (
            np.concatenate([row.numpy() for row in found if row is not None]) if found else np.empty((0, 0))
        )

    def _member(self, family: str, seed: int, folder: Path, resume: bool) -> PropertyModel:
        model = self._fresh(family, seed)
        grow = self._boosted if family == "xgboost" else self._trained
        return grow(model, seed, folder, resume)

    def _identity(self, model: PropertyModel) -> dict[str, str]:
        from atomml.md.identity import run_identity

        device = self.processes.device.type
        found = run_identity({"name": model.info.name, "sha256": "", "dtype": model.dtype, "device": device})
        found["processes"] = str(self.processes.n)
        return found | {f"data_{name}": digest for name, digest in self.header.get("data", {}).items()}

    def _trained(self, model: PropertyModel, seed: int, folder: Path, resume: bool) -> PropertyModel:
        """A network, by the loop of every training; the best weights by the validation set."""
        from atomml.checkpoint import load_any_model
        from atomml.train.property_objective import PropertyObjective
        from atomml.train.trainer import BEST, Data, Trainer
        from atomml.workflows.trainings.training_settings import train_settings

        options = replace(self.options, seed=seed)
        objective = PropertyObjective(tuple(self.targets), options.loss)
        dtype = torch.float64 if options.precision == "float64" else torch.float32
        model = model.to(dtype=dtype, device=self.processes.device)
        valid = self._samples(model, self.parts.valid) if len(self.parts.valid) else None
        trainer = Trainer(
            model,
            Data(self._samples(model, self.parts.train), valid),
            train_settings(options, objective, 1.0),
            folder,
            self.processes,
            header=self.header,
            identity=self._identity(model),
            hooks=self.hooks,
        )
        progress = trainer.run(resume=resume)
        self.steps.append(progress.step)
        best: Any = load_any_model(folder / BEST, "float32", str(self.processes.device))
        return best

    def _samples(self, model: PropertyModel, data: LabelledSet) -> Any:
        from atomml.train.property_objective import PropertySamples

        kept = dict(enumerate(self.inputs.fill(model, data)))
        return PropertySamples(model, data.atoms, data.wheres, data.encoded(self.targets), kept)

    def _boosted(self, model: Any, seed: int, folder: Path, resume: bool) -> PropertyModel:
        """Trees, round by round."""
        from atomml.workflows.properties.property_boosting import Boosting, BoostingSettings, Rows

        options = self.options
        settings = BoostingSettings.of(
            self.shape.get("xgboost", {}),
            rounds=options.rounds,
            patience=options.patience_rounds,
            seed=seed,
            threads=torch.get_num_threads(),
        )
        sets = [
            Rows(self._rows(model, part), part.encoded(self.targets)) if len(part) else None
            for part in (self.parts.train, self.parts.valid)
        ]
        assert sets[0] is not None
        growing = Boosting(
            model,
            sets[0],
            sets[1],
            settings,
            folder,
            self.hooks.event,
            self._identity(model),
            self.processes,
        )
        growing.run(resume=resume)
        self.steps.append(sum(growing.rounds))
        grown: PropertyModel = model
        return grown

    def answers(self, ensemble: PropertyEnsemble, data: LabelledSet) -> Answers:
        """Of an ensemble for a set, in batches."""
        return answers_for(ensemble, data, self.inputs)

    def _weights(self, info: Any, members: Sequence[PropertyModel]) -> list[list[float]] | None:
        """Equal ones within a family; between families those that fit the validation set best."""
        families = list(self.options.family)
        if len(families) == 1 or not len(self.parts.valid):
            return None
        plain = PropertyEnsemble(info, members)
        found = self.answers(plain, self.parts.valid)
        labels = self.parts.valid.encoded(self.targets)
        columns = [
            family_weights(found.members[k], labels[:, k], target, len(families))
            for k, target in enumerate(self.targets)
        ]
        each = self.options.ensemble
        return [
            [float(column[number // each]) / each for column in columns] for number in range(len(members))
        ]

    def _trusted(self, ensemble: PropertyEnsemble) -> PropertyEnsemble:
        """The ensemble with intervals, domain, and the structures it knows."""
        parts = self.parts
        train = self.answers(ensemble, parts.train)
        calibrations: list[Calibration] | None = None
        held = np.empty((0, train.features.shape[1]))
        if len(parts.calibration):
            found = self.answers(ensemble, parts.calibration)
            labels = parts.calibration.encoded(self.targets)
            calibrations = [
                calibrate_classes(found.learned[k], labels[:, k])
                if target.classes
                else calibrate(labels[:, k] - found.learned[k], found.spread[k])
                for k, target in enumerate(self.targets)
            ]
            held = found.features
            self._warn_of_few(calibrations)
        return PropertyEnsemble(
            ensemble.info,
            ensemble.each(),
            ensemble.weights,
            calibrations,
            make_domain(train.features, held, self.options.seed),
            Known.of(parts.train.atoms, parts.train.ids),
        )

    def _warn_of_few(self, calibrations: Sequence[Calibration]) -> None:
        for target, one in zip(self.targets, calibrations, strict=True):
            if np.isinf(one.quantile):
                self.hooks.warn(
                    f"{one.n} calibration structures are too few for intervals of {one.level:.0%} of "
                    f"{target.name}: give more structures, or a larger --calibration-fraction."
                )


def answers_for(ensemble: PropertyEnsemble, data: LabelledSet, inputs: InputStore) -> Answers:
    """Answers of an ensemble for the structures of a set, in batches."""
    members = ensemble.each()
    ways = {input_key(member): member for member in members}
    seen = {key: inputs.fill(member, data) for key, member in ways.items()}
    found = []
    for start in range(0, len(data), _AT_ONCE):
        batch = range(start, min(start + _AT_ONCE, len(data)))
        found.append(ensemble.answer([{key: seen[key][k] for key in ways} for k in batch]))
    n = range(len(ensemble.targets))
    return Answers(
        [np.concatenate([one.learned[k] for one in found]) for k in n],
        [np.concatenate([one.spread[k] for one in found]) for k in n],
        [np.concatenate([one.members[k] for one in found], axis=1) for k in n],
        np.concatenate([one.features for one in found]),
    )

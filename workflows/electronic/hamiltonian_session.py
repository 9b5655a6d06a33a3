"""One training of a Hamiltonian predictor: data and model in, the loop, files and summary out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atomml.errors import ModelError, OptionError
from atomml.run import RunFolder
from atomml.workflows.electronic.hamiltonian_training import (
    HamiltonianTrainOptions,
    HamiltonianTrainResult,
    check_level,
    resolved,
)
from atomml.workflows.trainings.training_run import Paths, TrainingRun

if TYPE_CHECKING:
    from pathlib import Path

    from atomml.data.dataset import Dataset
    from atomml.electronic.hamiltonian_model import HamiltonianModel
    from atomml.train.hamiltonian_objective import HamiltonianSamples
    from atomml.train.trainer import Data, Trainer
    from atomml.train.validation import Validation

__all__ = ["HamiltonianSession", "family_of"]

_log = logging.getLogger(__name__)


_NAMED = 1000
"""Most formulas of training molecules that a checkpoint names."""

PRESETS: dict[str, dict[str, Any]] = {
    "sphnet": {},
    "sphnet-small": {"channels": 32, "bottleneck": 16, "vectorial_layers": 2, "vectorial_radial": 8},
}
"""Names that ``model`` may be: the published shape, and one for some hundreds of geometries."""


def family_of(model: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Family and hyperparameters.

    Raises:
        OptionError: A family that predicts no Hamiltonian.
    """
    shape = {} if isinstance(model, str) else dict(model)
    name = model if isinstance(model, str) else str(shape.pop("family", "sphnet"))
    if name not in PRESETS:
        raise OptionError(f"{name} predicts no Hamiltonian: take {' or '.join(PRESETS)}.")
    return "sphnet", PRESETS[name] | shape


class HamiltonianSession(TrainingRun):
    """See :class:`~atomml.workflows.trainings.training_run.TrainingRun`."""

    model: HamiltonianModel

    def __init__(
        self, options: HamiltonianTrainOptions, paths: Paths, config: Mapping[str, Any], **how: Any
    ) -> None:
        from atomml.train.hamiltonian_objective import HamiltonianObjective

        objective = HamiltonianObjective(1.0, options.alignment, options.orthogonal)
        kind = HamiltonianTrainOptions
        super().__init__("hamiltonian train", options, kind, paths, config, objective, **how)
        self.sets: dict[str, Dataset] = {}
        self.level = ""
        self.formulas: set[str] = set()

    def open_data(self) -> None:
        """Read the files, and hold a part out if need be.

        Raises:
            InputError: A file that cannot be read, an entry with a charge or without a matrix, several levels
                of theory.
        """
        from atomml.data.dataset import open_dataset
        from atomml.electronic.charge_spin import check_closed_shell
        from atomml.train.hamiltonian_objective import matrix_of, prior_of
        from atomml.train.holdout import hold_out
        from atomml.workflows.inputs import net_charge

        whole = open_dataset(self.paths.train, unlabelled=True)
        self.sets["train"] = whole
        if self.paths.valid:
            self.sets["valid"] = open_dataset(self.paths.valid, unlabelled=True)
        elif self.loop.valid_fraction > 0:
            parts = hold_out(whole, self.loop.valid_fraction, self.loop.seed)
            self.sets |= {"train": whole.subset(parts.train), "valid": whole.subset(parts.valid)}
            self.folder.event("held out", message=parts.sentence, structures=len(parts.valid))
            _log.info("%s", parts.sentence)
        if self.paths.test:
            self.sets["test"] = open_dataset(self.paths.test, unlabelled=True)
        methods = set()
        for what, dataset in self.sets.items():
            for entry in dataset:
                check_closed_shell(*net_charge(entry.atoms), entry.where)
                matrix_of(entry)
                prior_of(entry, self.options.prior)
                methods.add(entry.method)
                if what == "train":
                    self.formulas.add(str(entry.atoms.get_chemical_formula()))
        self.level = check_level(methods)

    def make_model(self, family: str, shape: Mapping[str, Any]) -> None:
        """A fresh model for the elements and the basis set of the data, scaled to their matrices.

        Raises:
            InputError: A hyperparameter that there is not, or an element that only other sets hold.
        """
        import torch

        from atomml.electronic.orbital_levels import shells_of_basis
        from atomml.electronic.orbitals import highest_degree
        from atomml.registry import family_class, seeded_generator

        name = self.level.partition(" ")[0]
        elements = self._elements()
        shells = {z: shells_of_basis(name.partition("/")[2], z) for z in elements}
        settings = {"max_degree": highest_degree(shells.values()), **shape, "shells": shells, "level": name}
        settings |= {"method": self.level, "prior": self.options.prior}
        kind: Any = family_class(family, "The configuration")
        with seeded_generator(self.options.seed):
            model = kind.fresh(self.options.name or f"{family}-trained", elements, settings)
        dtype = torch.float64 if self.options.precision == "float64" else torch.float32
        self.model = model.to(dtype=dtype, device=self.processes.device).eval()
        self._fit()

    def _elements(self) -> list[int]:
        """Atomic numbers of the training set, which must cover the others."""
        known = {int(z) for entry in self.sets["train"] for z in entry.atoms.numbers}
        for what, dataset in self.sets.items():
            for entry in dataset:
                if not known.issuperset(map(int, entry.atoms.numbers)):
                    raise ModelError(
                        f"{entry.where}, of the {what} set, holds an element that no training molecule does: "
                        "leave it out."
                    )
        return sorted(known)

    def _fit(self) -> None:
        """Scale what comes out to the size of the training set's matrices; of some hundreds of molecules."""
        from atomml.electronic.matrices import join_blocks

        samples = self._samples("train")
        few = range(0, len(samples), max(len(samples) // 256, 1))
        fit = getattr(self.model, "fit", None)
        if fit is not None:
            fit(join_blocks([samples[i].target for i in few]))

    def _samples(self, what: str) -> HamiltonianSamples:
        from atomml.train.hamiltonian_objective import HamiltonianSamples

        bases = {"aligned": self.options.alignment > 0, "orthogonal": self.options.orthogonal > 0}
        return HamiltonianSamples(self.sets[what], self.model, **bases)

    def train_samples(self) -> Data:
        """The data as the trainer takes them."""
        from atomml.train.trainer import Data

        valid = self._samples("valid") if "valid" in self.sets else None
        return Data(self._samples("train"), valid)

    def header(self) -> dict[str, Any]:
        """What the checkpoints say of their making."""
        digests = {what: dataset.digest for what, dataset in self.sets.items() if what != "test"}
        told = {"method": "fresh", "level": self.level, "data": digests, "options": resolved(self.options)}
        return told | ({"molecules": sorted(self.formulas)} if len(self.formulas) <= _NAMED else {})

    def training_data(self) -> str:
        """One line for the model's card."""
        n = len(self.sets["train"])
        return f"{n} matrices of {self.level}"

    def go(self) -> HamiltonianTrainResult:
        """Train, evaluate, and write summary and report."""
        trainer = self.trainer()
        ready = time.perf_counter()
        trainer.run(resume=self.folder.resumed)
        trained = time.perf_counter()
        result = self._result(trainer)
        timing = {"setup_s": ready - self.started, "training_s": trained - ready}
        timing |= {"evaluation_s": time.perf_counter() - trained}
        timing |= {"total_s": time.perf_counter() - self.started}
        self._write(result, timing)
        return result

    def _result(self, trainer: Trainer) -> HamiltonianTrainResult:
        from atomml.checkpoint import load_any_model
        from atomml.train.trainer import BEST, LAST

        out, progress = self.paths.out, trainer.progress
        dtype = "float64" if self.options.precision == "float64" else "float32"
        best: Any = load_any_model(out / BEST, dtype, str(self.processes.device))
        found = {what: self._evaluated(best, what) for what in ("valid", "test") if what in self.sets}
        mae = {what: _micro(one.errors.mae("hamiltonian")) for what, one in found.items()}
        return HamiltonianTrainResult(
            model=str(out / BEST),
            last_model=str(out / LAST),
            name=best.info.name,
            level=self.level,
            steps=progress.step,
            best_step=progress.best_step,
            valid_mae=mae.get("valid"),
            prior_mae=self._prior_mae() if "valid" in self.sets else None,
            test_mae=mae.get("test"),
            n_weights=sum(p.numel() for p in self.model.parameters()),
            molecules={what: len(dataset) for what, dataset in self.sets.items()},
            stopped_early=progress.stopped,
            warnings=list(self.folder.warnings),
            folder=out,
        )

    def _evaluated(self, model: Any, what: str) -> Validation:
        from atomml.train.validation import validate

        limits = self.settings.limits
        return validate(model, self._samples(what), self.settings.objective, self.processes, limits)

    def _prior_mae(self) -> float:
        """What the prior alone leaves, µEh."""
        import numpy as np

        from atomml.train.hamiltonian_objective import matrix_of, prior_of

        off = [np.abs(matrix_of(e) - prior_of(e, self.options.prior)).ravel() for e in self.sets["valid"]]
        return 1e6 * float(np.concatenate(off).mean())

    def _write(self, result: HamiltonianTrainResult, timing: Mapping[str, float]) -> None:
        """Summary and report."""
        from pathlib import Path

        from atomml.checkpoint import read_header
        from atomml.report.render import render_run
        from atomml.workflows.inputs import input_record

        folder = self.folder
        if not isinstance(folder, RunFolder):
            return
        files = [
            input_record(Path(path), role=role)
            for role in ("train", "valid", "test")
            for path in getattr(self.paths, role)
        ]
        header = read_header(result.model)
        result.summary = folder.write_summary(
            results=result.results(),
            units=result.units(),
            model={"name": result.name, "sha256": _digest(result.model), "family": header["family"]},
            inputs=files,
            timing=dict(timing),
            converged=True,
        )
        render_run(folder.path)


def _digest(path: str | Path) -> str:
    from atomml.checkpoint import load_checkpoint

    return load_checkpoint(path).sha256


def _micro(value: float | None) -> float | None:
    return None if value is None else 1e6 * value

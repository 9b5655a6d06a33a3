"""What training and fine-tuning have in common: data in, references, the loop, files and summary out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from atomml.ancestry import ancestors
from atomml.config import as_config
from atomml.data.label_keys import LabelKeys
from atomml.train.survey import Survey, check_groups, survey
from atomml.workflows.trainings.training import TrainingOptions, TrainResult
from atomml.workflows.trainings.training_heads import head_weights, heads_of, open_by_head
from atomml.workflows.trainings.training_run import Paths, TrainingRun
from atomml.workflows.trainings.training_settings import loss_of, parse_weights

if TYPE_CHECKING:
    from atomml.data.dataset import Dataset
    from atomml.model import ModelInfo, Potential
    from atomml.train.drift import Drift
    from atomml.train.samples import Samples
    from atomml.train.trainer import Data, Replay
    from atomml.workflows.trainings.fine_tuning import FineTuneOptions
    from atomml.workflows.trainings.training_references import Replayed

__all__ = ["Paths", "Session"]

_log = logging.getLogger(__name__)


class Session(TrainingRun):
    """One training or fine-tuning of a potential in its folder; a context manager that holds the folder.

    Args:
        command: ``train`` or ``finetune``.
        options: The options.
        kind: Their class, for units.
        paths: Files.
        config: What ``config.yaml`` says besides.
        resume, overwrite: As for :class:`atomml.run.RunFolder`.
        started: ``time.perf_counter()`` when the command began.
    """

    model: Potential
    options: Any

    def __init__(
        self,
        command: str,
        options: TrainingOptions,
        kind: type,
        paths: Paths,
        config: Mapping[str, Any],
        **how: Any,
    ) -> None:
        from atomml.train.potential_objective import PotentialObjective

        self.loss = loss_of(options)
        super().__init__(command, options, kind, paths, config, PotentialObjective(self.loss), **how)
        self.held_out = ""
        self.surveys: dict[str, Survey] = {}
        self.shifts: dict[str, dict[int, float]] = {}
        self.heads: tuple[str, ...] = ()
        self._head_weights: dict[str, float] = {}
        self.replayed: Replayed | None = None
        self._to_replay: Dataset | None = None
        self.old_head = ""
        self.parent_record: Mapping[str, Any] | None = None

    def open_data(self, info: ModelInfo | None) -> None:
        """Read the files, hold a part out if need be, and say what they lack.

        Raises:
            InputError: A file that cannot be read, no labels, an element that the model does not know.
        """
        from atomml.train.holdout import hold_out

        keys = LabelKeys.of(self.options)
        whole = open_by_head(self.paths.train, keys)
        self.train: Dataset = whole
        self.valid: Dataset | None = None
        if self.paths.valid:
            self.valid = open_by_head(self.paths.valid, keys)
        elif self.options.valid_fraction > 0:
            parts = hold_out(whole, self.options.valid_fraction, self.options.seed)
            self.train, self.valid = whole.subset(parts.train), whole.subset(parts.valid)
            self.held_out = parts.sentence
            self.folder.event("held out", message=parts.sentence, structures=len(parts.valid))
            _log.info("%s", parts.sentence)
        self.test = open_by_head(self.paths.test, keys) if self.paths.test else None
        for what, dataset in (("training", self.train), ("validation", self.valid), ("test", self.test)):
            if dataset is not None:
                self._survey(what, dataset, info)
        self.heads = heads_of(self.surveys)
        self._head_weights = head_weights(self.options.head_shares, self.surveys["training"].heads)

    def _survey(self, what: str, dataset: Dataset, info: ModelInfo | None) -> None:
        seen = survey(dataset, what, self.loss, info)
        self.surveys[what] = seen
        for sentence in seen.sentences(self.loss):
            self.folder.warn(sentence)
        if what == "training":
            check_groups(self._group_weights(), seen.groups)
            return
        repeated = self.surveys["training"].repeated_in(seen)
        if repeated:
            self.folder.warn(
                f"{repeated} of {seen.n_entries} {what} structures stand in the training set too: errors on "
                "them say nothing of new structures."
            )

    def elements(self) -> list[int]:
        """Atomic numbers in the data."""
        return sorted({z for seen in self.surveys.values() for z in seen.elements})

    def take_model(self, model: Potential, parent: ModelInfo | None) -> None:
        """The model to be trained, and what it was before."""
        import torch

        dtype = torch.float64 if self.options.precision == "float64" else torch.float32
        self.model = model.to(dtype=dtype, device=self.processes.device).eval()
        self.parent = parent

    def check_references(self, how: str) -> None:
        """Refuse references that the data cannot give, before anything is written.

        Raises:
            OptionError: An element without an isolated atom, or a model without reference energies.
        """
        from atomml.workflows.trainings.training_references import by_head, check_isolated

        if how == "isolated":
            for own in by_head(self.train).values():
                check_isolated(self.model, own)

    def set_references(self, how: str) -> None:
        """Change the reference energies of the elements; a resumed run takes those that it had."""
        from atomml.train.resume import RESTART
        from atomml.workflows.trainings.training_references import read_shifts, shifts_for, write_shifts

        file = self.paths.out / "references.json"
        begun = self.folder.resumed and (self.paths.out / RESTART).exists()  # else it starts anew
        known = read_shifts(file) if begun else None
        if known is None:
            known = shifts_for(how, self.model, self.train, self.settings.limits, self.folder)
            if self.processes.is_first:
                write_shifts(file, known)
        self.shifts = known
        for head, shifts in known.items():
            if shifts:
                with self.model.answering_by(head):
                    self.model.shift_references(shifts)

    def set_scales(self) -> None:
        """Let fresh weights start at the scales of the data: neighbours of an atom, size of a force."""
        from atomml.train.scales import scales_of

        found = scales_of(self.train, self.model.info.cutoff)
        if self.model.set_scales(found.neighbours, found.force):
            self.folder.event("scales", neighbours=found.neighbours, force_eV_per_A=found.force)

    def open_replay(self, options: FineTuneOptions) -> None:
        """Read the files to replay, or see that there is something to generate, before anything is written.

        Raises:
            InputError: A file that cannot be read, or nothing to replay.
        """
        from atomml.train.replay import check_generable
        from atomml.workflows.trainings.training_references import replay_files

        if options.replay:
            self._to_replay = replay_files(options, self.model.info)
        else:
            check_generable(self.model.info, self.surveys["training"].elements)

    def set_replay(self, options: FineTuneOptions, head: str) -> None:
        """Structures against forgetting, labelled by the model as it stands now; by its old head, if any."""
        from atomml.workflows.trainings.training_references import replay_of

        elements = self.surveys["training"].elements
        with self.model.answering_by(head):
            found = replay_of(options, self.model, elements, head, self._to_replay)
        self.replayed, self.old_head = found, head
        self.surveys["replay"] = survey(found.dataset, "replayed", self.loss, self.model.info)
        shown = len(found.replay.samples)
        self.folder.event("replay", structures=shown, per_step=found.replay.per_batch)

    @property
    def replay(self) -> Replay | None:
        """Structures against forgetting."""
        return self.replayed.replay if self.replayed else None

    def drift(self, best: Potential) -> Drift | None:
        """How far old answers have moved; None where nothing was replayed.

        It is measured whenever structures are replayed, and written down; too much of it is a warning here
        and a run that has not converged.
        """
        from atomml.train.drift import DriftLimits, drift_of

        if self.replayed is None:
            return None
        limits = DriftLimits(self.options.drift_energy, self.options.drift_forces)
        held = self.replayed.held_back
        found = drift_of(best, self.old_head, self.replayed.before, held=held, limits=limits)
        say = self.folder.warn if found.exceeded else _log.info
        say(found.sentence(self.old_head))
        self.folder.event("drift", **found.record())
        return found

    def train_samples(self) -> Data:
        """The data as the trainer takes them."""
        from atomml.train.trainer import Data

        valid = None if self.valid is None else self._samples(self.valid, {})
        return Data(self._samples(self.train, self._group_weights()), valid, self.replay)

    def _group_weights(self) -> dict[str, float]:
        form = "GROUP=WEIGHT, such as Surface=2"
        return parse_weights(self.options.group_weights, "group_weights", form)

    def _samples(self, dataset: Dataset, groups: Mapping[str, float]) -> Samples:
        from atomml.train.samples import Samples

        return Samples(dataset, self.model, groups, self.options.cache_gb * 1e9, self._head_weights)

    def go(self, method: str) -> TrainResult:
        """Train, evaluate, and write summary and report."""
        from atomml.workflows.trainings.training_files import conclude

        self.method = method
        trainer = self.trainer()
        ready = time.perf_counter()
        trainer.run(resume=self.folder.resumed)
        return conclude(
            self, trainer, {"setup_s": ready - self.started, "training_s": time.perf_counter() - ready}
        )

    def training_data(self) -> str:
        """One line for the model's card."""
        seen = self.surveys["training"]
        symbols = " ".join(chemical_symbols[z] for z in sorted(seen.elements))
        own = f"{seen.n_entries} structures of {symbols}"
        if self.parent is None:
            return own
        return f"{self.parent.training_data}; then {own} ({self.method} fine-tuning of {self.parent.name})"

    def header(self) -> dict[str, Any]:
        """What the checkpoints say of their making: no path, host or time."""
        replayed = None if self.replayed is None else self.replayed.dataset
        given = {"train": self.train, "valid": self.valid, "replay": replayed}
        sets = {role: one for role, one in given.items() if one is not None}
        digests = {role: one.digest for role, one in sets.items()}
        files = {role: [digest for path, digest in one.origins if path] for role, one in sets.items()}
        told = as_config(self.options)
        for key in ("device", "tensorboard", "cache_gb", "save_every", "replay"):
            told.pop(key, None)
        header: dict[str, Any] = {"method": self.method, "data": digests, "files": files}
        header |= {"seed": self.options.seed, "options": told}
        if self.heads:
            header["heads"] = list(self.heads)
        if self.weights is not None:
            header["low_rank"] = {"rank": self.options.lora_rank, "alpha": self.options.lora_alpha}
        if self.parent is None:
            return {**header, "parent": None}
        parent = {"name": self.parent.name, "sha256": self.parent.sha256}
        return {**header, "parent": parent, "ancestors": ancestors(self.parent, self.parent_record)}

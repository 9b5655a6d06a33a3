"""What every training has in common, whatever it trains: files, the model, the loop."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import OptionError
from atomml.run import default_folder
from atomml.workflows.trainings.loop_options import LoopOptions
from atomml.workflows.trainings.training_folder import TrainingFolder
from atomml.workflows.trainings.training_heads import Files, as_texts, split_head
from atomml.workflows.trainings.training_settings import train_settings

if TYPE_CHECKING:
    from atomml.base_model import Model, ModelInfo
    from atomml.train.low_rank import Weights
    from atomml.train.objective import Objective
    from atomml.train.trainer import Data, Trainer

__all__ = ["Paths", "TrainingRun"]


@dataclass(frozen=True)
class Paths:
    """Files of a training.

    Attributes:
        train, valid, test: As they were given, each with its head if it has one.
        out: The run folder.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    out: Path

    @classmethod
    def of(cls, command: str, train: Files, valid: Files, test: Files, out: str | Path | None) -> Paths:
        """Files in any of the forms that a caller may give.

        Raises:
            OptionError: Nothing to train on.
        """
        given = [as_texts(files) for files in (train, valid, test)]
        if not given[0]:
            raise OptionError(f"atomml {command} needs structures to train on: name files with --train.")
        folder = Path(out) if out is not None else default_folder(command, split_head(given[0][0])[1])
        return cls(given[0], given[1], given[2], folder)

    def config(self) -> dict[str, Any]:
        """What ``config.yaml`` says of them."""
        return {"train": list(self.train), "valid": list(self.valid), "test": list(self.test)}


class TrainingRun(TrainingFolder, abc.ABC):
    """One training of one model in its folder; a context manager that holds the folder.

    Args:
        command: Name of the command.
        options: The options.
        kind: Their class, for units.
        paths: Files.
        config: What ``config.yaml`` says besides.
        objective: What is minimised.
        resume, overwrite: As for :class:`atomml.run.RunFolder`.
        started: ``time.perf_counter()`` when the command began.
    """

    model: Model
    method: str = "fresh"

    def __init__(
        self,
        command: str,
        options: LoopOptions,
        kind: type,
        paths: Paths,
        config: Mapping[str, Any],
        objective: Objective,
        *,
        resume: bool,
        overwrite: bool,
        started: float,
    ) -> None:
        super().__init__(
            command,
            options,
            kind,
            paths.out,
            {**config, **paths.config()},
            resume=resume,
            overwrite=overwrite,
            started=started,
        )
        _check_judged(options, paths)
        self.paths = paths
        self.loop = options
        self.options: Any = options
        self.settings = train_settings(options, objective, getattr(options, "layer_decay", 1.0))
        self.parent: ModelInfo | None = None
        self.n_frozen = 0
        self.weights: Weights | None = None

    def begin(self) -> None:
        """Open the folder, and TensorBoard's files if such are wanted."""
        super().begin()
        self.show_on_board("")

    @abc.abstractmethod
    def train_samples(self) -> Data:
        """The data as the trainer takes them."""

    @abc.abstractmethod
    def header(self) -> dict[str, Any]:
        """What the checkpoints say of their making: no path, host or time."""

    @abc.abstractmethod
    def training_data(self) -> str:
        """One line for the model's card."""

    def freeze(self, blocks: tuple[str, ...]) -> None:
        """Let the named blocks be as they are."""
        from atomml.train.optimiser import freeze

        learning = set(freeze(self.model, blocks))
        frozen = [p.numel() for name, p in self.model.named_parameters() if name not in learning]
        self.n_frozen = sum(frozen)
        self.folder.event("frozen", blocks=list(blocks), weights=self.n_frozen)

    def adapt(self, rank: int, alpha: float) -> None:
        """Let low-rank changes of the linear maps learn, and nothing else; the model is its parent now."""
        from atomml.train.low_rank import LowRank

        self.weights = LowRank(self.model, rank, alpha, self.options.seed)
        learning = sum(p.numel() for p in self.weights.learning().values())
        self.n_frozen = sum(p.numel() for p in self.model.parameters())
        self.folder.event("low rank", rank=rank, alpha=alpha, weights=learning)

    def trainer(self) -> Trainer:
        """The loop, ready to run."""
        from atomml.md.identity import run_identity
        from atomml.train.trainer import Trainer

        header = self.header()
        identity = run_identity(
            {
                "name": (self.parent or self.model.info).name,
                "sha256": self.parent.sha256 if self.parent else "",
                "dtype": self.model.dtype,
                "device": self.processes.device.type,
            }
        )
        identity |= {f"data_{name}": digest for name, digest in header["data"].items()}
        identity |= {f"files_{name}": ",".join(each) for name, each in header.get("files", {}).items()}
        identity["processes"] = str(self.processes.n)
        self.model.info = replace(self.model.info, training_data=self.training_data())
        return Trainer(
            self.model,
            self.train_samples(),
            self.settings,
            self.paths.out,
            self.processes,
            weights=self.weights,
            header=header,
            identity=identity,
            hooks=self.hooks(),
        )


def _check_judged(options: LoopOptions, paths: Paths) -> None:
    """Refuse what would wait in silence for validations that never come.

    Raises:
        OptionError: Says what needs them.
    """
    if paths.valid or options.valid_fraction > 0:
        return
    wanting = ["--patience"] if options.patience else []
    wanting += ["--schedule plateau"] if options.schedule == "plateau" else []
    if wanting:
        raise OptionError(f"{' and '.join(wanting)} go by validations: give --valid, or a --valid-fraction.")

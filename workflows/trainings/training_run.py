"""What every training has in common, whatever it trains: files, folder, processes, the loop."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from atomml.config import as_config, option_units
from atomml.errors import OptionError
from atomml.run import RunFolder, default_folder
from atomml.train.processes import Processes
from atomml.workflows.trainings.loop_options import LoopOptions
from atomml.workflows.trainings.training_heads import Files, as_texts, split_head
from atomml.workflows.trainings.training_settings import train_settings

if TYPE_CHECKING:
    from atomml.base_model import Model, ModelInfo
    from atomml.train.low_rank import Weights
    from atomml.train.objective import Objective
    from atomml.train.tensorboard import Board
    from atomml.train.trainer import Data, Trainer

__all__ = ["Bystander", "Paths", "TrainingRun"]

_EVENT_INTERVAL_S = 1.0


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


class Bystander:
    """Stands for the run folder in processes that write no files, and where nothing is to be written."""

    def __init__(self, path: Path, resumed: bool) -> None:
        self.path, self.resumed = path, resumed
        self.warnings: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, **data: Any) -> None:
        """Keep it, for a folder that may be opened later."""
        self.events.append((kind, data))

    def warn(self, message: str) -> None:
        """Keep it likewise."""
        self.warnings.append(message)


class TrainingRun(abc.ABC):
    """One training in its folder; a context manager that holds the folder.

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
        self.command, self.paths, self.started = command, paths, started
        self.loop = options
        self.options: Any = options
        self.settings = train_settings(options, objective, getattr(options, "layer_decay", 1.0))
        self.processes = Processes(options.device, options.precision)
        self._opening: dict[str, Any] = {
            "command": command,
            "config": {**config, **paths.config(), **as_config(options)},
            "resume": resume,
            "overwrite": overwrite,
            "units": option_units(kind),
            "may_change": ("cache_gb", "tensorboard", "save_every", "device"),
        }
        self.board: Board | None = None
        self.parent: ModelInfo | None = None
        self.n_frozen = 0
        self.weights: Weights | None = None
        self._said = -_EVENT_INTERVAL_S
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.folder: RunFolder | Bystander = Bystander(self.paths.out, resumed=False)
        return self

    def begin(self) -> None:
        """Open the folder: what is wrong with data and model is known by now, and has left nothing behind."""
        waiting = self.folder
        assert isinstance(waiting, Bystander)
        resumed = False
        if self.processes.is_first:
            folder = self._stack.enter_context(RunFolder.open(self.paths.out, **self._opening))
            for kind, data in waiting.events:
                folder.event(kind, **data)
            for sentence in waiting.warnings:
                folder.warn(sentence)
            self.folder, resumed = folder, folder.resumed
        resumed = bool(self.processes.agree(resumed))
        if not self.processes.is_first:
            self.folder = Bystander(self.paths.out, resumed)
        elif self.options.tensorboard:
            from atomml.train.tensorboard import Board

            self.board = self._stack.enter_context(closing(Board(self.paths.out / "tensorboard")))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

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
        from atomml.train.trainer import Hooks, Trainer

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
            hooks=Hooks(self._event, self.folder.warn, lambda: time.perf_counter() - self.started),
        )

    def _event(self, kind: str, **data: Any) -> None:
        """Pass events on; of the many about progress, one a second."""
        now = time.monotonic()
        if kind == "progress":
            if now - self._said < _EVENT_INTERVAL_S and data.get("step") != data.get("of"):
                return
            self._said = now
        self.folder.event(kind, **data)
        if kind == "epoch" and self.board is not None:
            self.board.epoch(data)

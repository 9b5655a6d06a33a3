"""The folder of a training, held by the first of the processes that train together."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from atomml.config import as_config, option_units
from atomml.run import RunFolder
from atomml.train.processes import Processes
from atomml.workflows.trainings.loop_options import LoopOptions

if TYPE_CHECKING:
    from atomml.train.tensorboard import Board
    from atomml.train.trainer import Hooks

__all__ = ["Bystander", "TrainingFolder"]

_log = logging.getLogger(__name__)

_EVENT_INTERVAL_S = 1.0


class Bystander:
    """Stands for the run folder in processes that write no files, and where nothing is to be written."""

    def __init__(self, path: Path, resumed: bool) -> None:
        self.path, self.resumed = path, resumed
        self.warnings: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, /, **data: Any) -> None:
        """Keep it, for a folder that may be opened later."""
        self.events.append((kind, data))

    def warn(self, message: str) -> None:
        """Keep it likewise."""
        self.warnings.append(message)


class TrainingFolder:
    """A folder in which one model or several are trained; a context manager that holds it.

    Started by ``torchrun``, every process has one; that of the first is a run folder, and the others write
    nothing.

    Args:
        command: Name of the command.
        options: The options.
        kind: Their class, for units.
        out: Where.
        config: What ``config.yaml`` says besides.
        resume, overwrite: As for :class:`atomml.run.RunFolder`.
        started: ``time.perf_counter()`` when the command began.
    """

    def __init__(
        self,
        command: str,
        options: LoopOptions,
        kind: type,
        out: Path,
        config: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        started: float,
    ) -> None:
        self.command, self.out, self.started = command, out, started
        self.processes = Processes(options.device, options.precision)
        self._opening: dict[str, Any] = {
            "command": command,
            "config": {**config, **as_config(options)},
            "resume": resume,
            "overwrite": overwrite,
            "units": option_units(kind),
            "may_change": ("cache_gb", "tensorboard", "save_every", "device"),
        }
        self._wants_board = options.tensorboard
        self.board: Board | None = None
        self._said = -_EVENT_INTERVAL_S
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.folder: RunFolder | Bystander = Bystander(self.out, resumed=False)
        return self

    def begin(self) -> None:
        """Open the folder: what is wrong with data and model is known by now, and has left nothing behind."""
        waiting = self.folder
        assert isinstance(waiting, Bystander)
        resumed = False
        if self.processes.is_first:
            folder = self._stack.enter_context(RunFolder.open(self.out, **self._opening))
            for kind, data in waiting.events:
                folder.event(kind, **data)
            for sentence in waiting.warnings:
                folder.warn(sentence)
            self.folder, resumed = folder, folder.resumed
        resumed = bool(self.processes.agree(resumed))
        if not self.processes.is_first:
            self.folder = Bystander(self.out, resumed)

    def tell(self, kind: str, message: str) -> None:
        """Print a sentence, and write it down as an event."""
        self.folder.event(kind, message=message)
        _log.info("%s", message)

    def show_on_board(self, name: str) -> None:
        """Let the epochs from now on go to TensorBoard's files under this name, if such are wanted."""
        if self._wants_board and isinstance(self.folder, RunFolder):
            from atomml.train.tensorboard import Board

            self.board = self._stack.enter_context(closing(Board(self.out / "tensorboard" / name)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def hooks(self) -> Hooks:
        """Where trainers in this folder report to."""
        from atomml.train.trainer import Hooks

        return Hooks(self.event, self.folder.warn, lambda: time.perf_counter() - self.started)

    def event(self, kind: str, /, **data: Any) -> None:
        """Pass events on; of the many about progress, one a second."""
        now = time.monotonic()
        if kind == "progress":
            if now - self._said < _EVENT_INTERVAL_S and data.get("step") != data.get("of"):
                return
            self._said = now
        self.folder.event(kind, **data)
        if kind == "epoch" and self.board is not None:
            self.board.epoch(data)

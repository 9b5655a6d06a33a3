"""The loop: advance, record, write restart files, survive signals and blow-ups."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.atoms import Atoms

from atomml.checkpoint import load_state, save_state
from atomml.errors import CheckpointError, RunFailedError
from atomml.files import write_atomic
from atomml.interruption import deferred_signals
from atomml.md.guard import BlowUpError
from atomml.md.recorder import GrowingFile, frame_text, log_line
from atomml.md.settings import MDSettings
from atomml.md.simulation import Simulation

__all__ = ["LOG", "RESTART", "ROLLBACK", "TRAJECTORY", "Driver", "Hooks", "parse_duration"]

_log = logging.getLogger(__name__)

TRAJECTORY = "trajectory.extxyz"
LOG = "log.csv"
RESTART = "restart.safetensors"
ROLLBACK = "rollback.safetensors"
"""The last scheduled state, kept beside a restart file that a signal had written off schedule."""

_FORMAT = "atomml md 1"
_TIMED_STEPS = 4


def _nothing(*_: Any, **__: Any) -> None:
    """A hook that nobody set."""


@dataclass(frozen=True)
class Hooks:
    """Where a run reports to.

    Attributes:
        event: ``event(kind, **data)``, for the journal.
        warn: ``warn(sentence)``.
        progress: ``progress(step, n_steps, row)`` at each line of the log.
    """

    event: Callable[..., None] = _nothing
    warn: Callable[[str], None] = _nothing
    progress: Callable[[int, int, Mapping[str, float]], None] = _nothing


class Driver:
    """Runs a :class:`Simulation` in a folder.

    ``trajectory.extxyz`` and ``log.csv`` grow by whole records; ``restart.safetensors`` holds
    the whole state and how long both files were. A run that was killed at any moment is
    resumed from there: what was written after it is cut off and written again, to the bit.

    Args:
        atoms: The structure.
        calculator: Any ASE calculator.
        settings: What the run is told.
        folder: An existing folder.
        max_time_s: Seconds of computing that the run may take, turned into a number of steps
            when it starts; None for no limit.
        identity: What must be the same for a resumed run to give the same bits (versions, device,
            digest of the model); kept in the restart file, and a difference is warned of.
        hooks: Where the run reports to.

    Attributes:
        simulation: The run's state.
        steps_done: Steps computed by this process.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: Any,
        settings: MDSettings,
        folder: Path,
        *,
        max_time_s: float | None = None,
        identity: Mapping[str, str] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.simulation = Simulation(atoms, calculator, settings)
        self.settings = settings
        self.folder = Path(folder)
        self._max_time = max_time_s
        self._identity = dict(identity or {})
        self._hooks = hooks or Hooks()
        self.steps_done = 0

    def run(self, *, resume: bool = False) -> Simulation:
        """Run to the last step; returns the simulation as it ended.

        Args:
            resume: Go on from the restart file in the folder; from the start if there is none.

        Raises:
            RunFailedError: The run blew up; names step and atom.
            CheckpointError: The restart file is damaged or belongs to another run.
            KeyboardInterrupt: After Ctrl-C, with a restart file of the present step; SIGTERM
                likewise does what it did before, once the restart file is written.
        """
        sizes = self._resume() if resume else None
        if sizes is None:
            self._begin()
        with (
            GrowingFile(self.folder / TRAJECTORY, (sizes or {}).get("trajectory", 0)) as trajectory,
            GrowingFile(self.folder / LOG, (sizes or {}).get("log", 0)) as log,
        ):
            self._trajectory, self._rows = trajectory, log
            if sizes is None:
                log.append(",".join(self.simulation.observables.columns) + "\n")
                self._record()
                self._save()
            with deferred_signals() as received:
                if not self._has_stopped():
                    self._loop(received)
        return self.simulation

    def _has_stopped(self) -> bool:
        """Whether the run ended by this very limit before; another one, or none, lets it go on."""
        stopped = self.simulation.progress.stopped
        return stopped is not None and stopped["limit"] == self.settings.stop_at_uncertainty

    def _begin(self) -> None:
        """A fresh run: nothing of an earlier one may be resumed by mistake."""
        for name in (RESTART, ROLLBACK):
            (self.folder / name).unlink(missing_ok=True)
        try:
            self.simulation.begin()
        except BlowUpError as error:
            raise RunFailedError(f"MD cannot start: {error.reason}; check the structure.") from error
        if self._max_time is not None:
            self._limit_steps(0)

    def _loop(self, received: list[int]) -> None:
        simulation, settings = self.simulation, self.settings
        progress = simulation.progress
        while progress.step < progress.n_steps:
            try:
                simulation.advance()
            except BlowUpError as error:
                self._blown_up(error)
                progress = simulation.progress
                continue
            self.steps_done += 1
            progress.stopped = simulation.too_uncertain()
            if progress.step % settings.every == 0 or progress.stopped:
                self._record()
            last = progress.step == progress.n_steps
            scheduled = progress.step % settings.restart_every == 0
            if scheduled or last or received or progress.stopped:
                self._save(scheduled=scheduled)
            if progress.stopped:
                self._hooks.event("stopped", **progress.stopped)
                return
            if received:
                self._hooks.event("interrupted", step=progress.step, signal=signal.Signals(received[0]).name)
                return

    def _record(self) -> None:
        """One line of the log and one frame."""
        simulation = self.simulation
        row, magmoms = simulation.measure()
        info = {
            "energy": simulation.system.energy,
            "step": simulation.progress.step,
            "time_fs": simulation.time_fs,
        }
        self._trajectory.append(frame_text(simulation.system, info, magmoms))
        self._rows.append(log_line(simulation.observables.columns, row))
        self._hooks.progress(simulation.progress.step, simulation.progress.n_steps, row)

    def _save(self, *, scheduled: bool = True) -> None:
        """Write the restart file; off schedule, the last scheduled one is kept for a rollback."""
        restart, rollback = self.folder / RESTART, self.folder / ROLLBACK
        if not scheduled and self.simulation.progress.scheduled and restart.exists():
            write_atomic(rollback, restart.read_bytes())
        self.simulation.progress.scheduled = scheduled
        self._trajectory.sync()
        self._rows.sync()
        sizes = {"trajectory": self._trajectory.size, "log": self._rows.size}
        header = {
            "format": _FORMAT,
            "identity": self._identity,
            **self.simulation.header(),
            "sizes": sizes,
        }
        save_state(restart, self.simulation.arrays(), header)
        if scheduled:
            rollback.unlink(missing_ok=True)

    def _load(self, path: Path, *, compare: bool = False) -> dict[str, int]:
        """Take up the state in a restart file; returns the sizes of the growing files."""
        state = load_state(path)
        if state.header.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is not a restart file of atomml md: start again with --overwrite.")
        self.simulation.load(state.arrays, state.header)
        if compare:
            self._compare(state.header.get("identity", {}))
        return {name: int(size) for name, size in state.header["sizes"].items()}

    def _compare(self, before: Mapping[str, str]) -> None:
        """Warn where this process differs from the one that wrote the restart file."""
        changes = [
            f"{key} was {before.get(key)} and is {value}"
            for key, value in self._identity.items()
            if before.get(key) != value
        ]
        if changes:
            self._hooks.warn(
                f"The run goes on, but not with the bits that it would have had: {', '.join(changes)}."
            )

    def _resume(self) -> dict[str, int] | None:
        """Take up the restart file; None where the run was killed before it wrote one."""
        path = self.folder / RESTART
        if not path.exists():
            return None
        sizes = self._load(path, compare=True)
        progress = self.simulation.progress
        self._hooks.event("restart read", step=progress.step)
        wanted = "" if self._max_time is None else repr(self._max_time)
        if progress.max_time != wanted:
            progress.n_steps = self.settings.n_steps
            if self._max_time is not None:
                self._limit_steps(progress.step)
        elif not wanted:
            progress.n_steps = self.settings.n_steps
        progress.max_time = wanted
        return sizes

    def _limit_steps(self, done: int) -> None:
        """Time a few steps, take them back, and turn the limit of time into a number of steps."""
        assert self._max_time is not None
        simulation = self.simulation
        arrays, header = simulation.arrays(), simulation.header()
        try:
            simulation.advance()  # the first is slower: buffers, compilation
            start = time.perf_counter()
            for _ in range(_TIMED_STEPS):
                simulation.advance()
            cost = (time.perf_counter() - start) / _TIMED_STEPS
        except BlowUpError:
            cost = 0.0  # the run itself will say so
        simulation.load(arrays, header)
        progress = simulation.progress
        if cost > 0:
            progress.n_steps = min(progress.n_steps, done + max(int(self._max_time / cost), 1))
        progress.max_time = repr(self._max_time)
        if not done:
            progress.ramp_steps = max(progress.n_steps, 1)
        self._hooks.event("steps limited", n_steps=progress.n_steps, seconds_per_step=cost)

    def _blown_up(self, error: BlowUpError) -> None:
        """Stop with the restart file whole, or go back to it and take finer steps."""
        failed = self.simulation.progress
        step, substeps = failed.step + 1, failed.substeps if failed.step < failed.fine_until else 1
        done, n_steps, max_time = failed.rollbacks, failed.n_steps, failed.max_time
        self._hooks.event("blow-up", step=step, atom=error.atom, reason=error.reason)
        last_good = self._rollback_file()
        sentence = f"MD blew up at step {step}: {error.reason}"
        if self.settings.on_blowup == "stop":
            raise RunFailedError(
                f"{sentence}; the last good state is in {last_good.name}: take a shorter --timestep, or "
                "resume with --on-blowup rollback."
            ) from error
        if len(done) >= self.settings.max_rollbacks:
            raise RunFailedError(
                f"{sentence}, after {len(done)} rollbacks to finer steps: the model or the structure is "
                f"the cause, not the time step; the last good state is in {last_good.name}."
            ) from error
        sizes = self._load(last_good)
        self._trajectory.truncate(sizes["trajectory"])
        self._rows.truncate(sizes["log"])
        progress = self.simulation.progress
        progress.n_steps, progress.max_time = n_steps, max_time
        progress.substeps = 2 * substeps
        progress.fine_until = step + self.settings.restart_every
        record = {"step": step, "back_to": progress.step, "reason": error.reason, "substeps": 2 * substeps}
        progress.rollbacks = [*done, record]
        self._hooks.warn(
            f"{sentence}; went back to step {progress.step} and cut each step in {2 * substeps} "
            f"up to step {progress.fine_until}."
        )
        self._save()

    def _rollback_file(self) -> Path:
        """The last state that was saved on schedule, which does not depend on interruptions."""
        rollback = self.folder / ROLLBACK
        if not self.simulation.progress.scheduled and rollback.exists():
            return rollback
        return self.folder / RESTART


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``15m``, ``2h`` or ``1d``.

    Raises:
        ValueError: Something else, or not above zero.
    """
    scale = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    text = text.strip().lower()
    number, factor = (text[:-1], scale[text[-1]]) if text[-1:] in scale else (text, 1.0)
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text!r} is not a length of time")
    return seconds

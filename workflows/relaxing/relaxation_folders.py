"""A run folder for each of the structures that relax together, as ``relax`` of it alone would write."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from atomml.errors import AtomMLError
from atomml.run import RunFolder, listening
from atomml.workflows.inputs import GivenModel
from atomml.workflows.relaxing.relaxation import RelaxResult, not_converged, warn_of_precision
from atomml.workflows.relaxing.relaxation_batched import Relaxing
from atomml.workflows.relaxing.relaxation_measures import frame_of, pressure_of, volume_of
from atomml.workflows.relaxing.relaxation_state import LOG_HEAD, RelaxationFiles, log_line, write_relaxed
from atomml.workflows.run_record import finish_run, open_with_options

__all__ = ["RelaxationFolders"]


@dataclass
class _Open:
    """What is open of one structure; ``recorded`` is the last step that the files hold."""

    stack: ExitStack
    run: RunFolder
    files: RelaxationFiles
    started: float
    recorded: int = -1


class RelaxationFolders:
    """Watches structures that relax together and keeps a folder for each; a context manager.

    Each goes on where its folder was left. However it ends, files are closed and the folders are whole.

    Args:
        parent: The run whose folder holds theirs.
        names: Name of the folder of each structure.
        model: The model.
    """

    def __init__(self, parent: RunFolder, names: list[str], model: GivenModel) -> None:
        self.parent, self.names, self.model = parent, names, model
        self.results: dict[int, RelaxResult] = {}
        self._open: dict[int, _Open] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in list(self._open):
            self._close(number, error)

    def began(self, one: Relaxing) -> None:
        """Open the folder, and put the structure back where an earlier run left it."""
        path = self.parent.file(self.names[one.index])
        stack = ExitStack()
        with listening(None):  # its steps are not the progress of the whole
            run = stack.enter_context(
                open_with_options(
                    path,
                    "relax",
                    one.options,
                    resume=path.exists(),
                    overwrite=False,
                    may_change=("steps",),
                    structure=one.given.label,
                    **self.model.config(),
                    dtype="float32",
                    device="auto",
                    seed=None,
                )
            )
            warn_of_precision(run, self.model, one.options)
        try:
            files = RelaxationFiles(run)
            stack.callback(files.close)
            self._open[one.index] = _Open(stack, run, files, time.perf_counter())
            if files.step is None:
                files.append("log.csv", LOG_HEAD)
            else:
                self._restore(one, files)
        except BaseException as error:
            stack.__exit__(type(error), error, error.__traceback__)
            self._open.pop(one.index, None)
            raise

    def _restore(self, one: Relaxing, files: RelaxationFiles) -> None:
        assert files.step is not None
        facts = files.restore(one.atoms, one.optimizer)
        one.step, one.first_energy = files.step, float(facts["first_energy"])
        one.coordinates.restore(files.saved("coordinates.reference"), files.saved("coordinates.x"))
        self._open[one.index].recorded = one.step

    def stepped(self, one: Relaxing) -> None:
        """Add the step to the files, and save now and then."""
        kept = self._open[one.index]
        if one.step <= kept.recorded:
            return
        kept.recorded = one.step
        force, pressure = one.max_force, pressure_of(one.stress)
        line = log_line(one.step, one.energy, force, one.max_stress, pressure, volume_of(one.atoms))
        kept.files.append("log.csv", line)
        kept.files.append("trajectory.extxyz", self._frame(one))
        with listening(None):
            kept.run.event(
                "step",
                step=one.step,
                of=one.options.steps,
                energy_eV=one.energy,
                max_force_eV_per_A=force,
            )
        if one.step and one.step % one.options.save_every == 0:
            self._save(one, kept)

    def ended(self, one: Relaxing) -> None:
        """Write what came of it, and close its folder."""
        if one.index not in self._open:
            return
        if one.error is not None:
            self._close(one.index, AtomMLError(one.error))
            return
        kept = self._open[one.index]
        with listening(None):
            self._save(one, kept)
            if not one.converged:
                kept.run.warn(not_converged(one.step, one.max_force))
            result = one.result()
            result.folder = kept.run.path
            write_relaxed(kept.run, result.atoms, self._frame(one))
            seconds = time.perf_counter() - kept.started
            record = {"model": self.model.record(), "inputs": [one.given.record()], "seconds": seconds}
            finish_run(kept.run, result, **record)
        self.results[one.index] = result
        self._close(one.index, None)

    def _save(self, one: Relaxing, kept: _Open) -> None:
        more = {"coordinates.reference": one.coordinates.reference, "coordinates.x": one.coordinates.x}
        kept.files.save(one.step, one.atoms, one.optimizer, {"first_energy": one.first_energy}, more)

    def _frame(self, one: Relaxing) -> str:
        shown = one.atoms.copy()
        shown.set_constraint(one.given.atoms.constraints)
        return frame_of(shown, one.energy, one.forces, one.stress)

    def _close(self, number: int, error: BaseException | None) -> None:
        with listening(None):
            stack = self._open.pop(number).stack
            stack.__exit__(None if error is None else type(error), error, None)

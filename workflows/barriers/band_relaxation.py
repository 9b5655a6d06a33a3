"""The relaxation of a path: nudge, climb, save, and what is written of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.structures import extxyz_frame
from atomml.files import write_atomic, write_table
from atomml.interruption import deferred_signals
from atomml.md.recorder import GrowingFile
from atomml.run import RunFolder
from atomml.workflows.barriers.band_ends import first_path, relaxed_ends
from atomml.workflows.barriers.band_images import Band
from atomml.workflows.barriers.band_profile import Profile
from atomml.workflows.barriers.nudged_band import NebOptions, NebResult
from atomml.workflows.relaxing.relaxation_state import optimizer_state, restore_optimizer

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.workflows.inputs import GivenModel

__all__ = ["find_path"]

_RESTART = "restart.safetensors"
_LOG = ("step", "max_force_eV_per_A", "barrier_eV", "reverse_barrier_eV", "climbing")
_MAXSTEP = 0.1  # Å


def find_path(folder: RunFolder, images: list[Atoms], model: GivenModel, options: NebOptions) -> NebResult:
    """Relax ends and path, and write ``path.extxyz``, ``path.csv``, ``curve.csv`` and ``log.csv``.

    Args:
        folder: Where to write.
        images: Two ends, and what was given of the path between them.
        model: The model.
        options: The options.

    Raises:
        StructureError: Both ends are the same minimum.
        RunFailedError: The model gave a number that is not finite.
    """
    given, ends_converged = relaxed_ends(folder, images, model, options)
    path = _Path(folder, first_path(given, options), model, options)
    step, converged = path.relax()
    profile = Profile.of(path.images)
    result = _result(path, profile, step)
    result.converged = converged and ends_converged and profile.is_consistent
    _warn(folder, profile, result, converged, options)
    _write(folder, path.images, profile)
    return result


class _Path:
    """The images, ASE's band over them, its optimiser, and the files."""

    def __init__(
        self, folder: RunFolder, images: list[Atoms], model: GivenModel, options: NebOptions
    ) -> None:
        from ase.mep import NEB

        self.folder, self.images, self.options = folder, images, options
        self.band = NEB(images, k=options.spring, method="improvedtangent")
        self.optimizer = self._fresh_optimizer()
        self._model = model

    def relax(self) -> tuple[int, bool]:
        """Step until converged or out of steps; returns the steps taken and whether it is."""
        step, size = self._restore()
        Band(self.images, self._model)
        with GrowingFile(self.folder.file("log.csv"), size) as log, deferred_signals() as received:
            if not size:
                log.append(",".join(_LOG) + "\n")
                self._record(log, step)
            while not (converged := self._is_converged()) and step < self.options.steps and not received:
                self.optimizer.step()
                step += 1
                self._record(log, step)
                if step % self.options.save_every == 0:
                    self._save(log, step)
            self._save(log, step)
        return step, converged

    def _is_converged(self) -> bool:
        """Whether the path is; the climb begins on the way, with an optimiser that starts from rest."""
        options, force = self.options, self.max_force()
        if options.climb and not self.band.climb and force <= max(options.climb_below, options.fmax):
            self.band.climb, self.optimizer = True, self._fresh_optimizer()
            force = self.max_force()
        return force <= options.fmax

    def max_force(self) -> float:
        """Of an atom of any image, eV/Å; ASE's own residual is the largest component."""
        return float(np.linalg.norm(self.band.get_forces(), axis=1).max())

    def _fresh_optimizer(self) -> Any:
        import ase.optimize

        kind = {"fire": ase.optimize.FIRE, "lbfgs": ase.optimize.LBFGS}[self.options.optimizer]
        return kind(self.band, logfile=None, maxstep=_MAXSTEP)

    def _record(self, log: GrowingFile, step: int) -> None:
        force = self.max_force()
        energies = np.array(self.band.energies)
        top = float(energies.max())
        row = (step, force, top - float(energies[0]), top - float(energies[-1]), int(self.band.climb))
        log.append(",".join(repr(value) for value in row) + "\n")
        self.folder.event(
            "step", step=step, of=self.options.steps, max_force_eV_per_A=force, barrier_eV=row[2]
        )

    def _save(self, log: GrowingFile, step: int) -> None:
        from atomml.checkpoint import save_state

        log.sync()
        arrays, plain = optimizer_state(self.optimizer)
        arrays["path.positions"] = np.array([image.positions for image in self.images])
        header = {"step": step, "log": log.size, "climb": self.band.climb, "optimizer": plain}
        save_state(self.folder.file(_RESTART), arrays, header)

    def _restore(self) -> tuple[int, int]:
        """Put the path of an interrupted run back; returns its step and the length of its log."""
        from atomml.checkpoint import load_state

        file = self.folder.file(_RESTART)
        if not file.exists():
            return 0, 0
        state = load_state(file)
        for image, positions in zip(self.images, state.arrays["path.positions"], strict=True):
            image.set_positions(positions, apply_constraint=False)
        self.band.climb = bool(state.header["climb"])
        restore_optimizer(self.optimizer, state.arrays, state.header["optimizer"])
        return int(state.header["step"]), int(state.header["log"])


def _result(path: _Path, profile: Profile, step: int) -> NebResult:
    images = path.images
    moves = np.linalg.norm(images[-1].positions - images[0].positions, axis=1)
    atom = int(moves.argmax())
    top = profile.highest
    return NebResult(
        formula=str(images[0].get_chemical_formula()),
        barrier=profile.energies[top] - profile.energies[0],
        reverse_barrier=profile.energies[top] - profile.energies[-1],
        reaction_energy=profile.energies[-1] - profile.energies[0],
        saddle_image=top,
        saddle_force=float(np.linalg.norm(images[top].get_forces(), axis=1).max()),
        path_length=float(profile.distances[-1]),
        path_mismatch=profile.mismatch,
        max_force=path.max_force(),
        moving_atom=atom,
        moving_element=str(images[0].symbols[atom]),
        moving_distance=float(moves[atom]),
        n_images=len(images),
        n_steps=step,
        energies=profile.energies.tolist(),
        distances=profile.distances.tolist(),
        path=images,
    )


def _warn(
    folder: RunFolder, profile: Profile, result: NebResult, converged: bool, options: NebOptions
) -> None:
    if not converged:
        folder.warn(
            f"Not converged after {result.n_steps} steps: the largest force across the path is "
            f"{result.max_force:.3g} eV/Å; add --steps, with --resume."
        )
    if not profile.is_fine:
        cause = "take more --images"
        if not profile.is_consistent:
            cause += ", and if that does not help, a model whose forces are the slope of its energy"
        folder.warn(
            f"The energies along the path differ by up to {profile.mismatch:.3g} eV from the integral of the "
            f"forces: {cause}."
        )
    if profile.highest in (0, len(profile.energies) - 1):
        folder.warn("The highest image is an end: there is no barrier between the two, or too few images.")
    dips = profile.minima_between()
    if dips:
        folder.warn(
            f"Image {dips[0]} lies in a minimum between the ends: the barrier is the highest of several; "
            "run the pieces by themselves."
        )
    if not options.climb:
        folder.warn(
            "Without the climb the highest image lies below the saddle point, and so does the barrier."
        )


def _write(folder: RunFolder, images: list[Atoms], profile: Profile) -> None:
    frames = []
    for number, image in enumerate(images):
        results = {"energy": image.get_potential_energy(), "forces": image.get_forces(apply_constraint=False)}
        frame = image.copy()
        frame.info |= {"image": number, "distance_A": float(profile.distances[number])}
        if "magmoms" in image.calc.results:
            results["magmoms"] = image.calc.results["magmoms"]
        frames.append(extxyz_frame(frame, results))
    write_atomic(folder.file("path.extxyz"), "".join(frames))
    write_table(folder.file("path.csv"), profile.rows())
    write_table(folder.file("curve.csv"), profile.curve())

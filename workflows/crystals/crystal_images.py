"""Changed copies of a crystal (scaled, strained, displaced), evaluated and relaxed in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import RunFailedError
from atomml.files import write_atomic
from atomml.run import RunFolder
from atomml.units import GPA
from atomml.workflows.batch_memory import MemoryLimit
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relax_options
from atomml.workflows.inputs import GivenStructure
from atomml.workflows.predicting.prediction_batches import BatchEvaluator
from atomml.workflows.predicting.prediction_items import Item, batches

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.workflows.relaxing.relaxation import RelaxResult

    Array = NDArray[np.float64]

__all__ = ["Image", "evaluate_images", "relaxed_images", "write_images"]

_STATE = "restart.safetensors"
_KEPT_TOGETHER = 64
_KEEP_EVERY_S = 5.0


@dataclass
class Image:
    """A changed copy of a crystal, and what the model says of it.

    Attributes:
        atoms: The structure; relaxed if that was asked for.
        energy: eV.
        forces: ``(n_atoms, 3)`` eV/Å.
        stress: ``(3, 3)`` eV/Å³, positive under tension; None where the model gives none.
        converged: Whether its relaxation converged; True where nothing was relaxed.
        n_steps: Steps of its relaxation.
    """

    atoms: Atoms
    energy: float = float("nan")
    forces: Array | None = None
    stress: Array | None = None
    converged: bool = True
    n_steps: int = 0

    @property
    def max_force(self) -> float:
        """Largest force on an atom, eV/Å."""
        assert self.forces is not None
        return float(np.linalg.norm(self.forces, axis=1).max())

    @property
    def voigt_stress(self) -> Array:
        """``(6,)`` eV/Å³: xx yy zz yz xz xy."""
        assert self.stress is not None
        return self.stress.ravel()[[0, 4, 8, 5, 2, 1]]

    @property
    def pressure(self) -> float | None:
        """GPa, positive under compression; None without a stress."""
        return None if self.stress is None else float(-np.trace(self.stress) / 3 * GPA)


def evaluate_images(run: CrystalRun, structures: Sequence[Atoms], keep: str = "") -> list[Image]:
    """Energy, forces and stress of changed copies of a crystal, in batches if the model is one of ours.

    Args:
        run: The run.
        structures: The copies.
        keep: File of the run folder that keeps the answers so far, every few seconds, so that a run that
            is resumed asks for the rest alone; "" keeps none. All copies then have as many atoms.
    """
    images = [Image(atoms.copy()) for atoms in structures]
    if not keep:
        _ask(run, images)
        return images
    file, done = run.folder.file(keep), 0
    if file.exists():
        done = _read_answers(file, images)
    saved = time.monotonic()
    while done < len(images):
        some = images[done : done + _KEPT_TOGETHER]
        _ask(run, some, done, len(images))
        done += len(some)
        if time.monotonic() - saved > _KEEP_EVERY_S or done == len(images):
            _keep_answers(file, images[:done])
            saved = time.monotonic()
    return images


def _keep_answers(file: Path, images: Sequence[Image]) -> None:
    from atomml.checkpoint import save_state

    arrays = {
        "energies": np.array([image.energy for image in images]),
        "forces": np.array([image.forces for image in images]),
    }
    save_state(file, arrays, {"done": len(images)})


def _read_answers(file: Path, images: Sequence[Image]) -> int:
    from atomml.checkpoint import load_state

    state = load_state(file)
    done = int(state.header["done"])
    for number in range(done):
        images[number].energy = float(state.arrays["energies"][number])
        images[number].forces = state.arrays["forces"][number]
    return done


def relaxed_images(run: CrystalRun, images: Sequence[Image], what: str, limits: Limits) -> list[Image]:
    """The images with their ions relaxed, or with ``what`` = ``shape`` the cells' shapes too.

    Those that are relaxed as they are stay; the others are relaxed together. Each is saved when it is
    done, so that ``--resume`` goes on there.
    """
    cell = "shape" if what == "shape" else "none"
    relaxed = [replace(image, atoms=image.atoms.copy()) for image in images]
    moved = [image for image in relaxed if not _is_relaxed(image, cell, limits)]
    if moved:
        _relax_each(run, moved, cell, limits)
        _ask(run, moved)
    return relaxed


def _ask(run: CrystalRun, images: Sequence[Image], before: int = 0, of: int | None = None) -> None:
    """Energy, forces and stress of images as they are; ``before`` of ``of`` were asked for earlier."""
    evaluator = BatchEvaluator(run.model)
    items = [Item("image", n, GivenStructure(image.atoms, f"image {n}")) for n, image in enumerate(images)]
    done = before
    for batch in batches(_prepared(evaluator, items), MemoryLimit.of(run.model).edges):
        evaluator.evaluate(batch)
        for item in batch:
            _take(images[item.frame], item.results or {})
        done += len(batch)
        run.folder.event("images", step=done, of=of or len(items))


def _prepared(evaluator: BatchEvaluator, items: Sequence[Item]) -> Iterator[Item]:
    for item in items:  # one by one: of a thousand displaced supercells only a batch is in memory
        evaluator.prepare(item)
        yield item


def _take(image: Image, results: Mapping[str, Any]) -> None:
    from ase.stress import voigt_6_to_full_3x3_stress

    image.energy, image.forces = float(results["energy"]), np.asarray(results["forces"])
    if results.get("stress") is not None:
        stress = np.asarray(results["stress"])
        image.stress = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)


def _relax_each(run: CrystalRun, moved: list[Image], cell: str, limits: Limits) -> None:
    """Relax them together; those that an earlier run relaxed are only read."""
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    done = _restored(run.folder, moved)
    left = [number for number in range(len(moved)) if number not in done]
    structures = [moved[number].atoms for number in left]
    options = relax_options(run, cell, limits)
    for found in relax_batched(structures, run.model, options=options, warn=run.folder.warn):
        number = left[found.index]
        if found.result is None:
            raise RunFailedError(f"Image {number + 1} cannot be relaxed: {found.error}")
        _take_relaxed(run.folder, moved[number], number, found.result, limits)
        done.add(number)
        _save(run.folder, moved, done)
        run.folder.event("relaxed", step=len(done), of=len(moved), max_force_eV_per_A=found.result.max_force)


def _take_relaxed(folder: RunFolder, image: Image, number: int, found: RelaxResult, limits: Limits) -> None:
    image.atoms, image.converged, image.n_steps = found.atoms, found.converged, found.n_steps
    if not found.converged:
        folder.warn(
            f"Image {number + 1} did not relax in {limits.steps} steps: its largest force is "
            f"{found.max_force:.3g} eV/Å; add --steps."
        )


def _is_relaxed(image: Image, cell: str, limits: Limits) -> bool:
    if image.max_force > limits.fmax:
        return False
    if cell == "none":
        return True
    assert image.stress is not None
    shape = image.stress - np.trace(image.stress) / 3 * np.eye(3)
    return float(np.abs(shape).max()) * GPA <= limits.smax


def _save(folder: RunFolder, images: Sequence[Image], done: set[int]) -> None:
    from atomml.checkpoint import save_state

    arrays = {
        "positions": np.array([image.atoms.positions for image in images]),
        "cells": np.array([image.atoms.cell.array for image in images]),
    }
    facts = [[n in done, image.converged, image.n_steps] for n, image in enumerate(images)]
    save_state(folder.file(_STATE), arrays, {"images": facts})


def _restored(folder: RunFolder, images: Sequence[Image]) -> set[int]:
    """Put relaxed images of an earlier run back; returns which they are."""
    from atomml.checkpoint import load_state

    done: set[int] = set()
    if not folder.file(_STATE).exists():
        return done
    state = load_state(folder.file(_STATE))
    for number, (is_done, converged, n_steps) in enumerate(state.header["images"]):
        if not is_done:
            continue
        done.add(number)
        image = images[number]
        image.atoms.set_cell(state.arrays["cells"][number])
        image.atoms.set_positions(state.arrays["positions"][number], apply_constraint=False)
        image.converged, image.n_steps = bool(converged), int(n_steps)
    return done


def write_images(path: Path, images: Sequence[Image]) -> None:
    """Images with energies, forces and stresses as extended XYZ, atomically."""
    from atomml.data.structures import extxyz_frame

    frames = []
    for image in images:
        results: dict[str, Any] = {"energy": image.energy, "forces": image.forces}
        if image.stress is not None:
            results["stress"] = image.voigt_stress
        frames.append(extxyz_frame(image.atoms, results))
    write_atomic(path, "".join(frames))

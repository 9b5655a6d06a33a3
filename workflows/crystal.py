"""What the workflows of a crystal's properties share: the start, changed copies of it, the end of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.config import as_config, build_options, option_units
from atomml.errors import StructureError
from atomml.files import write_atomic
from atomml.result import Result
from atomml.run import RunFolder, listening, open_run
from atomml.workflows.inputs import (
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    given_structure,
)
from atomml.workflows.prediction_batches import BatchEvaluator
from atomml.workflows.prediction_items import Item, batches

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.workflows.relaxation import RelaxOptions

    Array = NDArray[np.float64]

__all__ = [
    "EV_PER_A3",
    "CrystalRun",
    "Image",
    "Limits",
    "check_crystal",
    "crystal_run",
    "evaluate_images",
    "relaxed_images",
    "relaxed_start",
    "write_images",
    "write_table",
]

EV_PER_A3 = 160.21766208
"""GPa in one eV/Å³ (CODATA 2014, as in ase.units)."""

_BATCH_EDGES = 6000
_STATE = "restart.safetensors"


@dataclass(frozen=True)
class CrystalRun:
    """One run of a workflow on one crystal.

    Attributes:
        folder: Where it writes.
        given: The crystal.
        model: The model.
        options: The workflow's options, checked.
    """

    folder: RunFolder
    given: GivenStructure
    model: GivenModel
    options: Any

    def finish(self, result: Result, seconds: float) -> None:
        """Write ``summary.json`` and the report, and tell the result where it is."""
        run = self.folder
        result.folder = run.path if run.kept else None
        result.warnings = list(run.warnings)
        result.summary = run.write_summary(
            results=result.results(),
            units=result.units(),
            model=self.model.record(),
            inputs=[self.given.record()],
            timing={"total_s": seconds},
            converged=result.converged,
        )
        if run.kept:
            from atomml.report import render_run

            render_run(run.path)


@contextmanager
def crystal_run(
    command: str,
    structure: Any,
    model: Any,
    options: Any,
    overrides: Mapping[str, Any],
    *,
    out: str | Path | None,
    resume: bool,
    overwrite: bool,
    device: str,
    seed: int | None,
) -> Iterator[CrystalRun]:
    """Check options, model and crystal, and open the run folder of ``command``.

    Args:
        command: Name of the command.
        structure: A crystal in any form that :func:`given_structure` takes.
        model: A model in any form that :func:`given_model` takes.
        options: An instance of the workflow's options dataclass, or the class for its defaults.
        overrides: Fields over those of ``options``.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.

    Raises:
        InputError: A structure, model or option that is wrong.
    """
    kind = options if isinstance(options, type) else type(options)
    given_values = {} if isinstance(options, type) else as_config(options)
    chosen: Any = build_options(kind, given_values | dict(overrides))
    used = given_model(model, dtype=chosen.dtype, device=device)
    given = given_structure(structure)
    check_crystal(given)
    warnings: list[str] = []
    check_covered(given, used, warnings.append, chosen.allow_charge_mismatch)
    source = str(structure) if isinstance(structure, str | Path) else given.label
    config = {"structure": source, **used.config(), "device": device, "seed": seed} | as_config(chosen)
    with open_run(
        out,
        command=command,
        config=config,
        resume=resume,
        overwrite=overwrite,
        units=option_units(kind),
    ) as folder:
        for warning in warnings:
            folder.warn(warning)
        yield CrystalRun(folder, given, used, chosen)


def check_crystal(given: GivenStructure) -> None:
    """Refuse what has no volume.

    Raises:
        StructureError: Not periodic in three directions.
    """
    if not given.atoms.pbc.all() or given.atoms.cell.rank < 3:
        raise StructureError(
            f"{given.label} is not periodic in three directions: this property is one of crystals."
        )


@dataclass(frozen=True)
class Limits:
    """When a relaxation is done: force in eV/Å, stress in GPa, and the most steps."""

    fmax: float
    smax: float
    steps: int

    @classmethod
    def of(cls, options: Any) -> Limits:
        """Those of a workflow's options."""
        return cls(options.fmax, options.smax, options.steps)


def relaxed_start(run: CrystalRun, limits: Limits) -> tuple[Atoms, bool]:
    """The crystal with positions and cell relaxed, and whether that converged; a run in ``relaxation/``."""
    from atomml.workflows.relaxation import relax

    run.model.need_stress("the relaxation of the cell")
    folder = run.folder.file("relaxation") if run.folder.kept else None
    resume = folder is not None and folder.exists()
    found = relax(
        run.given, run.model, out=folder, resume=resume, options=_relax_options(run, "free", limits)
    )
    if not found.converged:
        run.folder.warn(
            f"The crystal did not relax in {limits.steps} steps (largest force {found.max_force:.3g} eV/Å, "
            f"stress {found.max_stress:.3g} GPa): the rest is that of a strained crystal; add --steps."
        )
    return found.atoms, found.converged


def _relax_options(run: CrystalRun, cell: str, limits: Limits) -> RelaxOptions:
    from atomml.workflows.relaxation import RelaxOptions

    return RelaxOptions(
        cell=cell,
        fmax=limits.fmax,
        smax=limits.smax,
        steps=limits.steps,
        allow_charge_mismatch=run.options.allow_charge_mismatch,
    )


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
    def pressure(self) -> float | None:
        """GPa, positive under compression; None without a stress."""
        return None if self.stress is None else float(-np.trace(self.stress) / 3 * EV_PER_A3)


def evaluate_images(run: CrystalRun, structures: Sequence[Atoms]) -> list[Image]:
    """Energy, forces and stress of changed copies of a crystal, in batches if the model is one of ours."""
    images = [Image(atoms.copy()) for atoms in structures]
    _ask(run, images)
    return images


def relaxed_images(run: CrystalRun, images: Sequence[Image], what: str, limits: Limits) -> list[Image]:
    """The images with their ions relaxed, or with ``what`` = ``shape`` the cells' shapes too.

    Those that are relaxed as they are stay; the others are relaxed one after another. Each is saved
    when it is done, so that ``--resume`` goes on there.
    """
    cell = "shape" if what == "shape" else "none"
    relaxed = [replace(image, atoms=image.atoms.copy()) for image in images]
    moved = [image for image in relaxed if not _is_relaxed(image, cell, limits)]
    if moved:
        _relax_each(run, moved, cell, limits)
        _ask(run, moved)
    return relaxed


def _ask(run: CrystalRun, images: Sequence[Image]) -> None:
    """Energy, forces and stress of images as they are."""
    evaluator = BatchEvaluator(run.model)
    items = [Item("image", n, GivenStructure(image.atoms, f"image {n}")) for n, image in enumerate(images)]
    done = 0
    for batch in batches(_prepared(evaluator, items), _BATCH_EDGES):
        evaluator.evaluate(batch)
        for item in batch:
            _take(images[item.frame], item.results or {})
        done += len(batch)
        run.folder.event("images", step=done, of=len(items))


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
    """Relax one after another; those that an earlier run relaxed are only read."""
    from atomml.workflows.relaxation import relax

    done = _restored(run.folder, moved)
    for number, image in enumerate(moved[done:], done + 1):
        with listening(None):  # its steps are not this run's progress
            found = relax(image.atoms, run.model, options=_relax_options(run, cell, limits))
        image.atoms, image.converged, image.n_steps = found.atoms, found.converged, found.n_steps
        if not found.converged:
            run.folder.warn(
                f"Image {number} did not relax in {limits.steps} steps: its largest force is "
                f"{found.max_force:.3g} eV/Å; add --steps."
            )
        _save(run.folder, moved[:number])
        run.folder.event("relaxed", step=number, of=len(moved), max_force_eV_per_A=found.max_force)


def _is_relaxed(image: Image, cell: str, limits: Limits) -> bool:
    if image.max_force > limits.fmax:
        return False
    if cell == "none":
        return True
    assert image.stress is not None
    shape = image.stress - np.trace(image.stress) / 3 * np.eye(3)
    return float(np.abs(shape).max()) * EV_PER_A3 <= limits.smax


def _save(folder: RunFolder, images: Sequence[Image]) -> None:
    from atomml.checkpoint import save_state

    arrays = {
        "positions": np.array([image.atoms.positions for image in images]),
        "cells": np.array([image.atoms.cell.array for image in images]),
    }
    facts = [[image.converged, image.n_steps] for image in images]
    save_state(folder.file(_STATE), arrays, {"images": facts})


def _restored(folder: RunFolder, images: Sequence[Image]) -> int:
    """Put relaxed images of an earlier run back; returns their number."""
    from atomml.checkpoint import load_state

    if not folder.file(_STATE).exists():
        return 0
    state = load_state(folder.file(_STATE))
    for number, (converged, n_steps) in enumerate(state.header["images"]):
        image = images[number]
        image.atoms.set_cell(state.arrays["cells"][number])
        image.atoms.set_positions(state.arrays["positions"][number], apply_constraint=False)
        image.converged, image.n_steps = bool(converged), int(n_steps)
    return len(state.header["images"])


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a CSV file, atomically; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def write_images(path: Path, images: Sequence[Image]) -> None:
    """Images with energies, forces and stresses as extended XYZ, atomically."""
    from atomml.data.structures import extxyz_frame

    frames = []
    for image in images:
        results: dict[str, Any] = {"energy": image.energy, "forces": image.forces}
        if image.stress is not None:
            results["stress"] = image.stress.ravel()[[0, 4, 8, 5, 2, 1]]  # xx yy zz yz xz xy
        frames.append(extxyz_frame(image.atoms, results))
    write_atomic(path, "".join(frames))

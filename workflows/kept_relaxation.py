"""Relaxations that a larger run consists of: each in a folder of its own, none of them done twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atomml.run import RunFolder, listening
from atomml.workflows.crystal import Limits
from atomml.workflows.inputs import GivenModel, GivenStructure

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Relaxed", "relax_kept"]


@dataclass(frozen=True)
class Relaxed:
    """What a relaxation came to.

    Attributes:
        atoms: The relaxed structure.
        energy: eV.
        max_force: Largest force left, eV/Å.
        max_displacement: Farthest that an atom has moved, the cell's part taken out, Å.
        n_steps: Steps taken.
        converged: Whether it reached its criterion.
    """

    atoms: Atoms
    energy: float
    max_force: float
    max_displacement: float
    n_steps: int
    converged: bool


def relax_kept(
    folder: RunFolder,
    name: str,
    atoms: Atoms,
    model: GivenModel,
    limits: Limits,
    *,
    cell: str = "none",
    allow_charge_mismatch: bool = False,
) -> Relaxed:
    """Relax a structure in the folder ``name`` of a run, or read what an earlier run left there.

    One that was interrupted goes on from its restart file. A run without a folder of its own keeps none.

    Args:
        folder: The run.
        name: Folder of the relaxation in it; names it in messages too.
        atoms: Where it starts.
        model: The model.
        limits: When it is done.
        cell: What of the cell may change, as the option of ``relax`` says it.
        allow_charge_mismatch: Go on with a charge or spin that the model cannot see.

    Raises:
        InputError: The model does not cover the structure.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.relaxation import RelaxOptions, relax

    place = folder.file(name) if folder.kept else None
    if place is not None and (place / "summary.json").exists():
        return _read(place)
    options = RelaxOptions(
        cell=cell,
        fmax=limits.fmax,
        smax=limits.smax,
        steps=limits.steps,
        allow_charge_mismatch=allow_charge_mismatch,
    )
    resume = place is not None and place.exists()
    with listening(None):  # its steps are not the progress of the whole
        found = relax(GivenStructure(atoms, name), model, out=place, resume=resume, options=options)
    return Relaxed(
        found.atoms, found.energy, found.max_force, found.max_displacement, found.n_steps, found.converged
    )


def _read(place: Path) -> Relaxed:
    from ase.io import read

    summary = json.loads((place / "summary.json").read_text(encoding="utf-8"))
    results = summary["results"]
    atoms = read(place / "relaxed.extxyz")
    atoms.calc = None
    return Relaxed(
        atoms,
        results["energy_eV"],
        results["max_force_eV_per_A"],
        results["max_displacement_A"],
        results["n_steps"],
        summary["converged"],
    )

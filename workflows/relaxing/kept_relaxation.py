"""Relaxations that a larger run consists of: each in a folder of its own, none of them done twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atomml.errors import OptionError
from atomml.run import RunFolder, listening
from atomml.workflows.crystals.crystal import Limits
from atomml.workflows.inputs import GivenModel, GivenStructure

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Relaxed", "relax_kept"]

_SAME = 1e-4  # Å: more than rounding moves an atom, less than another structure differs


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
        InputError: The model does not cover the structure, or the folder holds the relaxation of another.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.relaxing.relaxation import RelaxOptions, relax

    place = folder.file(name) if folder.kept else None
    if place is not None:
        _check_start(place, atoms)
        if (place / "summary.json").exists():
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


def _check_start(place: Path, atoms: Atoms) -> None:
    """Refuse a folder that began with another structure: files behind a pattern may have changed."""
    from ase.io import read

    trajectory = place / "trajectory.extxyz"
    if not trajectory.exists() or trajectory.stat().st_size == 0:
        return
    try:
        first = read(trajectory, index=0)
    except (OSError, ValueError, KeyError, StopIteration):  # torn by a kill: the relaxation begins anew
        return
    if first.get_chemical_formula(mode="reduce") != atoms.get_chemical_formula(mode="reduce"):
        off = float("inf")
    else:
        cells = abs(first.cell.array - atoms.cell.array).max()
        off = max(cells, abs(first.positions - atoms.positions).max())
    if off > _SAME:
        raise OptionError(
            f"{place} holds the relaxation of another structure than this run asks for: use --overwrite."
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

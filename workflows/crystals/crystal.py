"""What the workflows of a crystal's properties share: options and folder, the relaxed start, the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atomml.config import as_config, build_options
from atomml.errors import StructureError
from atomml.result import Result
from atomml.run import RunFolder
from atomml.workflows.inputs import (
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    given_structure,
)
from atomml.workflows.run_record import RunRequest, finish_run

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.workflows.relaxing.relaxation import RelaxOptions

__all__ = [
    "CrystalRun",
    "Limits",
    "check_crystal",
    "relax_options",
    "relaxed_start",
    "run_on_crystal",
    "strained_copy",
]

AnyResult = TypeVar("AnyResult", bound=Result)


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


def run_on_crystal(
    command: str,
    measure: Callable[[CrystalRun], AnyResult],
    structure: Any,
    model: Any,
    options: Any,
    overrides: Mapping[str, Any],
    request: RunRequest,
    *,
    may_change: Collection[str] = (),
) -> AnyResult:
    """A workflow from end to end: check, open the run folder, measure, write summary and report.

    Args:
        command: Name of the command.
        measure: The work itself.
        structure: A crystal in any form that :func:`given_structure` takes.
        model: A model in any form that :func:`given_model` takes.
        options: An instance of the workflow's options dataclass, or the class for its defaults.
        overrides: Fields over those of ``options``.
        request: Where the run goes, and on what it is computed.
        may_change: Options that a resumed run may give other values.

    Raises:
        InputError: A structure, model or option that is wrong.
    """
    started = time.perf_counter()
    kind, fields = (options, {}) if isinstance(options, type) else (type(options), as_config(options))
    chosen: Any = build_options(kind, fields | dict(overrides))
    used = given_model(model, dtype=chosen.dtype, device=request.device)
    given = given_structure(structure)
    check_crystal(given)
    warnings: list[str] = []
    check_covered(given, used, warnings.append, chosen.allow_charge_mismatch)
    source = str(structure) if isinstance(structure, str | Path) else given.label
    facts = {"structure": source, **used.config()}
    with request.open(command, chosen, may_change=may_change, warnings=warnings, **facts) as folder:
        result = measure(CrystalRun(folder, given, used, chosen))
        seconds = time.perf_counter() - started
        finish_run(folder, result, model=used.record(), inputs=[given.record()], seconds=seconds)
        return result


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


def relaxed_start(run: CrystalRun) -> tuple[Atoms, bool]:
    """The crystal to measure, and whether it is converged: as given, or relaxed in ``relaxation/``."""
    if run.options.start == "given":
        return run.given.atoms, True
    from atomml.workflows.relaxing.relaxation import relax

    run.model.need_stress("the relaxation of the cell")
    limits = Limits.of(run.options)
    folder = run.folder.file("relaxation") if run.folder.kept else None
    resume = folder is not None and folder.exists()
    found = relax(run.given, run.model, out=folder, resume=resume, options=relax_options(run, "free", limits))
    if not found.converged:
        run.folder.warn(
            f"The crystal did not relax in {limits.steps} steps (largest force {found.max_force:.3g} eV/Å, "
            f"stress {found.max_stress:.3g} GPa): the rest is that of a strained crystal; add --steps."
        )
    return found.atoms, found.converged


def relax_options(run: CrystalRun, cell: str, limits: Limits) -> RelaxOptions:
    """Options of the relaxation of a crystal or of a changed copy of it."""
    from atomml.workflows.relaxing.relaxation import RelaxOptions

    return RelaxOptions(
        cell=cell,
        fmax=limits.fmax,
        smax=limits.smax,
        steps=limits.steps,
        allow_charge_mismatch=run.options.allow_charge_mismatch,
    )


def strained_copy(atoms: Atoms, cell: NDArray[np.float64]) -> Atoms:
    """The crystal in another cell ``(3, 3)`` Å, its fractional coordinates and constraints as they were."""
    strained = atoms.copy()
    strained.set_constraint()
    strained.set_cell(cell, scale_atoms=True)
    strained.set_constraint(atoms.constraints)
    return strained

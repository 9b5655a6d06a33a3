"""What the workflows of a crystal's properties share: options and folder, the relaxed start, the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options, option_units
from atomml.errors import StructureError
from atomml.files import write_atomic
from atomml.result import Result
from atomml.run import RunFolder, open_run
from atomml.workflows.inputs import (
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    given_structure,
)

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.workflows.relaxation import RelaxOptions

__all__ = [
    "EV_PER_A3",
    "CrystalRun",
    "Limits",
    "check_crystal",
    "crystal_run",
    "relax_options",
    "relaxed_start",
    "write_table",
]

EV_PER_A3 = 160.21766208
"""GPa in one eV/Å³ (CODATA 2014, as in ase.units)."""


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
    found = relax(run.given, run.model, out=folder, resume=resume, options=relax_options(run, "free", limits))
    if not found.converged:
        run.folder.warn(
            f"The crystal did not relax in {limits.steps} steps (largest force {found.max_force:.3g} eV/Å, "
            f"stress {found.max_stress:.3g} GPa): the rest is that of a strained crystal; add --steps."
        )
    return found.atoms, found.converged


def relax_options(run: CrystalRun, cell: str, limits: Limits) -> RelaxOptions:
    """Options of the relaxation of a crystal or of a changed copy of it."""
    from atomml.workflows.relaxation import RelaxOptions

    return RelaxOptions(
        cell=cell,
        fmax=limits.fmax,
        smax=limits.smax,
        steps=limits.steps,
        allow_charge_mismatch=run.options.allow_charge_mismatch,
    )


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a CSV file, atomically; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())

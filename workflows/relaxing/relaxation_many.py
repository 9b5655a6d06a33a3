"""Several structures relaxed together: a folder each, one table; what fails is named there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import AtomMLError
from atomml.files import write_table
from atomml.result import Result
from atomml.run import RunFolder
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    GivenStructure,
    all_structures,
    check_covered,
    given_model,
    input_record,
    with_charge,
)
from atomml.workflows.relaxing.relaxation import RelaxOptions, RelaxResult, check_relaxable, relax
from atomml.workflows.run_record import RunRequest, finish_run

__all__ = ["RelaxManyResult", "relax_many"]

_COLUMNS = (
    "input",
    "formula",
    "converged",
    "n_steps",
    "energy_eV",
    "energy_per_atom_eV",
    "energy_change_eV",
    "max_force_eV_per_A",
    "pressure_GPa",
    "volume_A3",
    "folder",
    "error",
)

_WRITE_EVERY_S = 2.0


@dataclass(kw_only=True)
class RelaxManyResult(Result):
    """What ``relax_many`` returns.

    Attributes:
        n_structures: Structures given.
        n_converged: Of them, those whose relaxation converged.
        n_failed: Of them, those whose relaxation failed; their rows name the error.
        rows: Rows of ``results.csv``.
        relaxed: The result of each structure; None for one that failed.
    """

    n_structures: int = 0
    n_converged: int = 0
    n_failed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})
    relaxed: list[RelaxResult | None] = field(default_factory=list, metadata={"summary": False}, repr=False)


def relax_many(
    structures: Sequence[Any],
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **overrides: Any,
) -> RelaxManyResult:
    """Relax each structure as :func:`atomml.workflows.relax` does; all are checked before the first starts.

    Args:
        structures: Files (every frame of each), ``ase.Atoms``, or a mixture.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder, with a folder in it for each structure.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of a model that is loaded here.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        **overrides: Fields of :class:`RelaxOptions`.

    Raises:
        InputError: A structure or option that is wrong; names file and frame.
    """
    chosen = build_options(RelaxOptions, overrides)
    used = given_model(model, dtype=dtype, device=device)
    given = all_structures(structures, " to relax")
    for one in given:
        with_charge(one, chosen.charge, chosen.spin)
        check_covered(one, used, lambda _: None, chosen.allow_charge_mismatch)
        check_relaxable(one, chosen)
    names = [str(entry) if isinstance(entry, str | Path) else "structure" for entry in structures]
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": names, **used.config(), "dtype": dtype}
    with request.open("relax", chosen, may_change=("steps",), **facts) as run:
        return _relax_each(run, given, used, chosen)


class _Table:
    """The rows of those that have ended, in the order in which the structures were given."""

    def __init__(self, run: RunFolder, given: list[GivenStructure]) -> None:
        self.run, self.given = run, given
        self.names = [_name(number, one) for number, one in enumerate(given)]
        relaxed: list[RelaxResult | None] = [None] * len(given)
        folder = run.path if run.kept else None
        self.result = RelaxManyResult(n_structures=len(given), relaxed=relaxed, folder=folder)
        self._rows: dict[int, dict[str, Any]] = {}
        self._written = 0.0

    def add(self, number: int, found: RelaxResult | None, error: str | None) -> None:
        """Take how a structure ended; the file follows every few seconds."""
        one, result, name = self.given[number], self.result, self.names[number]
        converged = found is not None and found.converged
        result.relaxed[number] = found
        result.n_failed += found is None
        result.n_converged += converged
        if found is None:
            self.run.warn(f"{one.label} failed: {error}")
        elif not converged:
            self.run.warn(f"{one.label} did not converge in {found.n_steps} steps.")
        self._rows[number] = _row(one, name, found, error)
        if time.monotonic() - self._written > _WRITE_EVERY_S:
            self.write()
        done = len(self._rows)
        self.run.event("structure", step=done, of=len(self.given), name=name, converged=converged)

    def write(self) -> None:
        """Write ``results.csv``."""
        self.result.rows = [self._rows[number] for number in sorted(self._rows)]
        write_table(self.run.file("results.csv"), self.result.rows, _COLUMNS)
        self._written = time.monotonic()


def _relax_each(
    run: RunFolder, given: list[GivenStructure], model: GivenModel, options: RelaxOptions
) -> RelaxManyResult:
    """Relax together what can go together, and the rest one by one."""
    from atomml.workflows.relaxing.relaxation_batched import goes_together, relax_batched
    from atomml.workflows.relaxing.relaxation_folders import RelaxationFolders

    started = time.perf_counter()
    table = _Table(run, given)
    together = [number for number, one in enumerate(given) if goes_together(one, options)]
    with RelaxationFolders(run, [table.names[number] for number in together], model) as folders:
        watcher = folders if run.kept else None
        chosen = [given[number] for number in together]
        for found in relax_batched(chosen, model, options=options, warn=run.warn, watcher=watcher):
            relaxed = folders.results.pop(found.index, found.result)
            table.add(together[found.index], relaxed, found.error)
    for number in sorted(set(range(len(given))) - set(together)):
        table.add(number, *_relax_one(run, given[number], table.names[number], model, options))
    table.write()
    result = table.result
    result.converged = result.n_converged == result.n_structures
    inputs = [input_record(path) for path in dict.fromkeys(one.path for one in given)]
    finish_run(run, result, model=model.record(), inputs=inputs, seconds=time.perf_counter() - started)
    return result


def _name(number: int, one: GivenStructure) -> str:
    return f"{number:04d}-{one.path.name.split('.')[0] if one.path else one.atoms.get_chemical_formula()}"


def _relax_one(
    run: RunFolder, one: GivenStructure, name: str, model: GivenModel, options: RelaxOptions
) -> tuple[RelaxResult | None, str | None]:
    """One relaxation in its own folder; an error of it is returned, so that the others go on."""
    try:
        found = relax(
            one,
            model,
            out=run.file(name),
            options=options,
            resume=run.file(name).exists(),
        )
    except AtomMLError as error:
        return None, str(error)
    if not run.kept:
        found.folder = None
    return found, None


def _row(one: GivenStructure, name: str, found: RelaxResult | None, error: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "input": one.label,
        "formula": one.atoms.get_chemical_formula(),
        "converged": False,
    }
    if found is not None:
        row |= found.results() | {"converged": found.converged}
    return {key: row.get(key) for key in _COLUMNS} | {"folder": name, "error": error}

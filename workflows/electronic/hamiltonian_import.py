"""Published sets of Hamiltonians into a store, with the priors that training subtracts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.run import RunFolder

__all__ = ["HamiltonianImportOptions", "HamiltonianImportResult", "import_hamiltonians"]


@dataclass(frozen=True)
class HamiltonianImportOptions:
    """Options of ``hamiltonian import``."""

    prior: str = option(
        "minao-pbe",
        "Fock matrix on atomic densities that is computed beside each matrix (one Fock build)",
        choices=("minao-pbe", "minao", "none"),
    )
    first: int = option(0, "molecules to skip", minimum=0)
    most: int = option(0, "molecules to take at most; 0 for all", minimum=0)


@dataclass(kw_only=True)
class HamiltonianImportResult(Result):
    """What was read.

    Attributes:
        n_molecules: Molecules in the store.
        method: What the file's layout says of their level of theory.
        output: The store.
    """

    n_molecules: int = 0
    method: str = ""
    output: str = ""


def import_hamiltonians(
    path: str | Path,
    to: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianImportResult:
    """Read a database of QH9 or of the MD17 molecules into a store.

    Args:
        path: The database.
        to: ``set.lmdb``.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace a folder, and a store, of an earlier run.
        **options: Fields of :class:`HamiltonianImportOptions`.

    Raises:
        InputError: A file of another layout, a damaged entry, a store that exists.
    """
    from atomml.data.entry_files import check_entry_file, write_entries
    from atomml.workflows.inputs import input_record

    started = time.perf_counter()
    settings = build_options(HamiltonianImportOptions, options)
    target = check_entry_file(Path(to))
    if target.exists() and not overwrite:
        raise OptionError(f"{target} exists: give another --to, or --overwrite to replace it.")
    result = HamiltonianImportResult(output=str(target))
    with open_with_options(
        out, "hamiltonian import", settings, overwrite=overwrite, structures=[str(path)], to=str(to)
    ) as run:
        inputs = [input_record(Path(path))]
        result.n_molecules = write_entries(target, _entries(path, settings, run, result), inputs)
        seconds = time.perf_counter() - started
        finish_run(run, result, model=None, inputs=inputs, seconds=seconds)
    return result


def _entries(
    path: str | Path, options: HamiltonianImportOptions, run: RunFolder, result: HamiltonianImportResult
) -> Iterator[Entry]:
    """The molecules, each with its prior."""
    from itertools import islice

    from atomml.data.matrix_files import read_matrices
    from atomml.electronic.mean_field import MeanFieldLevel, parse_level, quiet
    from atomml.electronic.priors import prior_matrix
    from atomml.electronic.scf_settings import ScfSettings

    last = options.first + options.most if options.most else None
    level = None
    for number, entry in enumerate(islice(read_matrices(path), options.first, last), 1):
        result.method = entry.method
        if options.prior != "none":
            with quiet():
                level = level or MeanFieldLevel(*parse_level(entry.method.partition(" ")[0]), ScfSettings())
                prior = prior_matrix(level.mean_field(entry.atoms), options.prior)
            entry = replace(entry, matrices={**entry.matrices, options.prior: prior})
        run.event("import", step=number, id=entry.where)
        yield entry

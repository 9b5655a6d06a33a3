"""Errors of a functional on reaction energies, each of them self-consistent: ``atomml dft evaluate``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import OptionError
from atomml.files import write_table
from atomml.result import Result, quantity
from atomml.workflows.electronic.functional_fields import (
    Fields,
    SelfConsistent,
    errors_of,
    mean_error,
    reaction_row,
)
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.electronic.functional import Functional

__all__ = ["FunctionalEvaluateResult", "evaluate_functional"]


@dataclass(kw_only=True)
class FunctionalEvaluateResult(Result):
    """Errors of a functional's reaction energies.

    Attributes:
        functional: Its name.
        mae: Mean absolute error of the reactions that converge.
        converged_share: Share of species whose SCF converges.
        rows: A row for each reaction; an error that is missing is one of a species that did not converge.
    """

    functional: str = ""
    mae: float | None = quantity("kcal/mol", default=None)
    converged_share: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def evaluate_functional(
    functional: str | Path | Functional,
    reactions: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> FunctionalEvaluateResult:
    """Self-consistent errors of a functional on reaction energies.

    Args:
        functional: A closed form by name, a file, or a functional.
        reactions: A file of :func:`~atomml.electronic.reactions.read_reactions`.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`~atomml.workflows.electronic.functional_fields.SelfConsistent`.

    Raises:
        InputError: A file, functional or option that is wrong.
    """
    from atomml.electronic.functional import Functional
    from atomml.electronic.reactions import read_reactions
    from atomml.potentials.xc.files import load_functional
    from atomml.workflows.inputs import input_record

    started = time.perf_counter()
    settings = build_options(SelfConsistent, options)
    own = functional if isinstance(functional, Functional) else load_functional(functional)
    given = read_reactions(reactions)
    species, known = given.species, given.reactions
    if not known:
        raise OptionError(f"{reactions} holds no reaction.")
    with open_with_options(
        out,
        "dft evaluate",
        settings,
        overwrite=overwrite,
        reactions=str(reactions),
        functional=str(functional),
    ) as run:
        fields = Fields(own, species, settings)
        errors = errors_of(fields, known)
        result = FunctionalEvaluateResult(functional=own.name, mae=mean_error(errors))
        result.converged_share = 1 - len(fields.failed) / max(len(species), 1)
        result.rows = [reaction_row(reaction, error) for reaction, error in zip(known, errors, strict=True)]
        write_table(run.file("reactions.csv"), result.rows, list(result.rows[0]))
        inputs = [input_record(Path(reactions))]
        finish_run(run, result, model=None, inputs=inputs, seconds=time.perf_counter() - started)
    return result

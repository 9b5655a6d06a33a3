"""Vacancies on every site of thousands of crystals: the options, the result, and the function.

A model that was trained on perfect crystals is asked for the crystal and for its supercell with one atom
left out (Choudhary and Sumpter, AIP Advances 13, 095109, 2023): ``E_vac = E(defect) - E(perfect) + mu``.
Where a regressor of site features is given, the perfect crystal alone is asked for, and no supercell is made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.workflows.inputs import DEFAULT_MODEL, GivenModel, given_model
from atomml.workflows.run_record import open_with_options
from atomml.workflows.screens.screening import MAY_CHANGE, ScreenResult, is_named, screen_options

__all__ = ["COMMAND", "VacancySurveyOptions", "VacancySurveyResult", "survey_settings", "survey_vacancies"]

COMMAND = "property vacancies"
"""What runs of this workflow call themselves."""


@dataclass(frozen=True)
class VacancySurveyOptions:
    """Options of ``property vacancies``; ``mu`` comes after all else, and may change with ``--resume``."""

    relaxed: bool = option(False, "relax the ions around each vacancy too, at fixed cell")
    start: str = option(
        "given",
        "take the crystals as they are, or relax positions and cell of each first",
        choices=("given", "relaxed"),
    )
    element: tuple[str, ...] = option(
        (), "elements to take away; every element of a crystal if none is named", metavar="EL,..."
    )
    mu: tuple[str, ...] = option(
        (),
        "chemical potentials of your own, eV; else the crystal's own for an element, and the ground state "
        "of the element, relaxed by the model, for a compound",
        metavar="EL=VALUE,...",
    )
    regressor: str | None = option(
        None, "predict from features of the perfect crystal's sites, without any supercell", metavar="FILE"
    )
    min_length: float = option(
        8.0, "least distance between opposite faces of the supercell", unit="Å", above=0
    )
    max_atoms: int = option(300, "most atoms of a supercell; a larger one is a row that failed", minimum=2)
    symprec: float = option(0.01, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    fmax: float = option(0.01, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.05, "largest stress at which one with its cell is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class VacancySurveyResult(ScreenResult):
    """What ``survey_vacancies`` returns; counts are of rows, which are vacancies.

    A crystal that failed as a whole is one row. The columns of a row are those of ``results.csv``.

    Attributes:
        n_crystals: Crystals given.
        chemical_potentials: Element, value (eV) and convention of each that was taken from a reference.
        vacancies_per_minute: Of the crystals that were computed by this run; None where none was.
    """

    n_crystals: int = 0
    chemical_potentials: list[dict[str, Any]] = field(default_factory=list)
    vacancies_per_minute: float | None = None


def survey_vacancies(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    threads: int | None = None,
    pool: Executor | None = None,
    **options: Any,
) -> VacancySurveyResult:
    """Formation energies of a vacancy on every site of every crystal that symmetry tells apart.

    Args:
        structures: Files, patterns and folders (every frame of each), ``ase.Atoms``, or a mixture.
        model: Registered name, file, ``ase:MODULE:CLASS``, ``Potential`` or ASE calculator. What has no
            name cannot be sent to a worker: it works in this process.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted; what is done is not done again.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Recorded; nothing here is random.
        threads: CPU threads of each worker; 1 if None.
        pool: Any ``concurrent.futures.Executor`` instead of one made here; it is not shut down.
        **options: Fields of :class:`VacancySurveyOptions` and of :class:`ScreenOptions`.

    Raises:
        InputError: A wrong option or condition, no such model or regressor, no structures.
    """
    from atomml.workflows.defects.vacancy_survey_run import Survey
    from atomml.workflows.row_selection import RowFilter
    from atomml.workflows.screens.screening_entries import screened_sources

    chosen, rest = screen_options(options)
    if chosen.folders:
        raise OptionError("A crystal has one row for each vacancy and no folder: leave --folders out.")
    settings, mu = survey_settings(rest)
    if chosen.where is not None:
        RowFilter(chosen.where)
    used = given_model(model, dtype=dtype, device=device, allow_code=isinstance(model, GivenModel))
    _check_regressor(settings["regressor"], used)
    started = time.perf_counter()
    named = is_named(model, used, chosen)
    sources = screened_sources(structures)
    work = Survey(COMMAND, sources, used, named, chosen, settings, dtype, device, threads, pool, mu)
    facts = work.facts() | {"seed": seed}
    with open_with_options(
        work.prepare(out, facts),
        COMMAND,
        chosen,
        resume=resume,
        overwrite=overwrite,
        may_change=(*MAY_CHANGE, "mu"),
        **facts,
    ) as run:
        found = work.go(run, started)
        assert isinstance(found, VacancySurveyResult)
        return found


def survey_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Options that an energy depends on, and the chemical potentials that were given, eV by element.

    Raises:
        OptionError: An option that there is not, an element that does not exist, a mu that is no number.
    """
    from ase.data import chemical_symbols

    from atomml.workflows.defects.chemical_potentials import parse_mu

    chosen = build_options(VacancySurveyOptions, given)
    settings = as_config(chosen)
    for element in chosen.element:
        if element not in chemical_symbols[1:]:
            raise OptionError(f"--element {element}: there is no such element.")
    asked = parse_mu(settings.pop("mu"), chemical_symbols[1:], (), "the periodic table")
    limits = [element for element, value in asked.items() if isinstance(value, str)]
    if limits:
        raise OptionError(f"--mu {limits[0]}={asked[limits[0]]}: give a number in eV here.")
    return settings, {element: float(value) for element, value in asked.items()}


def _check_regressor(path: str | None, model: GivenModel) -> None:
    """Refuse, before anything runs, a file that is none, or one that belongs to another model."""
    if path is not None:
        from atomml.workflows.defects.site_regression import load_regressor

        load_regressor(path, model)

"""What a survey of vacancies would run: crystals, sites, supercells, and about how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import AtomMLError
from atomml.workflows.defects.vacancy_survey import VacancySurveyOptions, survey_settings
from atomml.workflows.inputs import DEFAULT_MODEL, GivenModel, GivenStructure, check_covered, given_model

if TYPE_CHECKING:
    from atomml.workflows.screens.screening import ScreenOptions

__all__ = ["plan_survey"]

_TIMED = 4
_FAILURES = 20


@dataclass
class _Counted:
    """What was counted of the crystals.

    Attributes:
        crystals: Crystals given.
        vacancies: Of all that can be computed.
        atoms: Of the supercells of all vacancies together.
        sizes: Atoms of each crystal's supercell.
        elements: Vacancies by element.
        failures: Crystal and why it cannot be computed.
        able: Crystals with a vacancy, with the atoms of its supercells.
    """

    crystals: int = 0
    vacancies: int = 0
    atoms: int = 0
    sizes: list[int] = field(default_factory=list)
    elements: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    able: list[tuple[int, GivenStructure]] = field(default_factory=list)


def plan_survey(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    threads: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What :func:`~atomml.workflows.survey_vacancies` would do; everything is read and checked.

    Args:
        structures: Files, patterns and folders, ``ase.Atoms``, or a mixture.
        model: As there.
        out: Run folder, which is only looked for.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Taken for nothing here or there.
        threads: CPU threads of each worker, with which the crystals are timed here; 1 if None.
        **options: Fields of :class:`VacancySurveyOptions` and of :class:`ScreenOptions`; with ``shard`` the
            plan is of that part alone.

    Returns:
        Counts of crystals, vacancies and atoms, the first of the crystals that would fail with their reasons,
        and ``estimated_s``: a few crystals of middling size are computed, and their time taken for all. It
        holds no relaxation; ``relaxation_step_s`` is what one step of all relaxations takes, None where
        nothing is relaxed. Fit for JSON.

    Raises:
        InputError: As there.
    """
    from atomml.workflows.screens.screening import is_named, screen_options
    from atomml.workflows.work_sharing import workers_for

    chosen, rest = screen_options(options)
    settings, _ = survey_settings(rest)
    used = given_model(model, dtype=dtype, device=device, allow_code=isinstance(model, GivenModel))
    survey = build_options(VacancySurveyOptions, settings)
    workers = workers_for(used, is_named(model, used, chosen), chosen.workers)
    counted = _counted(structures, used, survey, chosen)
    with _threads(threads or 1 if workers else None):
        seconds = _seconds(counted, used, settings)
        step = _step_seconds(counted, used, survey)
    at_once = max(1, min(workers, counted.crystals - len(counted.failures)))
    return {
        "command": "property vacancies",
        "crystals": counted.crystals,
        "crystals_that_fail": len(counted.failures),
        "vacancies": counted.vacancies,
        "vacancies_by_element": dict(sorted(counted.elements.items())),
        "supercell_atoms": _range(counted.sizes),
        "atoms_in_all": counted.atoms,
        "model": used.record(),
        "workers": workers,
        "estimated_s": None if seconds is None else seconds / at_once,
        "relaxation_step_s": None if step is None else step / at_once,
        "failures": [f"{label}: {reason}" for label, reason in counted.failures[:_FAILURES]],
        "out": None if out is None else str(out),
        "out_exists": out is not None and Path(out).exists(),
        "options": as_config(survey),
    }


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many CPU threads, as a worker has, then those of before; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _counted(
    structures: Any, model: GivenModel, survey: VacancySurveyOptions, chosen: ScreenOptions
) -> _Counted:
    """The crystals of the shard that is asked for, or all."""
    from atomml.workflows.screens.screening_entries import entries_of, screened_sources
    from atomml.workflows.shards import shard_named

    shard = shard_named(chosen.shard, chosen.merge)
    counted = _Counted()
    for entry in entries_of(screened_sources(structures)):
        if shard is not None and not shard.holds(entry.digest):
            continue
        label = f"{entry.head['input']}, frame {entry.head['frame']}"
        try:
            _count(counted, entry.given, entry.error, model, survey)
        except AtomMLError as error:
            reason = " ".join(str(error).split()).removeprefix(f"{label}: ")
            counted.failures.append((label, reason))
    return counted


def _count(
    counted: _Counted,
    given: GivenStructure | None,
    error: str | None,
    model: GivenModel,
    o: VacancySurveyOptions,
) -> None:
    """Add a crystal.

    Raises:
        AtomMLError: It cannot be computed.
    """
    from atomml.data.symmetry import unique_sites
    from atomml.workflows.crystals.crystal import check_crystal
    from atomml.workflows.defects.defect_cells import checked_matrix

    counted.crystals += 1
    if given is None:
        raise AtomMLError(str(error))
    check_crystal(given)
    check_covered(given, model, lambda _: None, o.allow_charge_mismatch)
    sites = unique_sites(given.atoms, o.symprec)
    sites = [site for site in sites if not o.element or site.element in o.element]
    if not sites:
        return
    n_atoms = len(given.atoms)
    if o.regressor is None:
        n_atoms *= _copies(checked_matrix(given.atoms, o.min_length, o.symprec, o.max_atoms, given.label))
    counted.vacancies += len(sites)
    counted.atoms += n_atoms * (len(sites) if o.regressor is None else 1)
    counted.sizes.append(n_atoms)
    counted.able.append((n_atoms * len(sites), given))
    for site in sites:
        counted.elements[site.element] = counted.elements.get(site.element, 0) + 1


def _copies(matrix: Any) -> int:
    import numpy as np

    return round(abs(float(np.linalg.det(matrix))))


def _range(sizes: list[int]) -> dict[str, float] | None:
    import statistics

    if not sizes:
        return None
    return {"least": min(sizes), "median": statistics.median(sizes), "most": max(sizes)}


def _middling(counted: _Counted) -> list[tuple[int, GivenStructure]]:
    """A few crystals from the middle of the order by cost."""
    able = sorted(counted.able, key=lambda one: one[0])
    start = max(len(able) // 2 - _TIMED // 2, 0)
    return able[start : start + _TIMED]


def _seconds(counted: _Counted, model: GivenModel, settings: Mapping[str, Any]) -> float | None:
    """Of all crystals without relaxations in one process; the second time counts, for the first compiles."""
    from atomml.workflows.defects.vacancy_survey_work import survey

    few = _middling(counted)
    if not few:
        return None
    told = {**settings, "relaxed": False, "start": "given"}
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        survey(model, told, [given for _, given in few])
        seconds = time.perf_counter() - started
    return seconds * sum(cost for cost, _ in counted.able) / sum(cost for cost, _ in few)


def _step_seconds(counted: _Counted, model: GivenModel, o: VacancySurveyOptions) -> float | None:
    """Of a step of all relaxations that are asked for: energy and forces of every cell, once."""
    from atomml.workflows.defects.defect_cells import supercell, supercell_matrix

    cells = counted.atoms if o.relaxed and o.regressor is None else 0
    cells += sum(len(given.atoms) for _, given in counted.able) if o.start == "relaxed" else 0
    if not cells or not counted.able:
        return None
    atoms = _middling(counted)[0][1].atoms.copy()
    if o.relaxed:
        atoms = supercell(atoms, supercell_matrix(atoms, o.min_length, o.symprec))
    atoms.calc = model.calculator()
    seconds = 0.0
    for number in range(2):
        atoms.rattle(1e-6, seed=number)
        started = time.perf_counter()
        atoms.get_forces()
        seconds = time.perf_counter() - started
    return seconds * cells / len(atoms)

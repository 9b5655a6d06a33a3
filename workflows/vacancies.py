"""Vacancies: the options, the result, and the function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import quantity
from atomml.workflows.inputs import DEFAULT_MODEL
from atomml.workflows.point_defects import PointDefectOptions, PointDefectResult, evaluations

if TYPE_CHECKING:
    from atomml.data.symmetry import UniqueSite
    from atomml.workflows.defect_cells import PointDefect

__all__ = ["VacancyOptions", "VacancyResult", "evaluations", "vacancy"]


@dataclass(frozen=True)
class VacancyOptions(PointDefectOptions):
    """Options of ``vacancy``."""

    element: tuple[str, ...] = option(
        (), "elements to take away; every element of the crystal if none is named", metavar="EL,..."
    )


@dataclass(kw_only=True)
class VacancyResult(PointDefectResult):
    """What ``vacancy`` returns.

    Attributes:
        vacancy_formation_energy: Of the lowest vacancy, relaxed if that was asked for, eV.
        unrelaxed_vacancy_formation_energy: The same before the ions relaxed, eV.
    """

    vacancy_formation_energy: float = quantity("eV", default=0.0)
    unrelaxed_vacancy_formation_energy: float = quantity("eV", default=0.0)

    def take(self, unrelaxed: float, relaxed: float | None) -> None:
        """As :meth:`PointDefectResult.take`."""
        self.vacancy_formation_energy = unrelaxed if relaxed is None else relaxed
        self.unrelaxed_vacancy_formation_energy = unrelaxed


def vacancy(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: VacancyOptions | None = None,
    **overrides: Any,
) -> VacancyResult:
    """Formation energies of vacancies, on every site that symmetry tells apart.

    ``E_f = E(defect) - E(bulk) - sum_i dn_i mu_i`` with ``dn_i = -1`` of the element that leaves, so
    ``E_f = E(defect) - E(bulk) + mu``. The cell stays that of the bulk.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`VacancyOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystal import run_on_crystal
    from atomml.workflows.defect_measurement import measure_defects

    return run_on_crystal(
        "vacancy",
        lambda run: measure_defects(run, _asked, VacancyResult()),
        structure,
        model,
        options or VacancyOptions,
        overrides,
        out=out,
        resume=resume,
        overwrite=overwrite,
        device=device,
        seed=seed,
    )


def _asked(sites: list[UniqueSite], options: VacancyOptions, label: str) -> list[PointDefect]:
    from atomml.workflows.defect_cells import vacancies

    return vacancies(sites, options.element, label)

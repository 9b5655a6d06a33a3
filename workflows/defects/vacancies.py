"""Vacancies: the options, the result, and the function."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import quantity
from atomml.workflows.defects.point_defects import MAY_CHANGE, PointDefectOptions, PointDefectResult
from atomml.workflows.defects.point_defects import evaluations as _evaluations
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.symmetry import UniqueSite
    from atomml.workflows.crystals.crystal import CrystalRun
    from atomml.workflows.defects.defect_cells import PointDefect

__all__ = ["VacancyOptions", "VacancyResult", "evaluations", "vacancy"]


@dataclass(frozen=True)
class VacancyOptions(PointDefectOptions):
    """Options of ``vacancy``."""

    element: tuple[str, ...] = option(
        (), "elements to take away; every element of the crystal if none is named", metavar="EL,..."
    )
    neb: str = option(
        "none",
        "barrier of the hop from the nearest equivalent site, by nudged elastic band in the supercell of "
        "--min-length",
        choices=("none", "nearest"),
    )
    neb_images: int = option(5, "images of its path between the ends", minimum=1, maximum=99)


@dataclass(kw_only=True)
class VacancyResult(PointDefectResult):
    """What ``vacancy`` returns.

    Attributes:
        vacancy_formation_energy: Of the lowest vacancy, relaxed if that was asked for, eV.
        unrelaxed_vacancy_formation_energy: The same before the ions relaxed, eV.
        migration_barrier: Of the hop from the nearest equivalent site to this vacancy, eV; None if it was
            not asked for or there is no path.
        hop_distance: Between the two sites, Å.
        barriers: A row for each vacancy, as ``barriers.csv`` has it.
    """

    vacancy_formation_energy: float = quantity("eV", default=0.0)
    unrelaxed_vacancy_formation_energy: float = quantity("eV", default=0.0)
    migration_barrier: float | None = quantity("eV", default=None)
    hop_distance: float | None = quantity("Å", default=None)
    barriers: list[dict[str, Any]] = field(default_factory=list)

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
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "vacancy",
        _measure,
        structure,
        model,
        options or VacancyOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
        may_change=(*MAY_CHANGE, "neb"),
    )


def evaluations(options: VacancyOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for a unit cell, for ``--dry-run``; 60 steps of each path.

    Raises:
        OptionError: A supercell has more atoms than allowed.
    """
    from atomml.data.symmetry import unique_sites

    count = _evaluations(options, atoms)
    if options.neb == "nearest":
        sites = unique_sites(atoms, options.symprec)
        n_paths = sum(not options.element or site.element in options.element for site in sites)
        count += n_paths * options.neb_images * 60 * _cells(atoms, options)
    return count


def _cells(atoms: Atoms, options: VacancyOptions) -> int:
    """Unit cells in the supercell of ``--min-length``."""
    import numpy as np

    from atomml.workflows.defects.defect_cells import checked_matrix

    matrix = checked_matrix(atoms, options.min_length, options.symprec, options.max_atoms, str(atoms.symbols))
    return round(abs(np.linalg.det(matrix)))


def _measure(run: CrystalRun) -> VacancyResult:
    from atomml.data.symmetry import unique_sites
    from atomml.workflows.defects.defect_measurement import measure_defects
    from atomml.workflows.defects.vacancy_hops import add_barriers

    options: VacancyOptions = run.options
    result = measure_defects(run, _asked, VacancyResult())
    if options.neb == "nearest":
        atoms = result.atoms
        assert atoms is not None
        defects = _asked(unique_sites(atoms, options.symprec), options, run.given.label)
        add_barriers(run, result, defects, len(atoms) * _cells(atoms, options))
    return result


def _asked(sites: list[UniqueSite], options: VacancyOptions, label: str) -> list[PointDefect]:
    from atomml.workflows.defects.defect_cells import vacancies

    return vacancies(sites, options.element, label)

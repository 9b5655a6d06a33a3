"""How a vacancy moves: an atom of an equivalent site beside it hops in, over a barrier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import AtomMLError
from atomml.files import write_atomic, write_table
from atomml.run import listening, plain
from atomml.workflows.crystals.crystal import CrystalRun

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.symmetry import UniqueSite
    from atomml.workflows.barriers.nudged_band import NebResult
    from atomml.workflows.defects.defect_cells import PointDefect
    from atomml.workflows.defects.vacancies import VacancyResult

__all__ = ["add_barriers", "hop_ends", "nearest_equivalent"]


def nearest_equivalent(cell: Atoms, site: UniqueSite, n_unit: int) -> tuple[int, float] | None:
    """The atom of the same site that lies nearest to its first one, and how far, Å; None if there is none.

    Of several at one distance the first is taken.

    Args:
        cell: A supercell from :func:`atomml.workflows.defects.defect_cells.supercell`.
        site: The site, by its atoms in the unit cell.
        n_unit: Atoms of the unit cell.
    """
    place = site.atoms[0]
    alike = np.flatnonzero(np.isin(np.arange(len(cell)) % n_unit, site.atoms))
    alike = alike[alike != place]
    if not len(alike):
        return None
    distances = cell.get_distances(place, alike, mic=True)
    first = int(np.flatnonzero(distances < distances.min() + 1e-3)[0])
    return int(alike[first]), float(distances[first])


def hop_ends(cell: Atoms, vacant: Atoms, place: int, hopper: int) -> tuple[Atoms, Atoms]:
    """The vacancy as it is, and with the atom ``hopper`` in its place; atoms keep their order.

    Args:
        cell: The supercell without a vacancy.
        vacant: The relaxed one without the atom ``place``.
        place: Number of the vacant site in ``cell``.
        hopper: Number of the atom that hops.
    """
    end = cell.copy()
    to = cell.positions[hopper] + cell.get_distance(hopper, place, mic=True, vector=True)
    end.positions[hopper] = to
    del end[place]
    return vacant.copy(), end


def add_barriers(run: CrystalRun, result: VacancyResult, defects: Sequence[PointDefect], n_cell: int) -> None:
    """The barrier of each vacancy in the supercell of ``n_cell`` atoms, into rows, tables and the result.

    A path that fails has its sentence in the table, and the run is not converged.
    """
    assert result.atoms is not None
    cell, *vacant = result.structures[n_cell]
    rows: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    for number, (defect, start) in enumerate(zip(defects, vacant, strict=True), 1):
        row, path = _hop(run, defect, cell, start, len(result.atoms))
        rows.append(row)
        paths += path
        run.folder.event("barrier", step=number, of=len(defects), name=defect.name)
    write_table(run.folder.file("barriers.csv"), rows)
    if paths:
        write_table(run.folder.file("paths.csv"), paths)
    result.barriers = rows
    result.converged = result.converged and all(row["converged"] for row in rows)
    lowest = next(row for row in rows if row["defect"] == result.defect)
    result.migration_barrier, result.hop_distance = lowest["barrier_eV"], lowest["hop_distance_A"]


def _hop(
    run: CrystalRun, defect: PointDefect, cell: Atoms, start: Atoms, n_unit: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row of ``barriers.csv`` and those of ``paths.csv``; what an earlier run finished is read."""
    done = run.folder.file(f"hop-{defect.name}.json")
    if done.exists():
        kept = json.loads(done.read_text(encoding="utf-8"))
        return kept["row"], kept["path"]
    row: dict[str, Any] = {"defect": defect.name, "site": defect.site.label, "n_atoms": len(cell)}
    path: list[dict[str, Any]] = []
    nearest = nearest_equivalent(cell, defect.site, n_unit)
    if nearest is None:
        run.folder.warn(f"The supercell has no second {defect.site.label} for a hop: raise --min-length.")
        return _row(row, None, None, "no equivalent site in the supercell"), path
    found, error = _path(run, defect.name, hop_ends(cell, start, defect.site.atoms[0], nearest[0]))
    row = _row(row, nearest[1], found, error)
    if found is not None:
        path = [
            {"defect": defect.name, "distance_A": where, "above_start_eV": energy - found.energies[0]}
            for where, energy in zip(found.distances, found.energies, strict=True)
        ]
    write_atomic(done, json.dumps(plain({"row": row, "path": path})))
    return row, path


def _path(run: CrystalRun, name: str, ends: tuple[Atoms, Atoms]) -> tuple[NebResult | None, str | None]:
    """The path of one hop, in its own folder, or why there is none."""
    from atomml.workflows.barriers.nudged_band import NebOptions, neb

    options = run.options
    out = run.folder.file(f"neb/{name}") if run.folder.kept else None
    chosen = NebOptions(
        images=options.neb_images,
        ends_fmax=options.fmax,
        steps=options.steps,
        allow_charge_mismatch=options.allow_charge_mismatch,
    )
    try:
        with listening(None):  # its steps are not the progress of the whole
            found = neb(ends, run.model, out=out, resume=out is not None and out.exists(), options=chosen)
    except AtomMLError as error:
        run.folder.warn(f"The hop of {name} has no path: {error}")
        return None, str(error)
    for warning in found.warnings:
        run.folder.warn(f"Hop of {name}: {warning}")
    return found, None


def _row(
    row: dict[str, Any], distance: float | None, found: NebResult | None, error: str | None
) -> dict[str, Any]:
    """A row of ``barriers.csv``."""
    return row | {
        "hop_distance_A": distance,
        "barrier_eV": None if found is None else found.barrier,
        "reverse_barrier_eV": None if found is None else found.reverse_barrier,
        "path_mismatch_eV": None if found is None else found.path_mismatch,
        "steps": None if found is None else found.n_steps,
        "converged": found is not None and found.converged,
        "error": error,
    }

"""The work of ``vacancy`` and ``defect``: supercells, energies with and without the defect, the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from atomml.data.symmetry import point_group, unique_sites
from atomml.files import write_table
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relaxed_start
from atomml.workflows.crystals.crystal_images import Image, evaluate_images, write_images
from atomml.workflows.crystals.phase_set import (
    Phase,
    PhaseSet,
    given_phases,
    needed_references,
    reduced_formula,
    relaxed_phase,
    relaxed_references,
    warn_of_molecules,
)
from atomml.workflows.defects.chemical_potentials import Potential, choose_potentials, corners_of, parse_mu
from atomml.workflows.defects.defect_cells import PointDefect, checked_matrix, face_distance, supercell
from atomml.workflows.defects.point_defects import PointDefectOptions, PointDefectResult
from atomml.workflows.inputs import GivenStructure, check_covered
from atomml.workflows.relaxing.kept_relaxation import Relaxed, relax_kept

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["BOLTZMANN", "concentration", "measure_defects"]

AnyResult = TypeVar("AnyResult", bound=PointDefectResult)
Asked = Callable[[Any, Any, str], list[PointDefect]]

BOLTZMANN = 8.617333262e-5
"""eV/K (CODATA 2018)."""

_NOT_CONVERGED = 0.05  # eV by which two supercells may differ
_UNSTABLE = 1e-3  # eV/atom above the hull, from which it is said


def measure_defects(run: CrystalRun, asked: Asked, result: AnyResult) -> AnyResult:
    """The whole of a run on point defects, but for summary and report.

    Args:
        run: The run; its options are of :class:`PointDefectOptions`.
        asked: The defects, from the crystal's sites, the options and the crystal's name.
        result: An empty result, which is filled.

    Raises:
        OptionError: A supercell that is too large, an element that there is not, a wrong potential.
    """
    options: PointDefectOptions = run.options
    label = run.given.label
    _check(run, asked)
    atoms, converged = relaxed_start(run)
    sites = unique_sites(atoms, options.symprec)
    defects = asked(sites, options, label)
    potentials = _potentials(run, atoms, defects)
    mu = {one.element: one.value for one in potentials}
    images: list[Image] = []
    cells = _cells(run, atoms)
    for number, cell in enumerate(cells):
        rows, images = _one_size(run, mu, cell, defects, number * len(defects), len(cells) * len(defects))
        result.all_rows += rows
        write_table(run.folder.file("log.csv"), result.all_rows)
        result.structures[len(cell)] = [image.atoms for image in images]
    result.rows = result.all_rows[-len(defects) :]
    result.atoms = atoms
    result.space_group = point_group(atoms, options.symprec).symbol
    result.converged = converged and all(row["converged"] for row in result.all_rows)
    _fill(result, potentials, options)
    write_images(run.folder.file("structures.extxyz"), images)
    _write_tables(run, result)
    _warn(run, result)
    return result


def concentration(energy: float, temperature: float) -> float:
    """Part of the sites with a defect that costs ``energy`` eV at ``temperature`` K: exp(-E/kT), at most 1.

    Of the formation's entropy only that of choosing the sites is in it.
    """
    return math.exp(min(0.0, -energy / (BOLTZMANN * temperature)))


def _check(run: CrystalRun, asked: Asked) -> None:
    """Refuse wrong options before anything is relaxed."""
    given, options = run.given, run.options
    defects = asked(unique_sites(given.atoms, options.symprec), options, given.label)
    own = {str(symbol) for symbol in given.atoms.symbols}
    limits = parse_mu(options.mu, own, _added(defects), given.label)
    rivals, needed = _reservoirs(run, given.atoms, own | _added(defects))
    if any(isinstance(limits.get(element, "auto"), str) for element in _exchanged(defects)):
        needed_references(needed, [given.atoms, *(one.atoms for one in rivals)])
    for length in (options.min_length, *options.converge):
        checked_matrix(given.atoms, length, options.symprec, options.max_atoms, given.label)
    for defect in defects:
        if defect.added is not None:
            changed = GivenStructure(defect.put_into(given.atoms), f"{given.label} with {defect.name}")
            check_covered(changed, run.model, run.folder.warn, options.allow_charge_mismatch)


def _added(defects: Sequence[PointDefect]) -> set[str]:
    return {defect.added for defect in defects if defect.added is not None}


def _exchanged(defects: Sequence[PointDefect]) -> list[str]:
    """Elements that leave or enter, those that leave first."""
    return list(dict.fromkeys([one.site.element for one in defects] + sorted(_added(defects))))


def _reservoirs(
    run: CrystalRun, host: Atoms, elements: Collection[str]
) -> tuple[list[GivenStructure], set[str]]:
    """The phases of ``--phases`` within the elements, and the elements that need a reference.

    A crystal of one element is its own reservoir, whatever else the element forms.
    """
    options = run.options
    own = {str(symbol) for symbol in host.symbols}
    own = own if len(own) == 1 else set()
    given = given_phases(options.phases, run.model, run.folder.warn, options.allow_charge_mismatch)
    rivals = [one for one in given if set(one.atoms.symbols) <= set(elements)]
    return [one for one in rivals if set(one.atoms.symbols) != own], set(elements) - own


def _cells(run: CrystalRun, atoms: Atoms) -> list[Atoms]:
    """The supercells, from the smallest; lengths that need the same one share it."""
    options = run.options
    found: dict[int, Atoms] = {}
    for length in sorted({options.min_length, *options.converge}):
        matrix = checked_matrix(atoms, length, options.symprec, options.max_atoms, run.given.label)
        cell = supercell(atoms, matrix)
        found.setdefault(len(cell), cell)
    return [found[n] for n in sorted(found)]


def _potentials(run: CrystalRun, atoms: Atoms, defects: Sequence[PointDefect]) -> list[Potential]:
    """The chemical potentials of what leaves and enters, with references and phases relaxed as needed."""
    options, folder = run.options, run.folder
    formula = reduced_formula(atoms)
    own = {str(symbol) for symbol in atoms.symbols}
    asked = parse_mu(options.mu, own, _added(defects), run.given.label)
    needed = _exchanged(defects)
    (image,) = evaluate_images(run, [atoms])
    host = Phase(formula, "structure", atoms, image.energy)
    elements = own | _added(defects)
    corners = []
    if any(isinstance(asked.get(element, "auto"), str) for element in needed):
        phases = PhaseSet([host, *_competing(run, host, elements)])
        corners = corners_of(host, phases, elements)
        warn_of_molecules(folder, [phases.reference(element) for element in sorted(elements)])
        if len(own) > 1:
            _warn_if_unstable(run, host, phases)
    potentials, remarks = choose_potentials(needed, asked, host, corners)
    for remark in remarks:
        folder.warn(remark)
    return potentials


def _competing(run: CrystalRun, host: Phase, elements: set[str]) -> list[Phase]:
    """References of the elements and the phases of ``--phases``, relaxed."""
    rivals, elements = _reservoirs(run, host.atoms, elements)
    needed = needed_references(elements, [host.atoms, *(one.atoms for one in rivals)])
    limits = Limits.of(run.options)
    references = relaxed_references(run.folder, run.model, needed, limits, lambda one: _tell(run, one))
    return references + [_rival(run, one, number) for number, one in enumerate(rivals)]


def _rival(run: CrystalRun, given: GivenStructure, number: int) -> Phase:
    options = run.options
    place = f"phases/{number:04d}-{reduced_formula(given.atoms)}"
    found = relaxed_phase(
        run.folder,
        place,
        given,
        run.model,
        Limits.of(options),
        "phase",
        "relaxed",
        options.allow_charge_mismatch,
    )
    _tell(run, found)
    return found


def _tell(run: CrystalRun, phase: Phase) -> None:
    run.folder.event("phase", name=phase.name, energy_per_atom_eV=phase.energy_per_atom)


def _one_size(
    run: CrystalRun,
    mu: Mapping[str, float],
    cell: Atoms,
    defects: Sequence[PointDefect],
    before: int,
    total: int,
) -> tuple[list[dict[str, Any]], list[Image]]:
    """Every defect in one supercell; returns the rows, and the bulk and the defects as they ended."""
    options = run.options
    bulk, *unrelaxed = evaluate_images(run, [cell, *(defect.put_into(cell) for defect in defects)])
    ended, rows = [bulk], []
    for number, (defect, image) in enumerate(zip(defects, unrelaxed, strict=True), 1):
        found = None
        if options.relax == "ions":
            place = f"defects/{len(cell)}-atoms-{defect.name}"
            found = relax_kept(
                run.folder,
                place,
                image.atoms,
                run.model,
                Limits.of(options),
                allow_charge_mismatch=options.allow_charge_mismatch,
            )
            if not found.converged:
                run.folder.warn(
                    f"{defect.name} in {len(cell)} atoms did not relax in {options.steps} steps (largest "
                    f"force {found.max_force:.3g} eV/Å): add --steps."
                )
        exchange = sum(dn * mu[element] for element, dn in defect.changes.items())
        rows.append(_row(run, cell, defect, bulk.energy + exchange, image, found))
        ended.append(image if found is None else Image(found.atoms, found.energy))
        run.folder.event("defect", step=before + number, of=total, name=defect.name)
    return rows, [ended[0], *_with_forces(run, ended[1:])]


def _with_forces(run: CrystalRun, images: list[Image]) -> list[Image]:
    """Those that were relaxed, with the forces that are left."""
    return evaluate_images(run, [image.atoms for image in images])


def _row(
    run: CrystalRun,
    cell: Atoms,
    defect: PointDefect,
    zero: float,
    image: Image,
    found: Relaxed | None,
) -> dict[str, Any]:
    """A row of the table; ``zero`` is the energy of the bulk and the reservoirs, eV."""
    relaxed = None if found is None else found.energy - zero
    energy = image.energy - zero if relaxed is None else relaxed
    return {
        "defect": defect.name,
        "site": defect.site.label,
        "element": defect.site.element,
        "wyckoff": defect.site.wyckoff,
        "multiplicity": defect.site.multiplicity,
        "site_symmetry": defect.site.symmetry,
        "n_atoms": len(cell),
        "length_A": face_distance(cell),
        "unrelaxed_formation_energy_eV": image.energy - zero,
        "formation_energy_eV": energy,
        "max_displacement_A": None if found is None else found.max_displacement,
        "relaxation_steps": None if found is None else found.n_steps,
        "concentration": concentration(energy, run.options.temperature),
        "converged": found is None or found.converged,
    }


def _fill(result: PointDefectResult, potentials: list[Potential], options: PointDefectOptions) -> None:
    lowest = min(result.rows, key=lambda row: row["formation_energy_eV"])
    relaxed = lowest["formation_energy_eV"] if options.relax == "ions" else None
    unrelaxed = lowest["unrelaxed_formation_energy_eV"]
    result.take(unrelaxed, relaxed)
    result.defect, result.site = lowest["defect"], lowest["site"]
    result.relaxation_energy = None if relaxed is None else unrelaxed - relaxed
    result.max_displacement = lowest["max_displacement_A"]
    result.concentration, result.temperature = lowest["concentration"], options.temperature
    result.n_defects, result.n_atoms = len(result.rows), lowest["n_atoms"]
    result.length = lowest["length_A"]
    same = [row for row in result.all_rows if row["defect"] == lowest["defect"]]
    if len(same) > 1:
        result.size_change = same[-1]["formation_energy_eV"] - same[-2]["formation_energy_eV"]
    assert result.atoms is not None
    result.formula = reduced_formula(result.atoms)
    result.chemical_potentials = [one.row() for one in potentials]
    result.convention = "; ".join(
        f"mu({one.element}) = {one.value:.4f} eV ({one.convention})" for one in potentials
    )
    result.defects = result.rows


def _write_tables(run: CrystalRun, result: PointDefectResult) -> None:
    """``defects.csv`` of the largest supercell, and the concentrations against temperature."""
    options = run.options
    write_table(run.folder.file("defects.csv"), result.rows)
    count = math.floor(options.max_temperature / options.temperature_step + 1e-9)
    table: list[dict[str, Any]] = [
        {"temperature_K": temperature}
        | {row["defect"]: concentration(row["formation_energy_eV"], temperature) for row in result.rows}
        for temperature in (options.temperature_step * n for n in range(1, count + 1))
    ]
    if table:
        write_table(run.folder.file("concentration.csv"), table)


def _warn_if_unstable(run: CrystalRun, host: Phase, phases: PhaseSet) -> None:
    above, parts = phases.above_hull(host)
    if above > _UNSTABLE:
        run.folder.warn(
            f"{host.name} lies {above:.3f} eV/atom above the hull: it would become "
            f"{', '.join(sorted(parts))}, and the potentials are those of these phases."
        )


def _warn(run: CrystalRun, result: PointDefectResult) -> None:
    if result.size_change is not None and abs(result.size_change) > _NOT_CONVERGED:
        run.folder.warn(
            f"Between the two largest supercells the formation energy of {result.defect} changes by "
            f"{result.size_change:.3f} eV: it is not converged with size."
        )
    negative = [row["defect"] for row in result.rows if row["formation_energy_eV"] < 0]
    if negative:
        run.folder.warn(
            f"The formation energy of {', '.join(negative)} is negative: at these chemical potentials the "
            "crystal is not stable against the defect."
        )

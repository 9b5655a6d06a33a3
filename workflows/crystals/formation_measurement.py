"""The work of ``formation``: references, phases and structures one after another, then the hulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from atomml.data.structures import extxyz_frame
from atomml.errors import AtomMLError
from atomml.files import write_atomic, write_table
from atomml.run import RunFolder
from atomml.workflows.crystals.crystal import Limits
from atomml.workflows.crystals.formation_energy import FormationOptions, FormationResult
from atomml.workflows.crystals.phase_set import (
    Phase,
    PhaseSet,
    composition_of,
    reduced_formula,
    relaxed_phase,
    relaxed_references,
    warn_of_molecules,
)
from atomml.workflows.inputs import GivenModel, GivenStructure

__all__ = ["FormationRun", "hull_rows", "measure", "tie_lines"]

_ON_HULL = 1e-6  # eV/atom, below which a phase counts as on the hull
_DRAWN = (2, 3)  # elements of a system whose hull can be drawn


@dataclass(frozen=True)
class FormationRun:
    """One run: where it writes, what it was given, what it needs.

    Attributes:
        folder: Where it writes.
        given: The structures.
        competing: The phases of ``--phases``.
        elements: Elements that get a reference from the table.
        model: The model.
        options: Checked.
    """

    folder: RunFolder
    given: list[GivenStructure]
    competing: list[GivenStructure]
    elements: list[str]
    model: GivenModel
    options: FormationOptions


def measure(run: FormationRun) -> FormationResult:
    """The whole of a ``formation`` run, but for summary and report."""
    log = _Log(run.folder, len(run.elements) + len(run.competing) + len(run.given))
    references = relaxed_references(run.folder, run.model, run.elements, Limits.of(run.options), log.add)
    competing = [_relaxed(run, one, n, "phase") for n, one in enumerate(run.competing)]
    for rival in competing:
        log.add(rival)
    structures, errors = _structures(run, log)
    done = [one for one in structures if one is not None]
    phases = PhaseSet([*references, *competing, *done])
    lowest = [phases.reference(element) for element in sorted({e for p in phases.phases for e in p.elements})]
    warn_of_molecules(run.folder, lowest)
    result = _result(phases, lowest, structures)
    for given, phase, error in zip(run.given, structures, errors, strict=True):
        result.rows.append(_row(given, phase, error, phases))
    result.n_failed = len(run.given) - len(done)
    result.converged = all(phase.converged for phase in phases.phases) and not result.n_failed
    _fill_from_single(result)
    _write(run, result, phases, done)
    return result


class _Log:
    """``log.csv`` with a row for each energy, and the progress."""

    def __init__(self, folder: RunFolder, total: int) -> None:
        self.folder, self.total = folder, total
        self.rows: list[dict[str, Any]] = []

    def add(self, phase: Phase) -> None:
        """Another energy is known."""
        self.rows.append(
            {
                "step": len(self.rows) + 1,
                "role": phase.role,
                "name": phase.name,
                "formula": phase.formula,
                "n_atoms": len(phase.atoms),
                "energy_per_atom_eV": phase.energy_per_atom,
                "relaxation_steps": phase.n_steps,
                "converged": phase.converged,
            }
        )
        write_table(self.folder.file("log.csv"), self.rows)
        energy = phase.energy_per_atom
        self.folder.event("phase", step=len(self.rows), of=self.total, energy_per_atom_eV=energy)
        if not phase.converged and phase.role != "reference":
            self.folder.warn(f"{phase.name} did not relax in {phase.n_steps} steps: add --steps.")


def _relaxed(run: FormationRun, one: GivenStructure, number: int, role: str) -> Phase:
    stem = one.path.name.split(".")[0] if one.path else one.atoms.get_chemical_formula()
    place = f"{role}s/{number:04d}-{stem}"
    options = run.options
    return relaxed_phase(
        run.folder,
        place,
        one,
        run.model,
        Limits.of(options),
        role,
        options.start,
        options.allow_charge_mismatch,
    )


def _structures(run: FormationRun, log: _Log) -> tuple[list[Phase | None], list[str | None]]:
    """The structures with their energies; of several, one that fails is None and has its sentence.

    Raises:
        AtomMLError: The only one failed.
    """
    found: list[Phase | None] = []
    errors: list[str | None] = []
    for number, one in enumerate(run.given):
        try:
            phase = _relaxed(run, one, number, "structure")
        except AtomMLError as error:
            if len(run.given) == 1:
                raise
            run.folder.warn(f"{one.label} failed: {error}")
            found.append(None)
            errors.append(str(error))
            continue
        found.append(phase)
        errors.append(None)
        log.add(phase)
    return found, errors


def _result(phases: PhaseSet, lowest: list[Phase], structures: Sequence[Phase | None]) -> FormationResult:
    named = ", ".join(phase.name for phase in lowest)
    return FormationResult(
        n_structures=len(structures),
        n_phases=len(phases.phases),
        convention=f"eV per atom, less the elements as the same model relaxes them: {named}",
        references=[
            {
                "element": next(iter(phase.elements)),
                "phase": phase.name,
                "energy_per_atom_eV": phase.energy_per_atom,
                "source": phase.source,
            }
            for phase in lowest
        ],
        phases=phases,
    )


def _row(given: GivenStructure, phase: Phase | None, error: str | None, phases: PhaseSet) -> dict[str, Any]:
    frame = f"@{given.frame}" if given.frame else ""
    row: dict[str, Any] = {
        "input": given.label if given.path is None else f"{given.path}{frame}",
        "formula": reduced_formula(given.atoms),
    }
    numbers: dict[str, Any] = dict.fromkeys(
        (
            "energy_per_atom_eV",
            "formation_energy_per_atom_eV",
            "energy_above_hull_per_atom_eV",
            "stable",
            "decomposition",
            "converged",
        )
    )
    if phase is not None:
        above, parts = phases.above_hull(phase)
        numbers |= {
            "energy_per_atom_eV": phase.energy_per_atom,
            "formation_energy_per_atom_eV": phases.formation_energy(phase),
            "energy_above_hull_per_atom_eV": above,
            "stable": above < _ON_HULL,
            "decomposition": " + ".join(f"{part:.3g} {name}" for name, part in sorted(parts.items())),
            "converged": phase.converged,
        }
    return row | numbers | {"error": error}


def _fill_from_single(result: FormationResult) -> None:
    if len(result.rows) != 1:
        return
    row = result.rows[0]
    result.formula = row["formula"]
    result.energy_per_atom = row["energy_per_atom_eV"]
    result.formation_energy_per_atom = row["formation_energy_per_atom_eV"]
    result.energy_above_hull_per_atom = row["energy_above_hull_per_atom_eV"]
    result.stable, result.decomposition = row["stable"], row["decomposition"]


def _write(run: FormationRun, result: FormationResult, phases: PhaseSet, done: Sequence[Phase]) -> None:
    write_table(run.folder.file("results.csv"), result.rows)
    systems = {phase.elements for phase in done}
    rows = [row for system in sorted(systems, key=sorted) for row in hull_rows(phases, system)]
    if rows:
        write_table(run.folder.file("hull.csv"), rows)
    lines = [line for system in sorted(systems, key=sorted) for line in tie_lines(phases, system)]
    if lines:
        write_table(run.folder.file("tie_lines.csv"), lines)
    frames = [extxyz_frame(phase.atoms, {"energy": phase.energy}) for phase in done]
    write_atomic(run.folder.file("structures.extxyz"), "".join(frames))


def hull_rows(phases: PhaseSet, system: frozenset[str]) -> list[dict[str, Any]]:
    """The hull of a system of two or three elements: where each phase lies, and how far above it.

    ``fraction_2`` and ``fraction_3`` are the parts of the atoms that are of the second and of the third
    element in alphabetical order.
    """
    if len(system) not in _DRAWN:
        return []
    elements = sorted(system)
    rows = []
    for phase in phases.within(system):
        counts = composition_of(phase.atoms)
        parts = [counts.get(element, 0) / len(phase.atoms) for element in elements]
        above = phases.above_hull(phase)[0]  # of its own elements: a face of the system's hull
        rows.append(
            {
                "system": "-".join(elements),
                "role": phase.role,
                "phase": phase.name,
                "formula": phase.formula,
                "fraction_2": parts[1],
                "fraction_3": parts[2] if len(parts) > 2 else None,
                "formation_energy_per_atom_eV": phases.formation_energy(phase),
                "energy_above_hull_per_atom_eV": above,
                "stable": above < _ON_HULL,
            }
        )
    return sorted(rows, key=lambda row: (row["fraction_2"], row["fraction_3"] or 0.0))


def tie_lines(phases: PhaseSet, system: frozenset[str]) -> list[dict[str, Any]]:
    """Edges of the hull of a ternary system, by the compositions of their ends as in :func:`hull_rows`."""
    if len(system) != 3:
        return []
    elements = sorted(system)
    diagram = phases.diagram(system)
    corners = [
        [float(entry.composition.get_atomic_fraction(element)) for element in elements[1:]]
        for entry in diagram.qhull_entries
    ]
    edges = {tuple(sorted(pair)) for facet in diagram.facets for pair in combinations(map(int, facet), 2)}
    return [
        {
            "system": "-".join(elements),
            "from_2": corners[a][0],
            "from_3": corners[a][1],
            "to_2": corners[b][0],
            "to_3": corners[b][1],
        }
        for a, b in sorted(edges)
    ]

"""What a worker does with a group of crystals: energies with and without each unique site, in batches.

Neighbours are searched once for a supercell: the graph of a vacancy is that of the whole cell less the
edges of one atom. The energy of the whole supercell is that of the crystal's own cell times how often
it holds it. Without relaxation the model runs forwards only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.config import build_options
from atomml.data.symmetry import UniqueSite, unique_sites
from atomml.errors import AtomMLError
from atomml.run import plain
from atomml.workflows.batch_memory import MemoryLimit
from atomml.workflows.crystals.crystal import check_crystal
from atomml.workflows.defects.defect_cells import (
    PointDefect,
    checked_matrix,
    face_distance,
    supercell,
    vacancies,
)
from atomml.workflows.defects.vacancy_survey import VacancySurveyOptions
from atomml.workflows.inputs import GivenModel, GivenStructure, check_covered

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.graph import AtomGraph
    from atomml.workflows.relaxing.relaxation import RelaxOptions

__all__ = ["Crystal", "as_plain", "site_columns", "survey"]

_MOST_TOGETHER = 64  # structures of one batch


@dataclass
class Crystal:
    """One crystal of a group, and what is found of it.

    Attributes:
        given: As it came.
        atoms: As it is measured: relaxed if that was asked for.
        defects: A vacancy on each unique site of the elements that are taken away.
        cell: The supercell without a vacancy.
        copies: How many times the supercell holds the crystal's cell.
        energy: Of ``atoms``, eV.
        removal: E(defect) - E(perfect) of each vacancy, unrelaxed, eV.
        ended: What relaxing each vacancy added to its row.
        structures: The vacancies as they ended; empty where nothing was relaxed.
        errors: Why a vacancy has no energy.
        warnings: What a reader of its rows should know.
        error: Why there is nothing of the whole crystal.
        answer: What :func:`survey` returns of it.
    """

    given: GivenStructure
    atoms: Atoms
    defects: list[PointDefect] = field(default_factory=list)
    cell: Atoms | None = None
    copies: int = 1
    energy: float = float("nan")
    removal: list[float] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)
    structures: list[Atoms] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    def fail(self, error: Exception, number: int | None = None) -> None:
        """Keep what went wrong with the crystal, or with one vacancy of it, as one sentence."""
        text = " ".join(str(error).split())
        text = text if isinstance(error, AtomMLError) else f"{type(error).__name__}: {text}"
        if number is None:
            self.error = self.error or text
        else:
            self.errors[number] = self.errors[number] or text


@dataclass
class _Asked:
    """An energy that is wanted: of a crystal's own cell, or of its supercell with one vacancy."""

    crystal: Crystal
    number: int | None
    graph: AtomGraph | None

    @property
    def size(self) -> int:
        """Edges, and some for each structure."""
        return 1 if self.graph is None else self.graph.n_edges + 10

    def take(self, energy: float) -> None:
        """Keep the energy, eV, of the crystal or of removing the atom."""
        if self.number is None:
            self.crystal.energy = energy
        else:
            self.crystal.removal[self.number] = energy - self.crystal.copies * self.crystal.energy

    def atoms(self) -> Atoms:
        """The crystal, or its supercell with the defect."""
        if self.number is None:
            return self.crystal.atoms
        assert self.crystal.cell is not None
        return self.crystal.defects[self.number].put_into(self.crystal.cell)


def survey(
    model: GivenModel, settings: Mapping[str, Any], structures: Sequence[GivenStructure]
) -> list[tuple[dict[str, Any] | None, str | None]]:
    """Vacancies of a group of crystals.

    Args:
        model: The model.
        settings: Fields of :class:`VacancySurveyOptions`, ``mu`` left out.
        structures: The crystals.

    Returns:
        For each crystal a mapping and None, or None and why it failed, in their order. The mapping holds
        ``energy_per_atom_eV``, the ``crystal`` as it was measured, and for each vacancy the equivalent
        atoms in ``sites``, its row in ``rows`` and, if it was relaxed, its supercell in ``structures``. Rows
        have ``removal_energy_eV`` and ``relaxed_removal_energy_eV``, without any chemical potential.
    """
    options = build_options(VacancySurveyOptions, dict(settings))
    group = [Crystal(given, _plain_copy(given.atoms)) for given in structures]
    _each(group, lambda one: _check(one, model, options))
    if options.start == "relaxed":
        _relax_crystals(group, model, options)
    if options.regressor is not None:
        from atomml.workflows.defects.site_regression import predict_sites

        return predict_sites(options.regressor, model, options, group)
    _each(group, lambda one: _lay_out(one, options))
    _ask_energies(group, model)
    if options.relaxed:
        _relax_vacancies(group, model, options)
    return [_answer(one) for one in group]


def _plain_copy(atoms: Atoms) -> Atoms:
    """The structure, its charge and spin, and nothing else: constraints and labels have no place here."""
    from ase import Atoms as NewAtoms

    known = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
    return NewAtoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=known)


def _each(group: Sequence[Crystal], do: Callable[[Crystal], None]) -> None:
    """What an error of one crystal ends is that crystal."""
    for one in group:
        if one.error is None:
            try:
                do(one)
            except Exception as error:  # whatever a library says of one structure, the next one goes on
                one.fail(error)


def _check(one: Crystal, model: GivenModel, options: VacancySurveyOptions) -> None:
    check_crystal(one.given)
    check_covered(one.given, model, one.warnings.append, options.allow_charge_mismatch)


def _relax_crystals(group: Sequence[Crystal], model: GivenModel, options: VacancySurveyOptions) -> None:
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    able = [one for one in group if one.error is None]
    try:
        model.need_stress("the relaxation of the cell")
    except AtomMLError as error:
        for one in able:
            one.fail(error)
        return
    started = [GivenStructure(one.atoms, one.given.label) for one in able]
    for ended in relax_batched(started, model, options=_relaxation(options, "free")):
        one, found = able[ended.index], ended.result
        if found is None:
            one.error = ended.error
            continue
        one.atoms = found.atoms
        if not found.converged:
            one.warnings.append(f"The crystal did not relax in {options.steps} steps.")


def _relaxation(options: VacancySurveyOptions, cell: str) -> RelaxOptions:
    """Of a crystal with its cell, or of the ions around a vacancy; charges were checked before."""
    from atomml.workflows.relaxing.relaxation import RelaxOptions

    return RelaxOptions(
        cell=cell, fmax=options.fmax, smax=options.smax, steps=options.steps, allow_charge_mismatch=True
    )


def _lay_out(one: Crystal, options: VacancySurveyOptions) -> None:
    """Sites, supercell, and a vacancy on each site."""
    label = one.given.label
    sites = unique_sites(one.atoms, options.symprec)
    present = {site.element for site in sites}
    wanted = present & set(options.element) if options.element else present
    if not wanted:  # of a thousand crystals some have none of it: they have no row
        return
    one.defects = vacancies(sites, wanted, label)
    matrix = checked_matrix(one.atoms, options.min_length, options.symprec, options.max_atoms, label)
    one.cell = supercell(one.atoms, matrix)
    one.copies = len(one.cell) // len(one.atoms)
    one.removal = [float("nan")] * len(one.defects)
    one.errors = [None] * len(one.defects)


def _ask_energies(group: Sequence[Crystal], model: GivenModel) -> None:
    limit = MemoryLimit.of(model)

    def ask(batch: list[_Asked]) -> None:
        """The energies of a batch, to those who asked."""
        for one, energy in zip(batch, _energies(batch, model), strict=True):
            one.take(energy)

    def fail(one: _Asked, error: Exception) -> None:
        """Note why there is no energy."""
        one.crystal.fail(error, one.number)

    for batch in _cut(limit.parts(_wanted(group, model), _size)):
        able = [one for one in batch if one.crystal.error is None]
        if able:
            limit.call(ask, able, _size, fail)


def _size(one: _Asked) -> int:
    return one.size


def _cut(parts: Iterator[list[_Asked]]) -> Iterator[list[_Asked]]:
    """No more than so many at once, and never none."""
    for part in parts:
        for first in range(0, len(part), _MOST_TOGETHER):
            yield part[first : first + _MOST_TOGETHER]


def _wanted(group: Sequence[Crystal], model: GivenModel) -> Iterator[_Asked]:
    """Every energy that is wanted; a crystal's own comes before those of its vacancies."""
    from atomml.graph import GraphBuilder
    from atomml.graph.removal import without_atom

    potential = model.potential
    build = None
    if potential is not None:
        build = GraphBuilder.for_model(potential, angles=potential.fast_path() is None)
    for one in group:
        if one.error is not None or one.cell is None:
            continue
        whole = None
        try:
            own = None if build is None else build(one.atoms, one.given.label)
            whole = None if build is None else build(one.cell, one.given.label)
        except AtomMLError as error:
            one.fail(error)
            continue
        yield _Asked(one, None, own)
        for number, defect in enumerate(one.defects):
            yield _Asked(one, number, None if whole is None else without_atom(whole, defect.site.atoms[0]))


def _energies(batch: Sequence[_Asked], model: GivenModel) -> list[float]:
    """eV; of one of our models in one call, forwards only."""
    potential = model.potential
    if potential is None:
        calculator = model.calculator()
        found = []
        for one in batch:
            atoms = one.atoms().copy()
            atoms.calc = calculator
            found.append(float(atoms.get_potential_energy()))
        return found
    from atomml.graph import collate

    graphs = [one.graph for one in batch if one.graph is not None]
    energies: list[float] = potential.predict(collate(graphs), forces=False, stress=False).energy.tolist()
    return energies


def _relax_vacancies(group: Sequence[Crystal], model: GivenModel, options: VacancySurveyOptions) -> None:
    """The ions around every vacancy of the group, together, at fixed cell."""
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    able = [one for one in group if one.error is None]
    places = [(one, number) for one in able for number in range(len(one.defects))]
    for one in able:
        one.ended = [{} for _ in one.defects]
        one.structures = [one.atoms] * len(one.defects)
    waiting = (
        GivenStructure(
            _Asked(one, number, None).atoms(), f"{one.given.label} with {one.defects[number].name}"
        )
        for one, number in places
    )
    for ended in relax_batched(waiting, model, options=_relaxation(options, "none")):
        one, number = places[ended.index]
        found = ended.result
        if found is None:
            one.errors[number] = one.errors[number] or ended.error
            continue
        one.structures[number] = found.atoms
        one.ended[number] = {
            "relaxed_removal_energy_eV": found.energy - one.copies * one.energy,
            "max_displacement_A": found.max_displacement,
            "relaxation_steps": found.n_steps,
            "converged": found.converged,
        }


def _answer(one: Crystal) -> tuple[dict[str, Any] | None, str | None]:
    if one.error is not None:
        return None, one.error
    rows = []
    for number, defect in enumerate(one.defects):
        assert one.cell is not None
        row = site_columns(defect.site) | {
            "supercell_atoms": len(one.cell),
            "length_A": face_distance(one.cell),
            "removal_energy_eV": one.removal[number],
        }
        row |= one.ended[number] if one.ended else {"converged": True}
        rows.append(row | {"error": one.errors[number]})
    one.answer = {
        "energy_per_atom_eV": None if one.cell is None else one.energy / len(one.atoms),
        "crystal": as_plain(one.atoms),
        "sites": [list(defect.site.atoms) for defect in one.defects],
        "rows": rows,
        "structures": [as_plain(atoms) for atoms in one.structures],
        "warnings": " ".join(one.warnings),
    }
    return plain(one.answer), None


def site_columns(site: UniqueSite) -> dict[str, Any]:
    """The columns that say which site a row is of; ``atom`` counts from 0 in the crystal as it was given."""
    return {
        "site": site.label,
        "element": site.element,
        "atom": site.atoms[0],
        "wyckoff": site.wyckoff,
        "multiplicity": site.multiplicity,
        "site_symmetry": site.symmetry,
    }


def as_plain(atoms: Atoms) -> dict[str, Any]:
    """A structure as JSON holds it: what :func:`atomml.workflows.screens.screening_work.atoms_of` reads."""
    return {
        "numbers": np.asarray(atoms.numbers),
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
    }

"""What a worker of ``ligand-strain`` does: ligands, whose poses and conformers share batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import KCAL_PER_MOL
from atomml.errors import AtomMLError, RunFailedError
from atomml.run import plain
from atomml.workflows.inputs import GivenModel, GivenStructure
from atomml.workflows.ligands.ligand_chemistry import (
    Ligand,
    angles_of,
    best_overlay,
    ligand_of,
    shift_of,
    turned,
)
from atomml.workflows.ligands.ligand_conformers import find_conformers, guessed_hessian, number_of_conformers
from atomml.workflows.ligands.ligand_final import committee_spread, refined_strains
from atomml.workflows.ligands.ligand_pool import Minimum, Pool, boltzmann_mean
from atomml.workflows.ligands.pose_strain import LigandStrainOptions
from atomml.workflows.relaxing.quasi_newton import StiffFirst
from atomml.workflows.relaxing.relaxation_batched import Relaxed, relax_batched
from atomml.workflows.work_sharing import loaded_once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Answer", "LigandOrder", "LigandTask", "PoseOrder", "work"]

Answer = tuple[dict[str, Any] | None, str | None]
_SHOWN_TORSIONS = 3
_STIFF_STEPS = 60  # some ten are enough where the Hessian of the force field is near the model's


@dataclass(frozen=True)
class LigandTask:
    """What is done to every ligand of a run.

    Attributes:
        options: Of the run.
        model: Name of the model, or the model itself where the work stays in one process.
        calculator: Keyword arguments for ``ase:MODULE:CLASS``.
        dtype: Precision of a model that is loaded.
        device: Device of a model that is loaded.
        seed: Of the conformer search.
    """

    options: LigandStrainOptions
    model: str | GivenModel
    calculator: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "auto"
    seed: int = 0

    def loaded(self) -> GivenModel:
        """The model, loaded at the first call in a process."""
        return loaded_once(self.model, self.calculator, self.dtype, self.device)


@dataclass(frozen=True)
class PoseOrder:
    """One pose of a ligand, its atoms in the ligand's order.

    Attributes:
        positions: ``(n_atoms, 3)`` Å.
        places: For each atom of the ligand, its number in the file, from 0.
    """

    positions: Array
    places: tuple[int, ...]


@dataclass(frozen=True)
class LigandOrder:
    """A ligand and its poses."""

    task: LigandTask
    smiles: str
    poses: tuple[PoseOrder, ...]


@dataclass
class _Bound:
    """A pose under way: its relaxation, or why it has none."""

    order: PoseOrder
    relaxed: Relaxed | None = None
    problem: str | None = None
    """What made it another molecule on its way."""

    @property
    def error(self) -> str | None:
        """Why there is no bound geometry."""
        return self.relaxed.error if self.relaxed is not None else "It was not relaxed."

    @property
    def converged(self) -> bool:
        """Whether the criterion was reached."""
        return self.relaxed is not None and self.relaxed.result is not None and self.relaxed.result.converged

    @property
    def geometry(self) -> tuple[Array, float]:
        """Positions, and energy in eV."""
        assert self.relaxed is not None
        assert self.relaxed.result is not None
        return self.relaxed.result.atoms.positions, self.relaxed.result.energy


@dataclass
class _Case:
    """A ligand under way."""

    order: LigandOrder
    ligand: Ligand
    bound: list[_Bound]
    pool: Pool | None = None
    error: str | None = None


def work(orders: Sequence[LigandOrder]) -> list[Answer]:
    """Do the orders, all of one task; an answer for each, in their order.

    An answer has a record for each pose: ``row``, the relaxed pose and the minimum in the ligand's order of
    atoms, torsions and the convergence; or ``error``.
    """
    task = orders[0].task
    model = task.loaded()
    cases = [_Case(one, ligand_of(one.smiles), [_Bound(pose) for pose in one.poses]) for one in orders]
    _relax_bound(cases, model, task.options)
    _relax_pool(cases, model, task)
    answers: list[Answer] = []
    for case in cases:
        try:
            answers.append(_answer(case, model, task.options))
        except AtomMLError as error:
            answers.append((None, str(error)))
    return answers


def _relax_bound(cases: list[_Case], model: GivenModel, options: LigandStrainOptions) -> None:
    """Every pose to the loose criterion; stiff coordinates give way and torsions hardly move."""
    bound = [(case, one) for case in cases for one in case.bound]
    given = [GivenStructure(case.ligand.atoms(one.order.positions), "the ligand") for case, one in bound]
    shared: dict[str, Any] = {
        "fmax": options.bound_fmax,
        "allow_charge_mismatch": options.allow_charge_mismatch,
    }
    first = min(options.steps, _STIFF_STEPS)
    guided: dict[str, Any] = {"guess": guessed_hessian(), "guided": StiffFirst, "steps": first}
    for ended in relax_batched(given, model, **shared, **guided):
        bound[ended.index][1].relaxed = ended
    left = [n for n, (_, one) in enumerate(bound) if one.error is None and not one.converged]
    by_bfgs: dict[str, Any] = {
        "optimizer": "bfgs",
        "steps": options.steps,
    }  # anharmonic beyond what the Hessian says
    for ended in relax_batched([given[n] for n in left], model, **shared, **by_bfgs):
        bound[left[ended.index]][1].relaxed = ended


def _relax_pool(cases: list[_Case], model: GivenModel, task: LigandTask) -> None:
    """Conformers of every ligand, and its poses, to the tight criterion, all of them in shared batches."""
    options = task.options
    starts: list[tuple[_Case, int, Array]] = []
    for case in cases:
        good = [one for one in case.bound if one.error is None]
        if not good:
            continue
        try:
            count = options.conformers or number_of_conformers(case.ligand)
            found = find_conformers(case.ligand, count, options.searches, task.seed)
        except RunFailedError as error:
            case.error = str(error)
            continue
        for one in good:
            one.problem = case.ligand.problem(one.geometry[0])
        sound = [one.geometry for one in good if one.problem is None]
        case.pool = Pool(case.ligand, found, poses=sound)
        starts += [(case, kind, x) for kind, x in enumerate(found.geometries)]
        starts += [(case, -1, x) for x, _ in sound]
    given = [GivenStructure(case.ligand.atoms(x), "a conformer") for case, _, x in starts]
    for ended in relax_batched(
        given,
        model,
        fmax=options.fmax,
        steps=options.steps,
        guess=guessed_hessian(),
        allow_charge_mismatch=options.allow_charge_mismatch,
    ):
        _join(*starts[ended.index][:2], ended)


def _join(case: _Case, kind: int, ended: Relaxed) -> None:
    """Take a minimum into its ligand's pool, or note why not."""
    pool = case.pool
    assert pool is not None
    if ended.result is None:
        pool.lost.append(str(ended.error))
        return
    problem = case.ligand.problem(ended.result.atoms.positions)
    if problem is None and not ended.result.converged:
        problem = "it did not converge"
    if problem is not None:
        pool.lost.append(problem)
        return
    pool.minima.append(Minimum(ended.result.atoms.positions, ended.result.energy, kind))


def _answer(case: _Case, model: GivenModel, options: LigandStrainOptions) -> Answer:
    """Records of the poses of a ligand."""
    if case.error is not None:
        return None, case.error
    good = [one for one in case.bound if one.error is None]
    if case.pool is None or not good:
        return {"poses": [{"error": one.error} for one in case.bound]}, None
    if not case.pool.minima:
        reason = max(set(case.pool.lost), key=case.pool.lost.count)
        lost = f"No geometry came to an unbound minimum ({reason.rstrip('.')})"
        return None, f"{lost}: the strain has no reference."
    shared = _of_ligand(case.pool, options)
    lowest = [_lowest(case.pool, one) for one in good]
    pairs = [
        (case.ligand.atoms(one.geometry[0]), case.ligand.atoms(minimum))
        for one, (minimum, _) in zip(good, lowest, strict=True)
    ]
    spreads = committee_spread(pairs, model)
    refined = refined_strains(pairs, options)
    records = iter(
        _record(case, one, unbound, shared, spread, better, options)
        for one, unbound, spread, better in zip(good, lowest, spreads, refined, strict=True)
    )
    return {
        "poses": [next(records) if one.error is None else {"error": one.error} for one in case.bound]
    }, None


def _lowest(pool: Pool, bound: _Bound) -> tuple[Array, float]:
    """The unbound minimum of a pose; one that is no longer the same molecule may lie below all that are."""
    known = [pool.lowest(), *([bound.geometry] if bound.problem is not None else [])]
    return min(known, key=lambda pair: pair[1])


def _of_ligand(pool: Pool, options: LigandStrainOptions) -> dict[str, Any]:
    """What all poses of a ligand have in common."""
    counts, references = pool.by_number()
    energies, searches = pool.distinct_energies(), pool.of_searches()
    finite = searches[np.isfinite(searches)]
    return {
        "mean": boltzmann_mean(energies, options.temperature) if len(energies) else pool.lowest()[1],
        "n_conformers": len(pool.conformers.kind_of),
        "n_minima": len(energies),
        "counts": counts,
        "references": references,
        "gain": pool.gain(),
        "missed": pool.missed(),
        "searches_std": float(finite.std(ddof=1)) / KCAL_PER_MOL if len(finite) > 1 else None,
        "lost": len(pool.lost),
        "universal": pool.conformers.universal,
    }


def _record(
    case: _Case,
    bound: _Bound,
    unbound: tuple[Array, float],
    shared: dict[str, Any],
    spread: float | None,
    refined: tuple[float | None, str | None],
    options: LigandStrainOptions,
) -> dict[str, Any]:
    """The record of one pose."""
    ligand, (positions, energy), (minimum, lowest) = case.ligand, bound.geometry, unbound
    laid, rmsd, pairs = best_overlay(ligand, minimum, positions)
    torsions = _torsion_rows(ligand, bound, positions, laid, pairs)
    notes = _notes(ligand, bound, shared, options)
    assert bound.relaxed is not None
    assert bound.relaxed.result is not None
    row = {
        "smiles": ligand.smiles,
        "charge": ligand.charge,
        "n_heavy_atoms": len(ligand.heavy),
        "n_rotatable": ligand.n_rotatable,
        "strain_kcal_per_mol": (energy - lowest) / KCAL_PER_MOL,
        "strain_boltzmann_kcal_per_mol": (energy - shared["mean"]) / KCAL_PER_MOL,
        "strain_refined_kcal_per_mol": refined[0],
        "strain_committee_std_kcal_per_mol": spread,
        "strain_searches_std_kcal_per_mol": shared["searches_std"],
        "search_gain_kcal_per_mol": shared["gain"],
        "search_converged": max(shared["gain"], shared["missed"]) < options.tolerance,
        "left_basin": notes[0] is not None,
        "pose_shift_A": shift_of(ligand, bound.order.positions, positions),
        "minimum_rmsd_A": rmsd,
        "torsions": "; ".join(
            f"{name} {change:.0f}°" for name, _, _, _, change in torsions[:_SHOWN_TORSIONS]
        ),
        "n_conformers": shared["n_conformers"],
        "n_minima": shared["n_minima"],
        "energy_bound_eV": energy,
        "energy_minimum_eV": lowest,
        "converged": bound.relaxed.result.converged,
        "note": " ".join(note for note in (*notes, refined[1]) if note) or None,
    }
    curve = [(energy - reference) / KCAL_PER_MOL for reference in shared["references"]]
    return plain(
        {
            "row": row,
            "same_molecule": bound.problem is None,
            "bound": positions,
            "minimum": laid,
            "torsions": torsions,
            "convergence": list(zip(shared["counts"], curve, strict=True)),
        }
    )


def _torsion_rows(
    ligand: Ligand, bound: _Bound, positions: Array, minimum: Array, pairs: dict[int, int]
) -> list[tuple[str, float, float, float, float]]:
    """Atoms (numbered as in the file, from 1), angles given, in relaxed pose and minimum, and the change."""
    there = tuple(tuple(pairs.get(atom, atom) for atom in torsion) for torsion in ligand.all_torsions)
    given = angles_of(ligand.all_torsions, bound.order.positions)
    relaxed = angles_of(ligand.all_torsions, positions)
    unbound = angles_of(there, minimum)  # type: ignore[arg-type]
    change = turned(relaxed, unbound)
    symbols = [atom.GetSymbol() for atom in ligand.molecule.GetAtoms()]
    names = [
        "-".join(f"{symbols[atom]}{bound.order.places[atom] + 1}" for atom in torsion)
        for torsion in ligand.all_torsions
    ]
    rows = zip(names, given.tolist(), relaxed.tolist(), unbound.tolist(), change.tolist(), strict=True)
    return sorted(rows, key=lambda row: -row[4])


def _notes(
    ligand: Ligand, bound: _Bound, shared: dict[str, Any], options: LigandStrainOptions
) -> list[str | None]:
    """Why the pose is no longer what it was; then what else a reader should know."""
    positions = bound.geometry[0]
    turn = turned(
        angles_of(ligand.all_torsions, bound.order.positions), angles_of(ligand.all_torsions, positions)
    )
    left = None
    if bound.problem is not None:
        left = f"The pose is not the same molecule after its relaxation: {bound.problem}."
    elif len(turn) and turn.max() > options.basin:
        left = f"The pose has left its basin: a torsion has turned by {turn.max():.0f}°."
    gain, missed, lost = shared["gain"], shared["missed"], shared["lost"]
    return [
        left,
        f"More conformers may raise the strain: the second half has by {gain:.1f} kcal/mol."
        if gain >= options.tolerance
        else None,
        f"The search missed a minimum that a pose leads to, by {missed:.1f} kcal/mol: more conformers may "
        "raise the strain."
        if missed >= options.tolerance and np.isfinite(missed)
        else None,
        None if np.isfinite(missed) else "No conformer of the search came to a minimum.",
        f"{lost} minimisations were left out." if lost else None,
        "Conformers are UFF's: MMFF94s has no parameters for the ligand." if shared["universal"] else None,
    ]

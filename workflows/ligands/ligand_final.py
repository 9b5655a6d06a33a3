"""The final pair, pose and minimum, looked at again: by each model of a committee, and by another method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import KCAL_PER_MOL
from atomml.errors import AtomMLError
from atomml.workflows.inputs import GivenModel, GivenStructure
from atomml.workflows.relaxing.quasi_newton import QuasiNewton, StiffFirst

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.workflows.ligands.pose_strain import LigandStrainOptions

__all__ = ["committee_spread", "energy_of", "refined_strains"]

Pair = tuple["Atoms", "Atoms"]


def committee_spread(pairs: Sequence[Pair], model: GivenModel) -> list[float | None]:
    """Standard deviation (kcal/mol, divided by n - 1) of the strain among a committee's models, by pair."""
    members = getattr(model.potential, "members", ())
    if not members:
        return [None] * len(pairs)
    energies = []
    for member in members:
        one = GivenModel(member.info.name, potential=member)
        energies.append([_energy_by_model(atoms, one) for pair in pairs for atoms in pair])
    strains = np.array(energies)[:, 0::2] - np.array(energies)[:, 1::2]
    return [float(value) / KCAL_PER_MOL for value in strains.std(axis=0, ddof=1)]


def refined_strains(
    pairs: Sequence[Pair], options: LigandStrainOptions
) -> list[tuple[float | None, str | None]]:
    """Strain (kcal/mol) by the method of ``refine``, or None and why there is none."""
    if options.refine is None:
        return [(None, None)] * len(pairs)
    known: dict[bytes, float] = {}
    found: list[tuple[float | None, str | None]] = []
    for bound, minimum in pairs:
        try:
            if options.refine_relax:
                bound = _relaxed(bound, options, options.bound_fmax, StiffFirst)
                minimum = _relaxed(minimum, options, options.fmax, QuasiNewton)
            energies = []
            for atoms in (bound, minimum):
                key = atoms.positions.tobytes()
                if key not in known:
                    known[key] = energy_of(atoms, options.refine)
                energies.append(known[key])
            found.append(((energies[0] - energies[1]) / KCAL_PER_MOL, None))
        except AtomMLError as error:
            found.append((None, f"{options.refine}: {error}"))
    return found


def energy_of(atoms: Atoms, method: str) -> float:
    """Energy in eV by a method of the labelling engine; density functionals with density fitting, no forces.

    Raises:
        InputError: No such method, or what it cannot compute.
        LabelError: It did not converge.
    """
    from atomml.data.label import LabelSettings, engine_of

    functional, slash, basis = method.strip().lower().partition("/")
    if not slash or functional == "mp2":
        engine = engine_of(method)
        engine.check(atoms, "the ligand")
        energy = engine.label(atoms).labels.energy
        assert energy is not None
        return float(energy)
    from ase.units import Hartree

    from atomml.electronic.mean_field import MeanFieldLevel, quiet

    level = MeanFieldLevel(functional, basis, LabelSettings(density_fit=True, conv_tol=1e-7), method)
    level.check(atoms, "the ligand")
    with quiet():
        field, _ = level.converge(level.mean_field(atoms))
    return float(field.e_tot) * Hartree


def _energy_by_model(atoms: Atoms, model: GivenModel) -> float:
    from atomml.workflows.predicting.prediction_batches import BatchEvaluator
    from atomml.workflows.predicting.prediction_items import Item

    evaluator = BatchEvaluator(model)
    item = Item("", 0, GivenStructure(atoms, "ligand"))
    evaluator.prepare(item)
    evaluator.evaluate([item])
    assert item.results is not None
    return float(item.results["energy"])


def _relaxed(
    atoms: Atoms, options: LigandStrainOptions, fmax: float, guided: type[QuasiNewton | StiffFirst]
) -> Atoms:
    """A geometry relaxed by the method, from the force field's Hessian.

    Raises:
        AtomMLError: It failed.
    """
    from atomml.data.label import LabelSettings, engine_of
    from atomml.data.label_calculator import LabelCalculator
    from atomml.errors import RunFailedError
    from atomml.workflows.ligands.ligand_conformers import guessed_hessian
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    assert options.refine is not None
    engine = engine_of(options.refine, LabelSettings(density_fit="/" in options.refine))
    model = GivenModel(options.refine, foreign=LabelCalculator(engine))
    limits: dict[str, Any] = {"fmax": fmax, "steps": options.steps}
    (ended,) = relax_batched([atoms], model, guess=guessed_hessian(), guided=guided, **limits)
    if ended.result is None:
        raise RunFailedError(str(ended.error))
    if not ended.result.converged:
        raise RunFailedError(f"the relaxation did not converge in {options.steps} steps")
    return ended.result.atoms

"""What ``atomml dft train`` lowers: errors of energies, dipoles and densities, self-interaction, unrest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from atomml.electronic import functional_losses as losses
from atomml.electronic.functional_losses import Loss
from atomml.errors import OptionError
from atomml.units import KCAL_PER_HARTREE
from atomml.workflows.electronic.functional_fields import Fields

if TYPE_CHECKING:
    from atomml.electronic.reactions import Reaction, ReactionSet
    from atomml.workflows.electronic.functional_training import FunctionalTrainOptions

__all__ = ["Term", "terms_of"]

_STRONGEST = 5.0
"""kcal/mol: an error beyond it pulls no harder (Huber)."""


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    Attributes:
        compute: From the fields of the species to value and slope; None where an SCF does not converge.
        is_reaction: Whether the value is the error of a reaction energy, kcal/mol.
    """

    compute: Callable[[Fields], Loss | None]
    is_reaction: bool = False

    def __call__(self, fields: Fields) -> Loss | None:
        """Value and slope with the present weights."""
        return self.compute(fields)


def terms_of(given: ReactionSet, options: FunctionalTrainOptions) -> list[Term]:
    """The terms of a set: reactions, dipoles, densities, and what the options ask of its species."""
    found = [Term(partial(_reaction, reaction), is_reaction=True) for reaction in given.reactions]
    if options.dipole_weight:
        found += [
            Term(partial(_dipole, name, moment, options.dipole_weight))
            for name, moment in given.dipoles.items()
        ]
    if options.density_weight:
        _check_densities(given, options.basis)
        found += [
            Term(partial(_density, name, dm, options.density_weight)) for name, dm in given.densities.items()
        ]
    if options.self_interaction_weight:
        one = [name for name, species in given.species.items() if species.n_electrons == 1]
        found += [Term(partial(_self_interaction, name, options.self_interaction_weight)) for name in one]
    if options.convergence_weight:
        found += [Term(_Unrest(name, options.convergence_weight)) for name in given.species]
    return found


def _check_densities(given: ReactionSet, basis: str) -> None:
    """Refuse density matrices that are not over the orbitals of the training.

    Raises:
        OptionError: Names the basis set, or the species.
    """
    from atomml.electronic.mean_field import MeanFieldLevel
    from atomml.electronic.scf_settings import ScfSettings

    if given.density_basis and given.density_basis != basis.lower():
        raise OptionError(
            f"The density matrices are in {given.density_basis} and the training in {basis}: pass --basis "
            f"{given.density_basis}, or --density-weight 0."
        )
    level = MeanFieldLevel("hf", basis.lower(), ScfSettings())
    for name, dm in given.densities.items():
        molecule = level.molecule(given.species[name].atoms)
        n, electrons, shape = molecule.nao, molecule.nelectron, np.shape(dm)
        overlap = molecule.intor_symmetric("int1e_ovlp")
        if shape != (n, n) or abs(float((dm * overlap).sum()) - electrons) > 1e-3:
            raise OptionError(
                f"The density matrix of {name} is not of its {electrons} electrons in the {n} "
                f"orbitals of {basis}: make it anew with dft label --density."
            )


def _reaction(reaction: Reaction, fields: Fields) -> Loss | None:
    """Error of a reaction energy in kcal/mol, and the slope of its Huber loss."""
    found: dict[str, Any] = {name: fields(name) for name in reaction.species}
    if any(one is None for one in found.values()):
        return None
    total = sum(c * float(found[name].e_tot) for name, c in reaction.species.items())
    error = KCAL_PER_HARTREE * (total - reaction.energy)
    pull = reaction.weight * max(-_STRONGEST, min(error, _STRONGEST)) * KCAL_PER_HARTREE
    parts = [(c, fields.slopes(name)) for name, c in reaction.species.items()]
    slopes = [pull * sum(c * part[k] for c, part in parts) for k in range(len(parts[0][1]))]
    return Loss(error, slopes)  # type: ignore[arg-type]


def _scaled(loss: Loss, factor: float) -> Loss:
    slopes: list[Tensor] = [factor * slope for slope in loss.slopes]
    return Loss(factor * loss.value, slopes)


def _dipole(name: str, moment: np.ndarray, weight: float, fields: Fields) -> Loss | None:
    field = fields(name)
    return None if field is None else _scaled(losses.dipole_loss(field, moment), 0.5 * weight)


def _density(name: str, dm: np.ndarray, weight: float, fields: Fields) -> Loss | None:
    field = fields(name)
    return None if field is None else _scaled(losses.density_loss(field, dm), 0.5 * 1e3 * weight)


def _self_interaction(name: str, weight: float, fields: Fields) -> Loss | None:
    field = fields(name)
    return (
        None
        if field is None
        else _scaled(losses.self_interaction_loss(field), 0.5 * weight * KCAL_PER_HARTREE**2)
    )


class _Unrest:
    """The energy that an SCF would still gain, to second order, at PBE's density."""

    def __init__(self, name: str, weight: float) -> None:
        self.name, self.weight = name, weight
        self.density: np.ndarray | None = None

    def __call__(self, fields: Fields) -> Loss | None:
        """Value and slope; the first call computes the density, the same in every run."""
        from atomml.potentials.xc.closed_forms import closed_form

        if self.density is None:
            first = Fields(closed_form("pbe"), fields.species, fields.options)(self.name)
            if first is None:
                return None
            self.density = np.asarray(first.make_rdm1())
        start = fields.level.mean_field(fields.species[self.name].atoms)
        return _scaled(losses.convergence_loss(start, self.density), self.weight * KCAL_PER_HARTREE)

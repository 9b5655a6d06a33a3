"""Self-consistent energies of many species by one functional, and the errors of reactions made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atomml.electronic.scf_settings import ScfSettings, scf_settings
from atomml.options import option
from atomml.units import KCAL_PER_HARTREE

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atomml.electronic.functional import Functional
    from atomml.electronic.reactions import Reaction, Species

__all__ = ["Fields", "SelfConsistent", "errors_of", "mean_error", "reaction_row"]


@dataclass(frozen=True)
class SelfConsistent(ScfSettings):
    """Options of whatever converges many species."""

    basis: str = option("def2-svp", "basis set, as PySCF names it")


class Fields:
    """Converges species by a functional, each from its last density.

    Nothing but the densities is remembered, and within :meth:`held` what has converged.

    Args:
        functional: The functional.
        species: By name.
        options: Basis, grid and convergence.
    """

    def __init__(
        self, functional: Functional, species: Mapping[str, Species], options: SelfConsistent
    ) -> None:
        from atomml.electronic.mean_field import MeanFieldLevel

        self.level = MeanFieldLevel(functional, options.basis.lower(), scf_settings(options))
        self.species, self.options = species, options
        self.densities: dict[str, np.ndarray[Any, Any]] = {}
        self.failed: set[str] = set()
        self._held: dict[str, Any | None] | None = None
        self._slopes: dict[str, list[Tensor]] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """A time in which the functional does not change: no species converges twice."""
        self._held = {}
        try:
            yield
        finally:
            self._held, self._slopes = None, {}

    def slopes(self, name: str) -> list[Tensor]:
        """Gradient of a converged species' energy in the weights, Hartree.

        Raises:
            RunFailedError: Its SCF does not converge.
        """
        from atomml.electronic.functional_gradients import energy_gradient
        from atomml.errors import RunFailedError

        if name in self._slopes:
            return self._slopes[name]
        field = self(name)
        if field is None:
            raise RunFailedError(f"The SCF of {name} does not converge: it has no slope.")
        found = energy_gradient(field)
        if self._held is not None:
            self._slopes[name] = found
        return found

    def __call__(self, name: str) -> Any | None:
        """The converged field of a species; None where the SCF does not converge."""
        if self._held is None:
            return self._converged(name)
        if name not in self._held:
            self._held[name] = self._converged(name)
        return self._held[name]

    def _converged(self, name: str) -> Any | None:
        import numpy as np

        from atomml.electronic.mean_field import quiet
        from atomml.errors import LabelError

        with quiet():
            start = self.level.mean_field(self.species[name].atoms)
            try:
                found, _ = self.level.converge(start, self.densities.get(name))
            except LabelError:
                self.failed.add(name)
                self.densities.pop(name, None)
                return None
        self.failed.discard(name)
        self.densities[name] = np.asarray(found.make_rdm1())
        return found


def errors_of(fields: Fields, reactions: Sequence[Reaction]) -> list[float | None]:
    """Error of each reaction energy, kcal/mol; None where a species does not converge."""
    energies: dict[str, float | None] = {}
    for reaction in reactions:
        for name in reaction.species:
            if name not in energies:
                found = fields(name)
                energies[name] = None if found is None else float(found.e_tot)
    errors: list[float | None] = []
    for reaction in reactions:
        parts = [(coefficient, energies[name]) for name, coefficient in reaction.species.items()]
        if any(energy is None for _, energy in parts):
            errors.append(None)
            continue
        total = sum(coefficient * (energy or 0.0) for coefficient, energy in parts)
        errors.append(KCAL_PER_HARTREE * (total - reaction.energy))
    return errors


def reaction_row(reaction: Reaction, error: float | None) -> dict[str, Any]:
    """A line of a table of reactions."""
    reference = KCAL_PER_HARTREE * reaction.energy
    return {
        "reaction": reaction.name,
        "reference_kcal_per_mol": reference,
        "error_kcal_per_mol": error,
    }


def mean_error(errors: Sequence[float | None]) -> float | None:
    """Mean absolute error of those that there are."""
    known = [abs(error) for error in errors if error is not None]
    return sum(known) / len(known) if known else None

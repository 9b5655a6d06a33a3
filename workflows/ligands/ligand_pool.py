"""The unbound side of a ligand: its minima, the reference that follows, how far the search has converged."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import lgamma
from typing import TYPE_CHECKING

import numpy as np

from atomml.data.force_fields import KCAL_PER_MOL
from atomml.workflows.ligands.ligand_conformers import Conformers, distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atomml.workflows.ligands.ligand_chemistry import Ligand

    Array = NDArray[np.float64]

__all__ = ["Minimum", "Pool", "boltzmann_mean", "expected_lowest"]

_BOLTZMANN = 8.314462618e-3 / 4.184  # kcal/mol/K; CODATA 2018
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Minimum:
    """A geometry that the model has minimised.

    Attributes:
        positions: ``(n_atoms, 3)`` Å.
        energy: eV.
        kind: Which distinct conformer it came from; -1 for a pose.
    """

    positions: Array
    energy: float
    kind: int


@dataclass
class Pool:
    """All geometries that a pose's energy is compared with.

    Attributes:
        ligand: The ligand.
        conformers: Where the search started.
        minima: What the model made of conformers and poses.
        poses: Geometry and energy (eV) of each bound pose that is still the ligand; they join as they are.
        lost: Reasons why conformers were left out.
    """

    ligand: Ligand
    conformers: Conformers
    minima: list[Minimum] = field(default_factory=list)
    poses: list[tuple[Array, float]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def lowest(self) -> tuple[Array, float]:
        """The geometry of lowest energy and that energy, eV; a bound pose may be it."""
        all_of_them = [(one.positions, one.energy) for one in self.minima] + self.poses
        return min(all_of_them, key=lambda pair: pair[1])

    def distinct_energies(self) -> Array:
        """Energies of the distinct minima, eV, lowest first."""
        ordered = sorted(self.minima, key=lambda one: one.energy)
        kept, _ = distinct(self.ligand, [(one.positions, one.energy / KCAL_PER_MOL) for one in ordered])
        return np.array([ordered[k].energy for k in kept])

    def reached(self) -> Array:
        """``(n_conformers,)`` eV, where each conformer that was embedded has led; infinite where nowhere."""
        of_kind = {one.kind: one.energy for one in self.minima if one.kind >= 0}
        return np.array([of_kind.get(kind, np.inf) for kind in self.conformers.kind_of])

    def floor(self) -> float:
        """The lowest energy that the poses alone give, eV; the highest that is known where there is none."""
        own = [one.energy for one in self.minima if one.kind < 0] + [energy for _, energy in self.poses]
        return min(own) if own else max(one.energy for one in self.minima)

    def by_number(self) -> tuple[list[int], list[float]]:
        """Numbers of conformers, and the reference (eV) that so many of them give on average."""
        reached = np.minimum(self.reached(), self.floor())
        total = len(reached)
        counts = sorted({*(k for k in _COUNTS if k < total), max(1, total // 2), total})
        return counts, [expected_lowest(reached, k) for k in counts]

    def gain(self) -> float:
        """How much the second half of the conformers lowers the reference, on average, kcal/mol."""
        reached = np.minimum(self.reached(), self.floor())
        half = expected_lowest(reached, max(1, len(reached) // 2))
        return (half - float(reached.min())) / KCAL_PER_MOL

    def missed(self) -> float:
        """How far above the lowest minimum of a pose the search has stayed, kcal/mol; infinite if nowhere."""
        return max(0.0, (float(self.reached().min()) - self.floor()) / KCAL_PER_MOL)

    def of_searches(self) -> Array:
        """``(n_searches,)`` eV, the reference that each search gives by itself."""
        reached, searches = self.reached(), np.array(self.conformers.search_of)
        lowest = [reached[searches == search].min() for search in np.unique(searches)]
        return np.minimum(np.array(lowest), self.floor())


def expected_lowest(energies: Array, count: int) -> float:
    """The mean, over all ways to choose ``count`` of the energies, of the lowest chosen one.

    The ``j``-th lowest of n (from 0) is it in C(n-1-j, count-1) of C(n, count) ways.
    """
    ordered = np.sort(energies)
    total = len(ordered)
    weights = np.zeros(total)
    for place in range(total - count + 1):
        ways = _log_choose(total - 1 - place, count - 1) - _log_choose(total, count)
        weights[place] = np.exp(ways)
    return float(ordered[0] + weights @ (ordered - ordered[0]))


def boltzmann_mean(energies: Array, temperature: float) -> float:
    """Mean energy (eV) of minima at a temperature (K), each with the same entropy."""
    above = (energies - energies.min()) / KCAL_PER_MOL
    weights = np.exp(-above / (_BOLTZMANN * temperature))
    return float(energies.min() + weights @ (energies - energies.min()) / weights.sum())


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)

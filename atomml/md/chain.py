"""Nosé-Hoover chains, integrated by the Suzuki-Yoshida factorisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp

import numpy as np

from atomml.md.state import Array

__all__ = ["NoseHooverChain"]

# Yoshida, Phys. Lett. A 150, 262 (1990), eq. 2.11: fourth order by w1, 1 - 2 w1, w1.
_W1 = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_WEIGHTS = (_W1, 1.0 - 2.0 * _W1, _W1)


@dataclass
class NoseHooverChain:
    """A chain of thermostats on one kinetic energy.

    Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87, 1117 (1996), section 4.4. The
    positions of the thermostats enter only through ``work``, which is kept as the sum of
    what was exchanged, so that the conserved quantity holds under a temperature ramp too.

    Attributes:
        masses: ``(length,)`` thermostat masses, eV times ASE time squared.
        n_dof: Degrees of freedom that the chain's first link thermostats.
        velocities: ``(length,)`` thermostat velocities, inverse ASE time.
        work: eV, the sum of ``n_dof kT v_1 dt + kT sum_{j>1} v_j dt``.
    """

    masses: tuple[float, ...]
    n_dof: int
    velocities: list[float] = field(default_factory=list)
    work: float = 0.0

    def __post_init__(self) -> None:
        """A chain at rest, where no velocities are given."""
        if not self.velocities:
            self.velocities = [0.0] * len(self.masses)

    @classmethod
    def with_time_constant(cls, n_dof: int, kT: float, tau: float, length: int = 3) -> NoseHooverChain:
        """``Q_1 = n_dof kT tau²``, ``Q_j = kT tau²`` (same paper, eq. 2.2), ``tau`` in ASE time units."""
        return cls((n_dof * kT * tau**2,) + (kT * tau**2,) * (length - 1), n_dof)

    def advance(self, kinetic_energy: float, kT: float, interval: float) -> float:
        """Move the chain by ``interval``; returns the factor by which the thermostatted momenta shrink."""
        twice = 2.0 * kinetic_energy
        scale = 1.0
        for weight in _WEIGHTS:
            factor = self._substep(twice, kT, weight * interval)
            twice *= factor * factor
            scale *= factor
        return scale

    def energy(self) -> float:
        """The chain's part of the conserved quantity, eV."""
        kinetic = sum(q * v * v for q, v in zip(self.masses, self.velocities, strict=True))
        return 0.5 * kinetic + self.work

    def as_array(self) -> Array:
        """``(length + 1,)``: velocities, then the work."""
        return np.array([*self.velocities, self.work])

    def load_array(self, values: Array) -> None:
        """The inverse of :meth:`as_array`."""
        numbers = [float(value) for value in values]
        self.velocities, self.work = numbers[:-1], numbers[-1]

    def _substep(self, twice_kinetic: float, kT: float, interval: float) -> float:
        """One factor of the propagator: links from the far end inwards, the scaling, and back out."""
        velocities, last = self.velocities, len(self.masses) - 1
        for link in range(last, -1, -1):
            self._kick(link, twice_kinetic, kT, interval)
        factor = exp(-interval * velocities[0])
        self.work += kT * interval * (self.n_dof * velocities[0] + sum(velocities[1:]))
        twice_kinetic *= factor * factor
        for link in range(last + 1):
            self._kick(link, twice_kinetic, kT, interval)
        return factor

    def _kick(self, link: int, twice_kinetic: float, kT: float, interval: float) -> None:
        velocities, masses = self.velocities, self.masses
        if link == 0:
            force = twice_kinetic - self.n_dof * kT
        else:
            force = masses[link - 1] * velocities[link - 1] ** 2 - kT
        drag = 1.0
        if link + 1 < len(masses):
            drag = exp(-0.25 * interval * velocities[link + 1])
        velocities[link] = (velocities[link] * drag + 0.5 * interval * force / masses[link]) * drag

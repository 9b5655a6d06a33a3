"""The integrators: each moves a :class:`System` by one step and knows all of its own state.

Every number that decides the next step is in :meth:`Integrator.arrays`, the system, or
the random generator, so that a run can be written down and taken up again to the bit.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, sqrt
from typing import ClassVar

import numpy as np

from atomml.md.chain import NoseHooverChain
from atomml.md.state import Array, System

__all__ = ["NVE", "Bussi", "Conditions", "Integrator", "Langevin", "NoseHoover"]

Evaluate = Callable[[System], None]


@dataclass(frozen=True)
class Conditions:
    """What holds during one step.

    Attributes:
        timestep: ASE time units.
        thermal_energy: Target temperature times Boltzmann's constant, eV.
        pressure: Target pressure, eV/Å³.
    """

    timestep: float
    thermal_energy: float
    pressure: float = 0.0


class Integrator(abc.ABC):
    """One ensemble's equations of motion.

    Attributes:
        needs_stress: Whether every force evaluation must bring the stress.
        conserves_momenta: Whether linear and angular momentum are constants of the motion.
    """

    needs_stress: ClassVar[bool] = False
    conserves_momenta: ClassVar[bool] = True

    @abc.abstractmethod
    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """Move ``system``, whose forces are those of its positions, by one time step."""

    def bath_energy(self, system: System, pressure: float) -> float:
        """What to add to the total energy to get the conserved quantity, eV."""
        return 0.0

    def arrays(self) -> dict[str, Array]:
        """The integrator's own state."""
        return {}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        return


def velocity_verlet(system: System, evaluate: Evaluate, timestep: float) -> None:
    """Kick, drift, kick (Swope et al., J. Chem. Phys. 76, 637 (1982))."""
    half = 0.5 * timestep
    system.momenta = system.momenta + half * system.force_array
    system.positions = system.positions + timestep * system.momenta / system.masses
    evaluate(system)
    system.momenta = system.momenta + half * system.force_array


class NVE(Integrator):
    """Constant energy: velocity Verlet. Conserved: the total energy."""

    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """One step of velocity Verlet."""
        velocity_verlet(system, evaluate, conditions.timestep)


class _Stochastic(Integrator):
    """Keeps the sum of the heat that the noise has brought, so that an effective energy is conserved."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._heat = 0.0

    def bath_energy(self, system: System, pressure: float) -> float:
        """Minus the heat taken from the bath (Bussi and Parrinello, Phys. Rev. E 75, 056707 (2007))."""
        return -self._heat

    def arrays(self) -> dict[str, Array]:
        """The heat exchanged; the generator's state is saved by its owner."""
        return {"heat": np.array([self._heat])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._heat = float(arrays["heat"][0])


class Langevin(_Stochastic):
    """Constant temperature by friction and noise, split as BAOAB.

    Leimkuhler and Matthews, Appl. Math. Res. eXpress 2013, 34; positions of a harmonic
    solid are sampled without an error in the time step. Where the centre of mass is kept
    at rest the noise is projected, which samples the distribution on what is left exactly.

    Args:
        friction: Inverse ASE time units.
        generator: Source of the noise.
    """

    conserves_momenta = False

    def __init__(self, friction: float, generator: np.random.Generator) -> None:
        super().__init__(generator)
        self._friction = friction

    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """One step: half kick, half drift, friction and noise, half drift, half kick."""
        half = 0.5 * conditions.timestep
        system.momenta = system.momenta + half * system.force_array
        system.positions = system.positions + half * system.momenta / system.masses
        before = system.kinetic_energy()
        system.momenta = self._exchange(system, conditions)
        self._heat += system.kinetic_energy() - before
        system.positions = system.positions + half * system.momenta / system.masses
        evaluate(system)
        system.momenta = system.momenta + half * system.force_array

    def _exchange(self, system: System, conditions: Conditions) -> Array:
        kept = exp(-self._friction * conditions.timestep)
        noise = self._generator.standard_normal(system.momenta.shape)
        noise = system.project(np.sqrt(system.masses * conditions.thermal_energy) * noise)
        return kept * system.momenta + sqrt(1.0 - kept * kept) * noise


class Bussi(_Stochastic):
    """Constant temperature by stochastic velocity rescaling.

    Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7, with the
    sign of the scaling factor of eq. A8. Diffusion is hardly disturbed.

    Args:
        time_constant: ASE time units.
        generator: Source of the noise.
    """

    def __init__(self, time_constant: float, generator: np.random.Generator) -> None:
        super().__init__(generator)
        self._time_constant = time_constant

    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """One step of velocity Verlet, then the rescaling."""
        velocity_verlet(system, evaluate, conditions.timestep)
        kinetic = system.kinetic_energy()
        normal = float(self._generator.standard_normal())
        # sum of n_dof - 1 squared normals; a gamma of shape 0 is 0
        others = 2.0 * float(self._generator.standard_gamma(0.5 * (system.n_dof - 1)))
        if kinetic == 0.0:  # nothing to scale: the first forces must move the atoms first
            return
        kept = exp(-conditions.timestep / self._time_constant)
        ratio = (1.0 - kept) * 0.5 * conditions.thermal_energy / kinetic
        root = sqrt(kept / ratio) if ratio > 0 else np.inf
        squared = kept + ratio * (others + normal * normal) + 2.0 * normal * sqrt(kept * ratio)
        scale = sqrt(max(squared, 0.0)) * (1.0 if normal + root >= 0 else -1.0)
        system.momenta = system.momenta * scale
        self._heat += system.kinetic_energy() - kinetic


class NoseHoover(Integrator):
    """Constant temperature by a Nosé-Hoover chain; deterministic.

    Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87, 1117 (1996).

    Args:
        chain: The thermostat.
    """

    def __init__(self, chain: NoseHooverChain) -> None:
        self._chain = chain

    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """Half of the chain, velocity Verlet, the other half."""
        self._thermostat(system, conditions)
        velocity_verlet(system, evaluate, conditions.timestep)
        self._thermostat(system, conditions)

    def bath_energy(self, system: System, pressure: float) -> float:
        """Kinetic energy and work of the chain."""
        return self._chain.energy()

    def arrays(self) -> dict[str, Array]:
        """Velocities and work of the chain."""
        return {"thermostat": self._chain.as_array()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._chain.load_array(arrays["thermostat"])

    def _thermostat(self, system: System, conditions: Conditions) -> None:
        half = 0.5 * conditions.timestep
        system.momenta = system.momenta * self._chain.advance(
            system.kinetic_energy(), conditions.thermal_energy, half
        )

"""Constant pressure: the equations of Martyna, Tobias and Klein, with chains on atoms and cell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atomml.md.chain import NoseHooverChain
from atomml.md.ensembles import Conditions, Evaluate, Integrator
from atomml.md.state import Array, System

__all__ = ["MTK"]


class MTK(Integrator):
    """Constant pressure and temperature with a cell that changes isotropically or in full.

    Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994); the measure-preserving
    splitting is that of Tuckerman et al., J. Phys. A 39, 5629 (2006). The cell's rate
    ``v_g`` (inverse ASE time) is symmetric, so that the cell never rotates and carries six
    degrees of freedom (one if isotropic)::

        dr/dt = p/m + v_g r            dp/dt = F - v_g p - tr(v_g)/n_dof p
        dh/dt = v_g h (h columns)      W dv_g/dt = V (P_int - P) + (2K/n_dof) I

    The work done against the target pressure is summed as it is done, so that the conserved
    quantity holds under a pressure ramp too.

    Args:
        particles: Chain on the atoms.
        barostat: Chain on the cell.
        mass: ``W`` of the full cell, eV times ASE time squared; ``(n_dof + 3) kT tau² / 3``.
        isotropic: Whether the cell keeps its shape.
    """

    needs_stress = True

    def __init__(
        self, particles: NoseHooverChain, barostat: NoseHooverChain, mass: float, isotropic: bool
    ) -> None:
        self._particles = particles
        self._barostat = barostat
        self._mass = mass
        self._isotropic = isotropic
        self._rate: Array = np.zeros((3, 3))
        self._work: float | None = None

    @classmethod
    def with_time_constants(
        cls, n_dof: int, kT: float, thermostat_time: float, barostat_time: float, *, isotropic: bool
    ) -> MTK:
        """Masses from time constants in ASE units (Mol. Phys. 87, 1117 (1996), eq. 2.9 f.).

        The cell of a crystal, which is stiff, swings some twenty times faster than
        ``barostat_time`` says; the cell's chain has the thermostat's time constant, which is
        nearer to that, because a chain far off resonance hardly thermostats.
        """
        return cls(
            NoseHooverChain.with_time_constant(n_dof, kT, thermostat_time),
            NoseHooverChain.with_time_constant(1 if isotropic else 6, kT, thermostat_time),
            (n_dof + 3) * kT * barostat_time**2 / 3.0,
            isotropic,
        )

    def step(self, system: System, evaluate: Evaluate, conditions: Conditions) -> None:
        """One step of the symmetric factorisation."""
        half = 0.5 * conditions.timestep
        if self._work is None:
            self._work = conditions.pressure * system.volume
        self._thermostats(system, conditions.thermal_energy, half)
        self._kick_cell(system, conditions.pressure, half)
        self._kick(system, half)
        before = system.volume
        self._drift(system, conditions.timestep)
        self._work += conditions.pressure * (system.volume - before)
        evaluate(system)
        self._kick(system, half)
        self._kick_cell(system, conditions.pressure, half)
        self._thermostats(system, conditions.thermal_energy, half, cell_first=False)

    def bath_energy(self, system: System, pressure: float) -> float:
        """Both chains, the cell's kinetic energy and the work against the target pressure."""
        work = pressure * system.volume if self._work is None else self._work
        return self._particles.energy() + self._barostat.energy() + self._cell_kinetic_energy() + work

    def arrays(self) -> dict[str, Array]:
        """Chains, cell rate and work."""
        return {
            "thermostat": self._particles.as_array(),
            "barostat": self._barostat.as_array(),
            "cell_rate": self._rate.copy(),
            "pressure_work": np.array([np.nan if self._work is None else self._work]),
        }

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._particles.load_array(arrays["thermostat"])
        self._barostat.load_array(arrays["barostat"])
        self._rate = np.array(arrays["cell_rate"])
        work = float(arrays["pressure_work"][0])
        self._work = None if np.isnan(work) else work

    def _cell_kinetic_energy(self) -> float:
        return 0.5 * self._mass * float((self._rate * self._rate).sum())

    def _thermostats(self, system: System, kT: float, half: float, *, cell_first: bool = True) -> None:
        for cell in (cell_first, not cell_first):
            if cell:
                self._rate = self._rate * self._barostat.advance(self._cell_kinetic_energy(), kT, half)
            else:
                system.momenta = system.momenta * self._particles.advance(system.kinetic_energy(), kT, half)

    def _kick_cell(self, system: System, pressure: float, interval: float) -> None:
        push = system.volume * (system.pressure_tensor() - pressure * np.eye(3))
        push = push + 2.0 * system.kinetic_energy() / system.n_dof * np.eye(3)
        if self._isotropic:
            push = np.trace(push) / 3.0 * np.eye(3)
        self._rate = self._rate + interval * push / self._mass

    def _kick(self, system: System, interval: float) -> None:
        drag = self._rate + np.trace(self._rate) / system.n_dof * np.eye(3)
        shrink, gain = _exponentials(drag, -interval)
        system.momenta = system.momenta @ shrink + interval * system.force_array @ gain

    def _drift(self, system: System, interval: float) -> None:
        stretch, gain = _exponentials(self._rate, interval)
        system.positions = system.positions @ stretch + interval * (system.momenta / system.masses) @ gain
        system.cell = system.cell @ stretch


def _exponentials(rate: Array, interval: float) -> tuple[Array, Array]:
    """``exp(A t)`` and ``(exp(A t) - 1) / (A t)`` of a symmetric 3x3 matrix ``A``."""
    values, vectors = np.linalg.eigh(rate)
    x = values * interval
    safe = np.where(x == 0.0, 1.0, x)
    ratio = np.where(x == 0.0, 1.0, np.expm1(safe) / safe)
    return (vectors * np.exp(x)) @ vectors.T, (vectors * ratio) @ vectors.T

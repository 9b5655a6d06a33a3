"""Potentials with closed answers for the laws of dynamics, and what runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from atomml.md.ensembles import Conditions, Integrator
from atomml.md.state import System


class Springs(Calculator):
    """Each atom on a spring to a site that moves with the cell, and a cell on springs of its own.

    ``U = sum_i k_i |u_i|²/2 + C V0 |F - 1|²/2`` with ``u_i`` the displacement from the site and
    ``F = h0⁻¹ h`` the deformation. All averages are Gaussian integrals: ``<k u²/2> = kT/2`` per
    component, and volume and displacements are independent.

    With ``quartic`` each spring is stiffer the farther it is stretched (``q |u|⁴/4`` more), which
    mixes phases: a single run is then ergodic. The displacements' integral still does not
    depend on the cell, so the distribution of the volume stays as it is.

    Args:
        sites: The structure at rest.
        constants: ``(n,)`` eV/Å².
        stiffness: ``C``, eV/Å³.
        quartic: ``q``, eV/Å⁴.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(
        self, sites: Atoms, constants: np.ndarray, stiffness: float = 0.0, quartic: float = 0.0
    ) -> None:
        super().__init__()
        self.fractional = sites.get_scaled_positions(wrap=False)
        self.inverse0 = np.linalg.inv(sites.cell.array)
        self.constants = constants[:, None]
        self.stiffness = stiffness * sites.cell.volume
        self.quartic = quartic

    def answer(self, positions: np.ndarray, cell: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy, forces and stress (3, 3)."""
        moved = positions - self.fractional @ cell
        deformation = self.inverse0 @ cell
        excess = deformation - np.eye(3)
        squared = (moved * moved).sum(axis=1)[:, None]
        pulled = (self.constants + self.quartic * squared) * moved
        virial = pulled.T @ moved + self.stiffness * deformation.T @ excess
        springs = 0.5 * self.constants * squared + 0.25 * self.quartic * squared**2
        energy = float(springs.sum()) + 0.5 * self.stiffness * float((excess**2).sum())
        return energy, -pulled, 0.5 * (virial + virial.T) / abs(np.linalg.det(cell))

    def evaluate(self, system: System) -> None:
        """The same without ASE in between, for long runs."""
        system.energy, forces, system.stress = self.answer(system.positions, system.cell)
        system.forces = system.project(forces)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces, stress = self.answer(self.atoms.positions, self.atoms.cell.array)
        self.results = {"energy": energy, "forces": forces, "stress": stress.flat[[0, 4, 8, 5, 2, 1]]}


@pytest.fixture
def solid() -> Callable[..., tuple[Atoms, Springs]]:
    """A salt of light and heavy atoms on springs: no two kinds vibrate alike.

    Frequencies: k = 5 to 10 eV/Å² over 23 and 35 amu: ω = sqrt(k/m) = 0.38 to 0.66 in inverse ASE
    time units, periods of 97 to 170 fs.
    """

    def make(stiffness: float = 0.0, quartic: float = 0.0) -> tuple[Atoms, Springs]:
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((2, 1, 1))
        constants = np.linspace(5.0, 10.0, len(atoms))
        return atoms, Springs(atoms, constants, stiffness, quartic)

    return make


@pytest.fixture
def argon() -> Callable[..., tuple[Atoms, Any]]:
    """Solid argon and its Lennard-Jones model: pairs, translation invariance, a real neighbour list."""

    def make(repeats: int = 2) -> tuple[Atoms, Any]:
        from atomml.calculator import AtomMLCalculator
        from atomml.potentials.lennard_jones import argon as model

        atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((repeats, repeats, repeats))
        return atoms, AtomMLCalculator(model().double())

    return make


Trace = dict[str, np.ndarray]


@pytest.fixture
def trace() -> Callable[..., Trace]:
    """Run an integrator by itself and return energies, temperatures, pressures, volumes by step."""

    def run(
        system: System,
        integrator: Integrator,
        evaluate: Callable[[System], None],
        conditions: Conditions,
        n_steps: int,
        measure: Callable[[System], float] | None = None,
    ) -> Trace:
        evaluate(system)
        rows = []
        for _ in range(n_steps):
            integrator.step(system, evaluate, conditions)
            total = system.energy + system.kinetic_energy()
            pressure = float(np.trace(system.pressure_tensor())) / 3.0
            conserved = total + integrator.bath_energy(system, conditions.pressure)
            extra = measure(system) if measure else 0.0
            rows.append((system.temperature(), system.energy, conserved, pressure, system.volume, extra))
        names = ("temperature", "potential", "conserved", "pressure", "volume", "extra")
        return dict(zip(names, np.array(rows).T, strict=True))

    return run


@pytest.fixture
def conditions() -> Callable[..., Conditions]:
    """Conditions from fs, K and eV/Å³."""

    def make(timestep_fs: float, temperature: float = 300.0, pressure: float = 0.0) -> Conditions:
        return Conditions(timestep_fs * units.fs, temperature * units.kB, pressure)

    return make

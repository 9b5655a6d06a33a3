"""Dynamics knows no direction of space, no numbering of atoms and, without a bath, no direction of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms

from atomml.md.schedule import Ramp
from atomml.md.settings import MDSettings, build_integrator
from atomml.md.state import System
from atomml.md.velocities import degrees_of_freedom, maxwell_boltzmann

DETERMINISTIC = ("nve", "nvt-nhc", "npt-mtk")
STEPS = 60


def turn() -> np.ndarray[Any, Any]:
    """A proper rotation about no axis of the cell, for row vectors."""
    matrix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def phase_point(solid: Any) -> tuple[Atoms, Any, System]:
    """The salt on springs in a skewed cell, in motion."""
    atoms, springs = solid(stiffness=0.5, quartic=2.0)
    atoms.set_cell(atoms.cell.array @ [[1, 0.05, 0.02], [0, 1.03, -0.04], [0, 0, 0.96]], scale_atoms=True)
    system = System.from_atoms(atoms)
    system.n_dof = degrees_of_freedom(system, drift_removed=False, rotation_removed=False)
    maxwell_boltzmann(system, 400.0, np.random.default_rng(2))
    return atoms, springs, system


def moved(system: System, springs: Any, ensemble: str, conditions: Any, steps: int = STEPS) -> System:
    """After some steps of 2 fs at 300 K and 0.02 eV/Å³, far from where it began."""
    settings = MDSettings(
        ensemble=ensemble,
        n_steps=1,
        temperature=Ramp(300.0, 300.0),
        thermostat_time_fs=60,
        barostat_time_fs=150,
    )
    integrator = build_integrator(settings, system.n_dof, np.random.default_rng(0))
    springs.evaluate(system)
    for _ in range(steps):
        integrator.step(system, springs.evaluate, conditions(2.0, 300.0, 0.02))
    return system


def remade(atoms: Atoms, springs: Any, order: Any = slice(None)) -> Any:
    """The springs of other sites: those of the structure, its atoms in another order perhaps."""
    return type(springs)(atoms, springs.constants[order, 0], 0.5, springs.quartic)


@pytest.mark.parametrize("ensemble", DETERMINISTIC)
def test_a_rotated_run_is_the_run_rotated(ensemble: str, solid: Any, conditions: Any) -> None:
    """The cell too; rounding of 60 steps stays below 1e-9 of what moves by some Å."""
    atoms, _, system = phase_point(solid)
    rest, springs = solid(stiffness=0.5, quartic=2.0)
    rotation = turn()
    other_rest = rest.copy()
    other_rest.set_cell(rest.cell.array @ rotation, scale_atoms=True)
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ rotation, scale_atoms=True)
    twin = System.from_atoms(other)
    twin.n_dof, twin.momenta = system.n_dof, system.momenta @ rotation
    before = system.cell.copy()
    one = moved(system, springs, ensemble, conditions)
    two = moved(twin, remade(other_rest, springs), ensemble, conditions)
    np.testing.assert_allclose(two.positions, one.positions @ rotation, atol=1e-9)
    np.testing.assert_allclose(two.momenta, one.momenta @ rotation, atol=1e-9)
    np.testing.assert_allclose(two.cell, one.cell @ rotation, atol=1e-9)
    assert (np.abs(one.cell - before).max() > 1e-3) == ensemble.startswith("npt")


@pytest.mark.parametrize("ensemble", DETERMINISTIC)
def test_atoms_in_another_order_do_the_same(ensemble: str, solid: Any, conditions: Any) -> None:
    atoms, springs, system = phase_point(solid)
    order = np.random.default_rng(1).permutation(len(atoms))
    rest = solid()[0][order]
    twin = System.from_atoms(atoms[order])
    twin.n_dof, twin.momenta = system.n_dof, system.momenta[order]
    one = moved(system, springs, ensemble, conditions)
    two = moved(twin, remade(rest, springs, order), ensemble, conditions)
    np.testing.assert_allclose(two.positions, one.positions[order], atol=1e-9)
    np.testing.assert_allclose(two.cell, one.cell, atol=1e-9)


def test_reversed_momenta_lead_back(solid: Any, conditions: Any) -> None:
    """Velocity Verlet is reversible: only rounding is left of 200 steps there and 200 back."""
    _, springs, system = phase_point(solid)
    first, momenta = system.positions.copy(), system.momenta.copy()
    there = moved(system, springs, "nve", conditions, 200)
    assert np.abs(there.positions - first).max() > 0.05
    there.momenta = -there.momenta
    back = moved(there, springs, "nve", conditions, 200)
    np.testing.assert_allclose(back.positions, first, atol=1e-9)
    np.testing.assert_allclose(back.momenta, -momenta, atol=1e-9)

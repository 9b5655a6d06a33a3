"""Initial velocities, and how many degrees of freedom carry them."""

from __future__ import annotations

import numpy as np
from ase import units

from atomml.md.state import Array, System

__all__ = ["degrees_of_freedom", "maxwell_boltzmann", "remove_rotation", "rotation_axes"]


def degrees_of_freedom(system: System, *, drift_removed: bool, rotation_removed: bool) -> int:
    """Kinetic degrees of freedom: mobile components, less what is conserved at zero.

    Args:
        system: Particles and what is held.
        drift_removed: Whether the total momentum stays zero (3 less).
        rotation_removed: Whether the angular momentum stays zero too (3 less, 2 for a
            linear molecule, none for one atom).
    """
    count = int(system.mobile.sum())
    if drift_removed:
        count -= 3
    if rotation_removed:
        count -= len(rotation_axes(system))
    return max(count, 1)


def rotation_axes(system: System) -> Array:
    """``(n_axes, 3)`` principal axes about which the atoms have a moment of inertia."""
    moments, axes = np.linalg.eigh(_inertia(system))
    # a linear molecule's smallest moment is rounding noise of the others
    kept: Array = axes.T[moments > 1e-8 * max(float(moments.max()), 1e-300)]
    return kept


def maxwell_boltzmann(system: System, temperature: float, generator: np.random.Generator) -> None:
    """Draw momenta at ``temperature`` (K), without drift where the system keeps none.

    Not scaled to the exact temperature: the kinetic energy of the canonical ensemble
    fluctuates. At 0 K the momenta are zero.
    """
    noise = generator.standard_normal(system.positions.shape)
    system.momenta = system.project(np.sqrt(system.masses * units.kB * temperature) * noise)


def remove_rotation(system: System) -> None:
    """Take the angular momentum about the centre of mass out of the momenta."""
    arms = _arms(system)
    angular = np.cross(arms, system.momenta).sum(axis=0)
    moments, axes = np.linalg.eigh(_inertia(system))
    turning = moments > 1e-8 * max(float(moments.max()), 1e-300)
    rates = np.where(turning, axes.T @ angular / np.where(turning, moments, 1.0), 0.0)
    system.momenta = system.momenta - system.masses * np.cross(axes @ rates, arms)


def _arms(system: System) -> Array:
    centre = (system.masses * system.positions).sum(axis=0) / system.masses.sum()
    return system.positions - centre


def _inertia(system: System) -> Array:
    arms = _arms(system)
    weighted = (system.masses * arms).T @ arms
    tensor: Array = np.trace(weighted) * np.eye(3) - weighted
    return tensor

"""Losses of one molecule in a functional's weights, and their slopes, without unrolling an SCF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.units import Bohr, Debye
from numpy.typing import NDArray
from torch import Tensor

from atomml.electronic.functional_gradients import (
    dipole_operators,
    energy_gradient,
    grid_state,
    potential_gradient,
    property_gradient,
)
from atomml.electronic.mean_field import dipole_of

__all__ = ["Loss", "convergence_loss", "density_loss", "dipole_loss", "self_interaction_loss"]

Array = NDArray[np.float64]

_DEBYE_OF_ATOMIC = Bohr / Debye
_TOLERANCE = 1e-8
"""Of linear responses: what a step of an optimiser needs."""


@dataclass(frozen=True)
class Loss:
    """A number and its derivatives in the weights that learn, in their order."""

    value: float
    slopes: list[Tensor]


def dipole_loss(field: Any, reference: Array) -> Loss:
    """Squared error of the dipole moment, Debye².

    Args:
        field: A converged mean field with a functional of ours.
        reference: ``(3,)`` Debye.
    """
    error = dipole_of(field) - reference
    operator = np.einsum("x,xij->ij", 2 * error * _DEBYE_OF_ATOMIC, dipole_operators(field.mol))
    return Loss(float(error @ error), property_gradient(field, operator, tolerance=_TOLERANCE))


def density_loss(field: Any, reference: Array) -> Loss:
    """``∫ (n - n_ref)² dr``, electrons²/bohr³, of the density of both spins.

    Args:
        field: A converged mean field with a functional of ours.
        reference: ``(n, n)`` density matrix of both spins in the same basis set and geometry.
    """
    dm = np.asarray(field.make_rdm1())
    whole = dm if dm.ndim == 2 else dm.sum(axis=0)
    features, grid, state = grid_state(field, whole - reference)
    difference = features.rho[0].numpy()
    slope = np.zeros_like(state.rho)
    slope[0, 0] = 2 * grid.weights * difference
    operator = grid.matrix(slope, [])[0]
    value = float(grid.weights @ difference**2)
    return Loss(value, property_gradient(field, operator, tolerance=_TOLERANCE))


def self_interaction_loss(field: Any) -> Loss:
    """``(E_J + E_xc)²`` in Hartree² of one electron, for which both cancel exactly."""
    dm = np.asarray(field.make_rdm1())
    potential = field.get_veff(dm=dm)
    error = float(potential.ecoul + potential.exc)
    # veff is the derivative of E_J + E_xc in the density matrix: the adjoint's operator
    adjoint = property_gradient(field, np.asarray(potential), tolerance=_TOLERANCE)
    slopes = [2 * error * (a + b) for a, b in zip(energy_gradient(field), adjoint, strict=True)]
    return Loss(error**2, slopes)


def convergence_loss(field: Any, dm: Array) -> Loss:
    """What an SCF would gain from a density, to second order, Hartree: 0 where it is stationary.

    ``sum |F_ai|² / (e_a - e_i)`` over orbitals that are diagonal among occupied and among empty ones, for
    each electron (after Kirkpatrick et al., Science 374, 1385 (2021)); the denominators count as constants.

    Args:
        field: A mean field with a functional of ours, not converged.
        dm: ``(n, n)`` or ``(2, n, n)``: a good density of the molecule, such as another functional's.
    """
    from scipy.linalg import eigh

    overlap = np.asarray(field.get_ovlp())
    fock = np.asarray(field.get_fock(dm=dm))
    closed = dm.ndim == 2
    value, along = 0.0, []
    for f, p in zip(fock[None] if closed else fock, dm[None] / 2 if closed else dm, strict=True):
        occupations, orbitals = eigh(overlap @ p @ overlap, overlap)
        filled, empty = orbitals[:, occupations > 0.5], orbitals[:, occupations <= 0.5]
        parts = []
        for block in (filled, empty):
            levels, turn = np.linalg.eigh(block.T @ f @ block) if block.shape[1] else (np.zeros(0), np.eye(0))
            parts.append((levels, block @ turn))
        (low, c), (high, v) = parts
        between = v.T @ f @ c
        gaps = np.maximum(high[:, None] - low[None, :], 0.05)
        share = 2.0 if closed else 1.0
        value += share * float((between**2 / gaps).sum())
        half = share * v @ (2 * between / gaps) @ c.T
        along.append(0.5 * (half + half.T))
    matrices = along[0] if closed else np.stack(along)
    with torch.enable_grad():
        return Loss(value, potential_gradient(field, matrices, dm))

"""Derivatives of self-consistent results in a functional's weights, without unrolling the cycles.

The energy is stationary in the orbitals, so its gradient is that of the exchange-correlation energy at the
converged density. For other properties one linear response is solved for their gradient in the density (the
adjoint, or coupled-perturbed, equations), whatever the number of weights and of cycles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.electronic.functional import Functional, GridFeatures
from atomml.electronic.grid_features import GridState, MoleculeGrid, molecule_grid
from atomml.errors import RunFailedError

__all__ = ["dipole_operators", "energy_gradient", "grid_state", "potential_gradient", "property_gradient"]

Array = NDArray[np.float64]


def grid_state(field: Any, dm: Array | None = None) -> tuple[GridFeatures, MoleculeGrid, GridState]:
    """Features of a density matrix on a field's grid, with the grid; the converged matrix if None."""
    grid = molecule_grid(field)
    state = grid.state(np.asarray(field.make_rdm1() if dm is None else dm))
    return grid.features(state), grid, state


def _parameters(functional: Functional) -> list[Tensor]:
    return [parameter for parameter in functional.parameters() if parameter.requires_grad]


def energy_gradient(field: Any) -> list[Tensor]:
    """Gradient of the converged energy (Hartree) in the functional's weights that learn, in their order."""
    functional: Functional = field._numint.functional
    features, _, _ = grid_state(field)
    with torch.enable_grad():
        return list(torch.autograd.grad(functional.energy(features), _parameters(functional)))


def property_gradient(field: Any, operator: Array, *, tolerance: float = 1e-11) -> list[Tensor]:
    """Gradient of ``trace(operator @ density)`` of a converged field in the functional's weights that learn.

    Args:
        field: A converged mean field of :func:`~atomml.electronic.functional.use_functional`.
        operator: ``(n, n)`` symmetric: of the property, such as a dipole; the same for both spins, or
            ``(2, n, n)``.
        tolerance: Of the linear response, relative.

    Raises:
        RunFailedError: The response did not converge: the SCF has found no stable minimum.
    """
    return [-part for part in potential_gradient(field, _adjoint_density(field, operator, tolerance))]


def potential_gradient(field: Any, along: Array, dm: Array | None = None) -> list[Tensor]:
    """Gradient of ``trace(potential @ along)`` in the weights that learn, the density being fixed.

    Args:
        field: A mean field of :func:`~atomml.electronic.functional.use_functional`.
        along: Symmetric ``(n, n)``, or ``(2, n, n)`` with spin.
        dm: The density matrix; the converged one if None.
    """
    functional: Functional = field._numint.functional
    features, grid, state = grid_state(field, dm)
    change = grid.features(grid.change(state, along))
    given = (features.rho.requires_grad_(), features.exchange.requires_grad_())
    with torch.enable_grad():
        energy = functional.energy(features)
        slopes = torch.autograd.grad(energy, given, create_graph=True, materialize_grads=True)
        total = (slopes[0] * change.rho).sum() + (slopes[1] * change.exchange).sum()
        return list(torch.autograd.grad(total, _parameters(functional)))


def _adjoint_density(field: Any, operator: Array, tolerance: float) -> Array:
    """The density matrix along which a change of the potential changes the property."""
    from scipy.sparse.linalg import LinearOperator, minres

    spins = _spins(field)
    shapes = [(c.shape[1] - n, n) for c, _, n in spins]
    response = field.gen_response(hermi=1)
    factor = 2.0 if len(spins) == 1 else 1.0
    gaps = [e[n:, None] - e[None, :n] for _, e, n in spins]
    scale = np.concatenate([gap.ravel() for gap in gaps]) ** 0.5

    def split(vector: Array) -> list[Array]:
        """A vector as matrices of empty and occupied orbitals."""
        ends = np.cumsum([a * b for a, b in shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]

    def density(parts: list[Array]) -> Array:
        """The change of the density matrices."""
        found = []
        for z, (c, _, n) in zip(parts, spins, strict=True):
            half = factor * c[:, n:] @ z @ c[:, :n].T
            found.append(half + half.T)
        return np.stack(found)

    def project(matrices: Array) -> Array:
        """Between empty and occupied orbitals."""
        parts = [c[:, n:].T @ m @ c[:, :n] for m, (c, _, n) in zip(matrices, spins, strict=True)]
        return np.concatenate([part.ravel() for part in parts])

    def apply(vector: Array) -> Array:
        """The response, scaled so that its main part is one."""
        parts = split(vector / scale)
        change = density(parts)
        induced = np.asarray(response(change[0] if len(spins) == 1 else change))
        return vector + project(induced.reshape(change.shape)) / scale

    matrices = np.broadcast_to(operator, (len(spins), *operator.shape[-2:]))
    wanted = project(matrices) / scale
    linear = LinearOperator((len(scale),) * 2, matvec=apply, dtype=np.float64)
    solution, failed = minres(linear, wanted, rtol=tolerance, maxiter=500)
    if failed:
        raise RunFailedError("The response of the density did not converge: the SCF is at no stable minimum.")
    found = density(split(solution / scale))
    return found[0] if len(spins) == 1 else found


def _spins(field: Any) -> list[tuple[Array, Array, int]]:
    """Orbitals, levels and number of occupied ones, of each spin; occupied ones first."""
    coefficients, levels, occupations = field.mo_coeff, field.mo_energy, field.mo_occ
    if np.ndim(levels) == 1:
        coefficients, levels, occupations = [coefficients], [levels], [occupations]
    found = []
    for c, e, occupation in zip(coefficients, levels, occupations, strict=True):
        order = np.argsort(occupation <= 0, kind="stable")
        found.append((c[:, order], np.asarray(e)[order], int((occupation > 0).sum())))
    return found


def dipole_operators(molecule: Any) -> Array:
    """``(3, n, n)``: electrons' part of the dipole moment, e bohr."""
    with molecule.with_common_orig((0.0, 0.0, 0.0)):
        return -np.asarray(molecule.intor_symmetric("int1e_r", comp=3))

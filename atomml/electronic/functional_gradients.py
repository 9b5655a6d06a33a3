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

from atomml.electronic.functional import DensityFunctional
from atomml.errors import RunFailedError

__all__ = ["dipole_operators", "energy_gradient", "grid_densities", "property_gradient"]

Array = NDArray[np.float64]

_ORDER = {"LDA": 0, "GGA": 1, "MGGA": 1}


def grid_densities(field: Any, dm: Array) -> tuple[Array, Array]:
    """Density variables of a density matrix on a field's grid, and the grid's weights.

    ``(n_variables, n_points)`` for ``dm`` (n, n), ``(2, n_variables, n_points)`` for (2, n, n).
    """
    ni, kind, molecule = field._numint, field._numint.functional.kind, field.mol
    if field.grids.coords is None:
        field.grids.build(with_non0tab=True)
    matrices = dm[None] if dm.ndim == 2 else dm
    parts, weights = [], []
    blocks = ni.block_loop(molecule, field.grids, molecule.nao, _ORDER[kind], max_memory=2000)
    for ao, mask, weight, _ in blocks:
        rho = [
            np.atleast_2d(ni.eval_rho(molecule, ao, m, mask, kind, hermi=1, with_lapl=False))
            for m in matrices
        ]
        parts.append(np.stack(rho))
        weights.append(weight)
    whole = np.concatenate(parts, axis=-1)
    return whole[0] if dm.ndim == 2 else whole, np.concatenate(weights)


def _parameters(functional: DensityFunctional) -> list[Tensor]:
    return [parameter for parameter in functional.parameters() if parameter.requires_grad]


def energy_gradient(field: Any) -> list[Tensor]:
    """Gradient of the converged energy (Hartree) in the functional's weights that learn, in their order."""
    functional: DensityFunctional = field._numint.functional
    rho, weights = grid_densities(field, np.asarray(field.make_rdm1()))
    with torch.enable_grad():
        energy = functional.energy_density(torch.from_numpy(rho)) @ torch.from_numpy(weights)
        return list(torch.autograd.grad(energy, _parameters(functional)))


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
    functional: DensityFunctional = field._numint.functional
    adjoint = _adjoint_density(field, operator, tolerance)
    rho, weights = grid_densities(field, np.asarray(field.make_rdm1()))
    along, _ = grid_densities(field, adjoint)
    with torch.enable_grad():
        given = torch.from_numpy(rho).requires_grad_()
        density = functional.energy_density(given) * torch.from_numpy(weights)
        (potential,) = torch.autograd.grad(density.sum(), given, create_graph=True)
        change = -(potential * torch.from_numpy(along.reshape(potential.shape))).sum()
        return list(torch.autograd.grad(change, _parameters(functional), allow_unused=False))


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

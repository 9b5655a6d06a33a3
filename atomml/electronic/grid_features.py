"""From density matrices to features on a molecule's grid, and from derivatives in these back to matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.electronic.functional import N_VARIABLES, GridFeatures
from atomml.electronic.local_exchange import exchange_factor, potential_integrals

__all__ = ["GridState", "MoleculeGrid", "molecule_grid"]

Array = NDArray[np.float64]

_KEPT = 1.5e9
"""Bytes of orbitals and integrals that are kept from one SCF cycle to the next; the rest is made anew."""
_BLOCK = 1.5e8
"""Bytes of integrals at a time."""


@dataclass(frozen=True)
class GridState:
    """Densities of one density matrix on a grid.

    Attributes:
        rho: ``(n_spins, n_variables, n_points)``.
        exchange: ``(n_spins, n_omegas, n_points)``.
        halves: ``(n_spins, n_omegas, n_points, n)``: integrals times ``E`` (see
            :mod:`~atomml.electronic.local_exchange`).
    """

    rho: Array
    exchange: Array
    halves: Array


class MoleculeGrid:
    """A molecule's grid and what a functional reads on it.

    Args:
        molecule: PySCF's ``Mole``.
        grids: Its grid; built if need be.
        kind: ``LDA``, ``GGA`` or ``MGGA``.
        omegas: Range separations of local exact exchange.
    """

    def __init__(self, molecule: Any, grids: Any, kind: str, omegas: tuple[float, ...] = ()) -> None:
        if grids.coords is None:
            grids.build(with_non0tab=True)
        self.molecule, self.omegas, self.n_variables = molecule, omegas, N_VARIABLES[kind]
        self.source, self.coords = grids.coords, np.ascontiguousarray(grids.coords)
        self.weights = np.asarray(grids.weights)
        n, nao = len(self.coords), molecule.nao
        size = int(max(64, min(n, 4096, _BLOCK / (8 * nao**2) if omegas else n)))
        self.blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        self._orbitals: list[Array | None] = [None] * len(self.blocks)
        self._integrals: dict[tuple[int, float], Array] = {}
        self._left = _KEPT

    def features(self, state: GridState) -> GridFeatures:
        """As a functional takes them."""
        closed = len(state.rho) == 1
        rho, exchange = (array[0] if closed else array for array in (state.rho, state.exchange))
        centres = np.asarray(self.molecule.atom_coords())
        arrays = (rho, exchange, self.coords, self.weights, centres)
        return GridFeatures(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))

    def state(self, dm: Array) -> GridState:
        """Densities of ``(n, n)`` for both spins together, or ``(2, n, n)``."""
        matrices = dm[None] if dm.ndim == 2 else dm
        n_spins, n, nao = len(matrices), len(self.coords), matrices.shape[-1]
        rho = np.zeros((n_spins, self.n_variables, n))
        halves = np.zeros((n_spins, len(self.omegas), n, nao))
        exchange = np.zeros((n_spins, len(self.omegas), n))
        factor = exchange_factor(n_spins)
        for k, block, ao in self.orbitals():
            for s, matrix in enumerate(matrices):
                e = ao[0] @ matrix
                rho[s, :, block] = self._density(ao, e, matrix)
                for w in range(len(self.omegas)):
                    half = np.matmul(self.integrals(k, w), e[:, :, None])[:, :, 0]
                    halves[s, w, block] = half
                    exchange[s, w, block] = -factor * np.einsum("ga,ga->g", e, half)
        return GridState(rho, exchange, halves)

    def change(self, state: GridState, dm: Array) -> GridState:
        """How the densities of a state change with its matrix along ``dm``, ``(n, n)`` or ``(2, n, n)``."""
        matrices = dm[None] if dm.ndim == 2 else dm
        rho, exchange = np.zeros_like(state.rho), np.zeros_like(state.exchange)
        halves = np.zeros_like(state.halves)
        factor = exchange_factor(len(matrices))
        for k, block, ao in self.orbitals():
            for s, matrix in enumerate(matrices):
                e = ao[0] @ matrix
                rho[s, :, block] = self._density(ao, e, matrix)
                for w in range(len(self.omegas)):
                    halves[s, w, block] = np.matmul(self.integrals(k, w), e[:, :, None])[:, :, 0]
                    exchange[s, w, block] = -2 * factor * np.einsum("ga,ga->g", e, state.halves[s, w, block])
        return GridState(rho, exchange, halves)

    def matrix(self, rho_slope: Array, exchange_slopes: list[tuple[Array, Array]]) -> Array:
        """``(n_spins, n, n)`` matrices of a potential.

        Args:
            rho_slope: ``(n_spins, n_variables, n_points)`` derivatives of an energy in ``rho``.
            exchange_slopes: Pairs of derivatives in ``exchange`` and the halves that they multiply.
        """
        n_spins, nao = len(rho_slope), self.molecule.nao
        factor = exchange_factor(n_spins)
        found = np.zeros((n_spins, nao, nao))
        for _, block, ao in self.orbitals():
            for s in range(n_spins):
                v = rho_slope[s, :, block]
                weighted = 0.5 * v[0][:, None] * ao[0]
                for i in range(1, min(self.n_variables, 4)):
                    weighted += v[i][:, None] * ao[i]
                for slope, halves in exchange_slopes:
                    for w in range(len(self.omegas)):
                        weighted -= factor * slope[s, w, block][:, None] * halves[s, w, block]
                half = ao[0].T @ weighted
                found[s] += half + half.T
                if self.n_variables == 5:
                    for i in (1, 2, 3):
                        found[s] += ao[i].T @ (0.5 * v[4][:, None] * ao[i])
        return found

    def orbitals(self) -> Iterator[tuple[int, slice, Array]]:
        """Number, place, and orbitals with gradients ``(4, n_points, n)`` of each block."""
        from pyscf.dft import numint

        order = 0 if self.n_variables == 1 else 1
        for k, block in enumerate(self.blocks):
            ao = self._orbitals[k]
            if ao is None:
                ao = np.asarray(numint.eval_ao(self.molecule, self.coords[block], deriv=order))
                ao = ao[None] if ao.ndim == 2 else ao
                if self._room(ao.nbytes):
                    self._orbitals[k] = ao
            yield k, block, ao

    def integrals(self, k: int, w: int) -> Array:
        """Potential integrals of a block for one of the range separations; kept if there is room."""
        omega = self.omegas[w]
        known = self._integrals.get((k, omega))
        if known is None:
            known = potential_integrals(self.molecule, self.coords[self.blocks[k]], omega)
            if self._room(known.nbytes):
                self._integrals[k, omega] = known
        return known

    def _density(self, ao: Array, e: Array, matrix: Array) -> Array:
        """``(n_variables, n_points)`` of one matrix in a block, with its ``E``."""
        rho = np.empty((self.n_variables, len(e)))
        rho[0] = np.einsum("ga,ga->g", e, ao[0])
        for i in range(1, min(self.n_variables, 4)):
            rho[i] = 2 * np.einsum("ga,ga->g", e, ao[i])
        if self.n_variables == 5:
            rho[4] = 0.5 * sum(np.einsum("ga,ga->g", ao[i] @ matrix, ao[i]) for i in (1, 2, 3))
        return rho

    def _room(self, size: int) -> bool:
        """Whether so many bytes may be kept; takes them if so."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


def molecule_grid(field: Any) -> MoleculeGrid:
    """The grid of a mean field whose functional is ours; what it keeps between cycles is used again."""
    ni = field._numint
    if hasattr(ni, "grid_of"):
        found: MoleculeGrid = ni.grid_of(field.mol, field.grids)
        return found
    return MoleculeGrid(field.mol, field.grids, ni.functional.kind)

"""Nuclear gradients of functionals of the whole grid: orbitals, points, weights and nuclei all move.

With ``q_a(r)`` the derivative of the energy when orbital ``a`` is displaced at point ``r``, an atom's
gradient is ``-2 sum q`` over its own orbitals plus ``2 sum q`` over its own grid points, plus what the
functional says of weights, coordinates and nuclei.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.electronic.functional import GridFunctional
from atomml.electronic.grid_features import GridState, MoleculeGrid
from atomml.electronic.local_exchange import exchange_factor, slope_integrals

__all__ = ["functional_forces", "grid_gradients"]

Array = NDArray[np.float64]

_SECOND = {(0, 0): 4, (0, 1): 5, (0, 2): 6, (1, 1): 7, (1, 2): 8, (2, 2): 9}
"""Where PySCF keeps second derivatives of orbitals."""


@dataclass(frozen=True)
class _OwnedGrid:
    """A grid in the order of the atoms that its points belong to, with the slopes of its weights."""

    coords: Array
    weights: Array
    owner: NDArray[np.int64]
    weight_slopes: list[Array]


def _owned(grids: Any) -> _OwnedGrid:
    from pyscf.grad.rks import grids_response_cc

    parts = list(grids_response_cc(grids))
    coords = np.concatenate([coords for coords, _, _ in parts])
    weights = np.concatenate([w for _, w, _ in parts])
    owner = np.concatenate([np.full(len(w), atom) for atom, (_, w, _) in enumerate(parts)])
    return _OwnedGrid(coords, weights, owner, [slopes for _, _, slopes in parts])


def functional_forces(functional: GridFunctional, molecule: Any, grids: Any, dm: Array) -> Array:
    """``(n_atoms, 3)`` gradient of the functional's energy at a fixed density matrix, Hartree/bohr.

    Args:
        functional: The functional.
        molecule: PySCF's ``Mole``.
        grids: Its grid.
        dm: ``(n, n)`` or ``(2, n, n)``.
    """
    owned = _owned(grids)
    grid = MoleculeGrid(molecule, owned, functional.kind, functional.omegas)
    state = grid.state(dm)
    wanted = ("rho", "exchange", "coords", "weights", "centres")
    _, slopes = functional.gradients(grid.features(state), wanted)
    rho, exchange, coords, weights, centres = (slope.numpy() for slope in slopes)
    found = np.array(centres)
    np.add.at(found, owned.owner, coords)
    start = 0
    for part in owned.weight_slopes:
        stop = start + part.shape[-1]
        found += np.einsum("axg,g->ax", part, weights[start:stop])
        start = stop
    rho, exchange = rho.reshape(state.rho.shape), exchange.reshape(state.exchange.shape)
    atom_of = np.concatenate(
        [np.full(stop - start, atom) for atom, (_, _, start, stop) in enumerate(molecule.aoslice_by_atom())]
    )
    for block, q in _displaced(grid, state, rho, exchange, dm[None] if dm.ndim == 2 else dm):
        np.add.at(found, atom_of, -2 * q.sum(axis=1).T)
        np.add.at(found, owned.owner[block], 2 * q.sum(axis=2).T)
    return found


def _displaced(
    grid: MoleculeGrid, state: GridState, rho: Array, exchange: Array, matrices: Array
) -> Iterator[tuple[slice, Array]]:
    """``q``, ``(3, n_points, n)``, of each block."""
    from pyscf.dft import numint

    factor = exchange_factor(len(matrices))
    order = 1 if grid.n_variables == 1 else 2
    for block in grid.blocks:
        ao = np.asarray(numint.eval_ao(grid.molecule, grid.coords[block], deriv=order))
        q = np.zeros_like(ao[:3])
        for s, matrix in enumerate(matrices):
            e = [ao[i] @ matrix for i in range(4 if order == 2 else 1)]
            once, twice = _multipliers(rho[s, :, block], e)
            for w, omega in enumerate(grid.omegas):
                v = factor * exchange[s, w, block][:, None]
                once = once - v * (state.halves[s, w, block] @ matrix)
                slopes = slope_integrals(grid.molecule, grid.coords[block], omega)
                q -= v * e[0] * np.einsum("xgbd,gd->xgb", slopes, e[0], optimize=True)
            for x in range(3):
                q[x] += ao[1 + x] * once
                for i, multiplier in enumerate(twice):
                    q[x] += ao[_SECOND[min(x, i), max(x, i)]] * multiplier
        yield block, q


def _multipliers(v: Array, e: list[Array]) -> tuple[Array, list[Array]]:
    """What first and second derivatives of orbitals are multiplied by, without exact exchange."""
    once, twice = v[0][:, None] * e[0], []
    for i in range(3 if len(v) > 1 else 0):
        once = once + v[1 + i][:, None] * e[1 + i]
        twice.append(v[1 + i][:, None] * e[0])
        if len(v) == 5:
            twice[i] = twice[i] + 0.5 * v[4][:, None] * e[1 + i]
    return once, twice


def _exchange_parts(share: float, omega: float, long_range: float) -> list[tuple[float, float | None]]:
    """Factors of exact exchange and their range separation, as PySCF's energies take them apart.

    With density fitting it matters: short range is not what remains of the whole without long range.
    """
    if not omega:
        return [(share, None)] if share else []
    if not long_range:
        return [(share, -omega)]
    if not share:
        return [(long_range, omega)]
    return [(share, None), (long_range - share, omega)]


def grid_gradients(field: Any) -> Any:
    """PySCF's nuclear gradients of a mean field, with our exchange-correlation part; density fitting too."""
    from pyscf import lib

    fitted = getattr(field, "with_df", None) is not None
    if fitted:
        from pyscf.df.grad import rks, uks
    else:
        from pyscf.grad import rks, uks

    class GridGradients:
        """Coulomb and exact exchange by PySCF; the functional's part by :func:`functional_forces`."""

        __name_mixin__ = "Grid"

        def get_veff(self, mol: Any = None, dm: Any = None) -> Any:
            """PySCF's derivative matrix, tagged with what the functional adds to each atom.

            With density fitting, also with what the auxiliary functions add that move with each atom.
            """
            base = self.base  # type: ignore[attr-defined]
            mol = mol or self.mol  # type: ignore[attr-defined]
            dm = np.asarray(base.make_rdm1() if dm is None else dm)
            added = functional_forces(base._numint.functional, mol, base.grids, dm)
            omega, long_range, share = base._numint.rsh_and_hybrid_coeff(base.xc)
            closed = dm.ndim == 2
            coulomb = super().get_j(mol, dm)  # type: ignore[misc]
            total = np.array(coulomb) if closed else np.stack([np.asarray(coulomb).sum(axis=0)] * 2)
            moved = coulomb.aux.sum(axis=(0, 1)) if fitted else None
            for factor, separation in _exchange_parts(share, omega, long_range):
                exchange = super().get_k(mol, dm, omega=separation)  # type: ignore[misc]
                factor *= 0.5 if closed else 1.0
                total -= factor * np.asarray(exchange)
                if moved is not None:
                    moved = moved - factor * np.einsum("ssax->ax", exchange.aux)
            tags = {"exc1_grid": added} | ({} if moved is None else {"aux": moved})
            return lib.tag_array(total, **tags)

    kind = uks.Gradients if np.ndim(field.mo_occ) == 2 else rks.Gradients
    found = lib.set_class(kind(field), (GridGradients, kind))
    found.grid_response = True
    return found

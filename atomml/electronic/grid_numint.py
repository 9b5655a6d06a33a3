"""PySCF's integration on grids for functionals that read the grid as a whole or local exact exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.electronic.functional import GridFunctional, Library, OwnKohnSham
from atomml.electronic.grid_features import MoleculeGrid
from atomml.errors import OptionError

__all__ = ["use_grid_functional"]

Array = NDArray[np.float64]


class _GridIntegration:
    """Energies, potentials and response of a :class:`~atomml.electronic.functional.GridFunctional`."""

    functional: GridFunctional

    def grid_of(self, molecule: Any, grids: Any) -> MoleculeGrid:
        """The grid with what it keeps; made anew when the grid is."""
        known: MoleculeGrid | None = getattr(self, "_grid", None)
        if known is None or grids.coords is None or known.source is not grids.coords:
            known = MoleculeGrid(molecule, grids, self.functional.kind, self.functional.omegas)
            self._grid = known
        return known

    def nr_rks(
        self, mol: Any, grids: Any, xc_code: str, dms: Any, *_: Any, **__: Any
    ) -> tuple[float, float, Array]:
        """Electrons, energy and potential of a closed shell, as PySCF's."""
        n, energy, matrices = self._potential(mol, grids, np.asarray(dms))
        return float(n[0]), energy, matrices[0]

    def nr_uks(
        self, mol: Any, grids: Any, xc_code: str, dms: Any, *_: Any, **__: Any
    ) -> tuple[Array, float, Array]:
        """The same with spin."""
        dm = np.asarray(dms)
        return self._potential(mol, grids, np.stack([dm / 2, dm / 2]) if dm.ndim == 2 else dm)

    def cache_xc_kernel(
        self,
        mol: Any,
        grids: Any,
        xc_code: str,
        mo_coeff: Any,
        mo_occ: Any,
        spin: int = 0,
        *_: Any,
        **__: Any,
    ) -> tuple[Any, None, None]:
        """The state about which :meth:`nr_rks_fxc` and :meth:`nr_uks_fxc` respond.

        Raises:
            OptionError: Singlets or triplets of a closed shell are asked for.
        """
        occupations = np.asarray(mo_occ)
        if occupations.ndim == 1 and spin:
            raise OptionError(
                f"{self.functional.name} has no response of one spin in a closed shell: take dft.UKS."
            )
        dm = np.einsum("...ij,...j,...kj->...ik", np.asarray(mo_coeff), occupations, np.asarray(mo_coeff))
        return _Response(self.functional, self.grid_of(mol, grids), dm), None, None

    def nr_rks_fxc(
        self, mol: Any, grids: Any, xc_code: str, dm0: Any, dms: Any, *rest: Any, **named: Any
    ) -> Array:
        """Change of the potential along density matrices ``(n, n)`` or ``(k, n, n)``."""
        response: _Response = rest[2] if len(rest) > 2 else named["rho0"]
        dm = np.asarray(dms)
        found = [response(one)[0] for one in (dm[None] if dm.ndim == 2 else dm)]
        return found[0] if dm.ndim == 2 else np.stack(found)

    def nr_uks_fxc(
        self, mol: Any, grids: Any, xc_code: str, dm0: Any, dms: Any, *rest: Any, **named: Any
    ) -> Array:
        """The same with spin: ``(2, n, n)`` or ``(2, k, n, n)``."""
        response: _Response = rest[2] if len(rest) > 2 else named["rho0"]
        dm = np.asarray(dms)
        if dm.ndim == 3:
            return response(dm)
        return np.stack([response(dm[:, k]) for k in range(dm.shape[1])], axis=1)

    def _potential(self, mol: Any, grids: Any, dm: Array) -> tuple[Array, float, Array]:
        if dm.ndim == 3 and len(dm) != 2:
            raise OptionError(f"{self.functional.name} takes one density at a time.")
        grid = self.grid_of(mol, grids)
        state = grid.state(dm)
        energy, (rho, exchange) = self.functional.gradients(grid.features(state), ("rho", "exchange"))
        by_exchange = exchange.numpy().reshape(state.exchange.shape)
        matrices = grid.matrix(rho.numpy().reshape(state.rho.shape), [(by_exchange, state.halves)])
        return state.rho[:, 0] @ grid.weights, energy, matrices


class _Response:
    """How the potential at one density changes with the density: the functional differentiated twice."""

    def __init__(self, functional: GridFunctional, grid: MoleculeGrid, dm: Array) -> None:
        self.grid, self.state = grid, grid.state(dm)
        features = grid.features(self.state)
        self.given = (features.rho.requires_grad_(), features.exchange.requires_grad_())
        with torch.enable_grad():
            energy = functional.energy(features)
            self.slopes = torch.autograd.grad(energy, self.given, create_graph=True, materialize_grads=True)

    def __call__(self, dm: Array) -> Array:
        """``(n_spins, n, n)`` for a symmetric ``(n, n)`` or ``(2, n, n)``."""
        state, grid = self.state, self.grid
        along = grid.change(state, 0.5 * (dm + np.swapaxes(dm, -1, -2)))
        first = self.slopes[1].detach().numpy().reshape(state.exchange.shape)
        change = grid.features(along)
        with torch.enable_grad():
            product = (self.slopes[0] * change.rho).sum() + (self.slopes[1] * change.exchange).sum()
            found = torch.autograd.grad(product, self.given, retain_graph=True, materialize_grads=True)
        rho, exchange = found[0].numpy().reshape(state.rho.shape), found[1].numpy().reshape(first.shape)
        return grid.matrix(rho, [(exchange, state.halves), (first, along.halves)])


def use_grid_functional(field: Any, functional: GridFunctional) -> Any:
    """Make a Kohn-Sham mean field use a functional of the whole grid; returns the mean field.

    Its class is made here, as PySCF is imported late: it differs in its nuclear gradient.
    """
    from pyscf import lib
    from pyscf.dft import numint

    class GridNumInt(_GridIntegration, numint.NumInt):  # type: ignore[misc]
        """PySCF's integration with a functional of the whole grid."""

        def __init__(self, functional: GridFunctional) -> None:
            super().__init__()
            self.functional = functional
            self.libxc = Library(functional)

    class GridKohnSham(OwnKohnSham):
        """A mean field whose nuclear gradient is that of a functional of the whole grid."""

        __name_mixin__ = "Grid"

        def nuc_grad_method(self) -> Any:
            """PySCF's gradient object, with our exchange-correlation part."""
            from atomml.electronic.grid_forces import grid_gradients

            return grid_gradients(self)

        def density_fit(self, *arguments: Any, **named: Any) -> Any:
            """PySCF's, whose own nuclear gradient would stand before ours."""
            fitted = super().density_fit(*arguments, **named)
            return use_grid_functional(fitted, functional)

    found = lib.set_class(field, (GridKohnSham, type(field)))
    found._numint = GridNumInt(functional)
    return found

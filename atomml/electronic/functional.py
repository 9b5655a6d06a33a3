"""What a density functional is: an energy of densities on grid points, and how PySCF is made to use it."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.errors import OptionError

__all__ = [
    "N_VARIABLES",
    "DensityFunctional",
    "Functional",
    "GridFeatures",
    "GridFunctional",
    "Library",
    "OwnKohnSham",
    "torch_numint",
    "use_functional",
]

Array = NDArray[np.float64]

N_VARIABLES = {"LDA": 1, "GGA": 4, "MGGA": 5}
"""Density variables of a kind: the density, its gradient, the kinetic-energy density."""


@dataclass(frozen=True)
class GridFeatures:
    """What a functional may read on a molecule's grid, atomic units.

    Attributes:
        rho: ``(n_variables, n_points)`` of a closed shell, ``(2, n_variables, n_points)`` with spin: density,
            its gradient (3), kinetic-energy density, as far as the functional's kind says.
        exchange: ``(n_omegas, n_points)`` or ``(2, n_omegas, n_points)``: energy densities of exact exchange,
            of both spins together for a closed shell (:mod:`atomml.electronic.local_exchange`).
        coords: ``(n_points, 3)``.
        weights: ``(n_points,)``.
        centres: ``(n_atoms, 3)`` nuclei.
    """

    rho: Tensor
    exchange: Tensor
    coords: Tensor
    weights: Tensor
    centres: Tensor


class Functional(nn.Module, abc.ABC):
    """Exchange and correlation of densities on a molecule's grid, with a share of exact exchange.

    Attributes:
        name: What it is called.
        kind: ``LDA``, ``GGA`` (with gradients) or ``MGGA`` (with kinetic-energy densities).
        exact_exchange: Share of exact exchange at all distances.
        omega: Range-separation parameter, 1/bohr; 0 for none.
        long_range: Share of exact exchange at long range, where ``omega`` is not 0.
        omegas: Range separations (1/bohr, 0 for none) of the local exact-exchange densities that it reads.
    """

    name: str = "functional"
    kind: str = "GGA"
    exact_exchange: float = 0.0
    omega: float = 0.0
    long_range: float = 0.0
    omegas: tuple[float, ...] = ()

    @abc.abstractmethod
    def energy(self, features: GridFeatures) -> Tensor:
        """Energy without the share of exact exchange, a scalar in Hartree, differentiable."""


class GridFunctional(Functional):
    """A functional that reads more of the grid than densities at a point: local exact exchange, other points.

    A subclass implements :meth:`energy` and may override :meth:`gradients` by something faster; potentials,
    response and nuclear forces follow (:mod:`atomml.electronic.grid_numint`).
    """

    kind: str = "MGGA"

    def gradients(self, features: GridFeatures, wanted: tuple[str, ...]) -> tuple[float, list[Tensor]]:
        """The energy, and its derivatives in the named features.

        Args:
            features: Without history.
            wanted: Names of fields of :class:`GridFeatures`.
        """
        given = {name: getattr(features, name).detach().requires_grad_() for name in wanted}
        with torch.enable_grad():
            energy = self.energy(replace(features, **given))
            found = torch.autograd.grad(energy, list(given.values()), materialize_grads=True)
        return float(energy.detach()), list(found)


class DensityFunctional(Functional):
    """Exchange and correlation that density variables at a point decide, with a share of exact exchange.

    A subclass sets ``name``, ``kind`` and, if need be, the shares of exact exchange, and implements
    :meth:`energy_density`; derivatives of any order come by differentiation.
    """

    @abc.abstractmethod
    def energy_density(self, rho: Tensor) -> Tensor:
        """Energy per volume without exact exchange, ``(n_points,)`` Hartree/bohr³.

        Args:
            rho: ``(n_variables, n_points)`` of a closed shell, ``(2, n_variables, n_points)`` with spin:
                density, its gradient (3), kinetic-energy density, as far as ``kind`` says.
        """

    def energy(self, features: GridFeatures) -> Tensor:
        """See :class:`Functional`."""
        return self.energy_density(features.rho) @ features.weights

    def evaluate(self, rho: Array, order: int) -> list[Array | None]:
        """Energy per electron and its derivatives in the variables, as PySCF's ``eval_xc_eff`` gives them.

        Args:
            rho: As of :meth:`energy_density`.
            order: 1 for the potential, 2 for the kernel too.

        Raises:
            OptionError: An order above 2.
        """
        if order > 2:
            raise OptionError(f"{self.name} has derivatives up to the second: no third-order response.")
        given = torch.from_numpy(np.ascontiguousarray(rho, dtype=np.float64)).requires_grad_(order > 0)
        with torch.enable_grad():
            density = self.energy_density(given)
            found: list[Array | None] = [self._per_electron(density, given), None, None, None]
            if order == 0:
                return found
            (first,) = torch.autograd.grad(density.sum(), given, create_graph=order > 1)
            found[1] = first.detach().numpy()
            if order > 1:
                found[2] = self._kernel(first, given)
        return found

    def _per_electron(self, density: Tensor, rho: Tensor) -> Array:
        total = rho[0] if rho.ndim == 2 else rho[0, 0] + rho[1, 0]
        per: Array = torch.where(total > 1e-15, density / total.clamp(min=1e-15), 0.0).detach().numpy()
        return per

    def _kernel(self, first: Tensor, rho: Tensor) -> Array:
        """``(..., ..., n_points)``: rows of first derivatives, differentiated again."""
        flat = first.reshape(-1, first.shape[-1])
        rows = []
        for row in flat:
            if not row.requires_grad:
                rows.append(torch.zeros_like(rho))
                continue
            (second,) = torch.autograd.grad(row.sum(), rho, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(rho) if second is None else second)
        whole: Array = torch.stack(rows).reshape(*first.shape[:-1], *rho.shape).detach().numpy()
        return whole


class Library:
    """Answers what PySCF asks of libxc about a functional by name."""

    __name__ = "atomml"
    __version__: ClassVar[str] = ""
    __reference__: ClassVar[str] = ""

    def __init__(self, functional: Functional) -> None:
        self.functional = functional

    def xc_type(self, _: str) -> str:
        """``LDA``, ``GGA`` or ``MGGA``."""
        return self.functional.kind

    def is_hybrid_xc(self, _: str) -> bool:
        """Whether any exact exchange is wanted."""
        f = self.functional
        return bool(f.exact_exchange or f.omega)

    def is_nlc(self, _: str) -> bool:
        """Whether there is non-local correlation: never."""
        return False

    def needs_laplacian(self, _: str) -> bool:
        """Whether the Laplacian is read: never."""
        return False

    def is_meta_gga(self, _: str) -> bool:
        """Whether kinetic-energy densities are read."""
        return self.functional.kind == "MGGA"

    def is_gga(self, _: str) -> bool:
        """Whether gradients are read."""
        return self.functional.kind == "GGA"

    def is_lda(self, _: str) -> bool:
        """Whether densities alone are read."""
        return self.functional.kind == "LDA"

    def parse_xc(self, _: str) -> tuple[Any, ...]:
        """Exact exchange, and no parts that libxc would know."""
        return self.rsh_coeff(_), ()

    def rsh_coeff(self, _: str) -> tuple[float, float, float]:
        """Omega, share at long range, and what the share at short range is above it."""
        f = self.functional
        if not f.omega:
            return 0.0, f.exact_exchange, 0.0
        return f.omega, f.long_range, f.exact_exchange - f.long_range

    def hybrid_coeff(self, _: str, spin: int = 0) -> float:
        """Share of exact exchange at short range."""
        return self.functional.exact_exchange

    def nlc_coeff(self, _: str) -> tuple[Any, ...]:
        """None."""
        return ()

    def test_deriv_order(self, name: str, deriv: int, raise_error: bool = False) -> bool:
        """Whether there are derivatives of this order."""
        return deriv <= 2


def torch_numint(functional: DensityFunctional) -> Any:
    """PySCF's ``NumInt`` for a functional of ours; its class is made here, as PySCF is imported late."""
    from pyscf.dft import numint

    class TorchNumInt(numint.NumInt):  # type: ignore[misc]
        """PySCF's integration on grids, with a functional of torch.

        PySCF's own way, ``define_xc_`` with a callable, drops exact exchange without a word.
        """

        def __init__(self, functional: DensityFunctional) -> None:
            super().__init__()
            self.functional = functional
            self.libxc = Library(functional)

        def eval_xc_eff(
            self,
            xc_code: str,
            rho: Any,
            deriv: int = 1,
            omega: float | None = None,
            xctype: str | None = None,
            verbose: Any = None,
            spin: int | None = None,
        ) -> list[Array | None]:
            """Energy per electron and derivatives in density, gradient and kinetic-energy density."""
            values = np.asarray(rho, dtype=np.float64)
            n = N_VARIABLES[self.functional.kind]
            with_spin = spin == 1 if spin is not None else values.ndim > 1 and len(values) == 2
            shape = values.shape
            values = values.reshape(2, -1, shape[-1]) if with_spin else values.reshape(-1, shape[-1])
            if values.shape[-2] == 6:  # density, gradient, Laplacian, kinetic
                values = values[..., [0, 1, 2, 3, 5], :]
            return self.functional.evaluate(values[..., :n, :], deriv)

    return TorchNumInt(functional)


class OwnKohnSham:
    """Above PySCF's class of a mean field that uses a functional of ours."""

    __name_mixin__ = "Own"

    def density_fit(self: Any, *arguments: Any, **named: Any) -> Any:
        """PySCF's, which asks libxc about the name to choose an auxiliary basis: for J alone, or for K."""
        known, libxc = self.xc, self._numint.libxc
        self.xc = "hf" if libxc.is_hybrid_xc(known) else "pbe"
        try:
            fitted = super().density_fit(*arguments, **named)  # type: ignore[misc]
        finally:
            self.xc = known
        fitted.xc = known
        return fitted


def use_functional(field: Any, functional: Functional) -> Any:
    """Make a Kohn-Sham mean field of PySCF use a functional; returns the mean field.

    Energies, potentials, analytic forces and response then follow from the functional by differentiation,
    exact exchange from PySCF's integrals.

    Raises:
        OptionError: The field is no Kohn-Sham mean field.
    """
    if not hasattr(field, "_numint"):
        raise OptionError("A functional needs a Kohn-Sham mean field: make one with dft.RKS or dft.UKS.")
    field.xc, field.nlc = functional.name, ""
    if isinstance(functional, GridFunctional):
        from atomml.electronic.grid_numint import use_grid_functional

        return use_grid_functional(field, functional)
    if not isinstance(functional, DensityFunctional):
        raise OptionError(f"{functional.name} is neither a DensityFunctional nor a GridFunctional.")
    from pyscf import lib

    field._numint = torch_numint(functional)
    return field if isinstance(field, OwnKohnSham) else lib.set_class(field, (OwnKohnSham, type(field)))

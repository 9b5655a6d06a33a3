"""What a density functional is: an energy density on grid points, and how PySCF is made to use it."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.errors import OptionError

__all__ = ["DensityFunctional", "torch_numint", "use_functional"]

Array = NDArray[np.float64]

_KINDS = {"LDA": 1, "GGA": 4, "MGGA": 5}


class DensityFunctional(nn.Module, abc.ABC):
    """Exchange and correlation of a density on a grid, with a share of exact exchange.

    A subclass sets ``name``, ``kind`` and, if need be, the shares of exact exchange, and implements
    :meth:`energy_density`; derivatives of any order come by differentiation.

    Attributes:
        name: What it is called.
        kind: ``LDA``, ``GGA`` (with gradients) or ``MGGA`` (with kinetic-energy densities).
        exact_exchange: Share of exact exchange at all distances.
        omega: Range-separation parameter, 1/bohr; 0 for none.
        long_range: Share of exact exchange at long range, where ``omega`` is not 0.
    """

    name: str = "functional"
    kind: str = "GGA"
    exact_exchange: float = 0.0
    omega: float = 0.0
    long_range: float = 0.0

    @abc.abstractmethod
    def energy_density(self, rho: Tensor) -> Tensor:
        """Energy per volume without exact exchange, ``(n_points,)`` Hartree/bohr³.

        Args:
            rho: ``(n_variables, n_points)`` of a closed shell, ``(2, n_variables, n_points)`` with spin:
                density, its gradient (3), kinetic-energy density, as far as ``kind`` says.
        """

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


class _Library:
    """Answers what PySCF asks of libxc about a functional by name."""

    __name__ = "atomml"
    __version__: ClassVar[str] = ""
    __reference__: ClassVar[str] = ""

    def __init__(self, functional: DensityFunctional) -> None:
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
            self.libxc = _Library(functional)

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
            n = _KINDS[self.functional.kind]
            with_spin = spin == 1 if spin is not None else values.ndim > 1 and len(values) == 2
            shape = values.shape
            values = values.reshape(2, -1, shape[-1]) if with_spin else values.reshape(-1, shape[-1])
            if values.shape[-2] == 6:  # density, gradient, Laplacian, kinetic
                values = values[..., [0, 1, 2, 3, 5], :]
            return self.functional.evaluate(values[..., :n, :], deriv)

    return TorchNumInt(functional)


def use_functional(field: Any, functional: DensityFunctional) -> Any:
    """Make a Kohn-Sham mean field of PySCF use a functional; returns the mean field.

    Energies, potentials, analytic forces and response then follow from the functional by differentiation,
    exact exchange from PySCF's integrals.

    Raises:
        OptionError: The field is no Kohn-Sham mean field.
    """
    if not hasattr(field, "_numint"):
        raise OptionError("A functional needs a Kohn-Sham mean field: make one with dft.RKS or dft.UKS.")
    field._numint = torch_numint(functional)
    field.xc = functional.name
    field.nlc = ""
    return field

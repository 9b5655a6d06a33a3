"""Functionals that read local exact exchange or other points: exact potentials, response and forces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.electronic.functional import GridFeatures, GridFunctional, use_functional
from atomml.electronic.functional_gradients import dipole_operators, energy_gradient, property_gradient
from atomml.electronic.grid_features import MoleculeGrid
from atomml.electronic.mean_field import MeanFieldLevel, forces_of
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import OptionError
from atomml.potentials.xc import CLOSED_FORMS, Mixture, closed_form
from atomml.potentials.xc.density import SpinDensities
from atomml.potentials.xc.gradient import pbe_correlation, pbe_exchange
from atomml.potentials.xc.local_hybrid import Lh07tSVWN, spins_of

pytest.importorskip("pyscf")

WATER = "O 0 0 0; H 0 0.1 0.95; H 0.9 0 -0.3"
HYDROXYL = "O 0 0 0; H 0 0.1 0.95"


class Everything(GridFunctional):
    """Two range separations mixed by weights and densities, coordinates and nuclei in the factor."""

    name = "everything"
    omegas = (0.0, 0.4)
    exact_exchange = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([0.3, 0.5], dtype=torch.float64))

    def energy(self, features: GridFeatures) -> Tensor:
        """Hartree."""
        d = SpinDensities.of(features.rho)
        exact = spins_of(features.exchange).sum(dim=0)
        away = ((features.coords[:, None] - features.centres[None]) ** 2).sum(dim=-1)
        near = torch.exp(-away).sum(dim=1)
        mixed = self.mix[0] * exact[0] + self.mix[1] * torch.tanh(d.tau + near) * exact[1]
        return (0.5 * pbe_exchange(d) + pbe_correlation(d) + mixed) @ features.weights


def converged(
    functional: GridFunctional, places: str, spin: int, positions: NDArray[np.float64] | None = None
) -> Any:
    """A mean field on the smallest grid, tightly converged."""
    from pyscf import dft, gto

    mol = gto.M(atom=places, basis="sto-3g", spin=spin, verbose=0)
    if positions is not None:
        mol = mol.set_geom_(positions, unit="Bohr")
    field = use_functional((dft.UKS if spin else dft.RKS)(mol), functional)
    field.grids.level, field.conv_tol, field.conv_tol_grad, field.max_cycle = 0, 1e-13, 1e-9, 200
    field.kernel()
    assert field.converged
    return field


CASES = [(Everything, WATER, 0), (Everything, HYDROXYL, 1), (Lh07tSVWN, WATER, 0)]


@pytest.mark.parametrize(("kind", "places", "spin"), CASES)
def test_potential_and_response_are_the_derivatives_of_the_energy(
    kind: type[GridFunctional], places: str, spin: int
) -> None:
    """Along a random change of the density matrix, against central differences of 1e-4 in it."""
    field = converged(kind(), places, spin)
    ni, grids = field._numint, field.grids
    energy_of = ni.nr_uks if spin else ni.nr_rks
    dm = np.asarray(field.make_rdm1())
    random = np.random.default_rng(0).standard_normal(dm.shape)
    along = 0.05 * (random + np.swapaxes(random, -1, -2))
    sides = [energy_of(field.mol, grids, "", dm + sign * 1e-4 * along) for sign in (1, -1)]
    n, _, potential = energy_of(field.mol, grids, "", dm)
    assert np.sum(n) == pytest.approx(field.mol.nelectron, abs=5e-2)
    slope = (sides[0][1] - sides[1][1]) / 2e-4
    assert float((potential * along).sum()) == pytest.approx(slope, abs=1e-8)
    state = ni.cache_xc_kernel(field.mol, grids, "", field.mo_coeff, field.mo_occ)[0]
    response = ni.nr_uks_fxc if spin else ni.nr_rks_fxc
    found = response(field.mol, grids, "", None, along, 0, 1, state)
    np.testing.assert_allclose(found, (sides[0][2] - sides[1][2]) / 2e-4, atol=1e-7)


@pytest.mark.parametrize(("kind", "places", "spin"), CASES)
def test_forces_are_the_slope_of_the_self_consistent_energy(
    kind: type[GridFunctional], places: str, spin: int
) -> None:
    """Central differences of 1e-3 bohr: 1e-6 Ha/bohr; the sum over atoms is zero."""
    field = converged(kind(), places, spin)
    gradient = field.nuc_grad_method().kernel()
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-10)
    for atom, axis in ((0, 2), (1, 1)):
        energies = []
        for sign in (1, -1):
            moved = field.mol.atom_coords().copy()
            moved[atom, axis] += sign * 1e-3
            energies.append(converged(kind(), places, spin, moved).e_tot)
        slope = (energies[0] - energies[1]) / 2e-3
        assert gradient[atom, axis] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("spin", [0, 1])
def test_local_exact_exchange_integrates_to_exact_exchange(spin: int) -> None:
    """At all distances and at long range, against PySCF's four-centre integrals; the grid's error is 2e-5."""
    from pyscf import dft, gto, scf

    mol = gto.M(atom=HYDROXYL if spin else WATER, basis="6-31g", spin=spin, verbose=0)
    field = (scf.UHF if spin else scf.RHF)(mol).run()
    dm = np.asarray(field.make_rdm1())
    grids = dft.gen_grid.Grids(mol)
    grids.level = 2
    grid = MoleculeGrid(mol, grids, "LDA", (0.0, 0.4))
    exchange = grid.state(dm).exchange.sum(axis=0) @ grid.weights
    for found, omega in zip(exchange, (None, 0.4), strict=True):
        k = np.asarray(field.get_k(mol, dm, omega=omega))
        exact = -(0.5 if spin else 0.25) * float((k * dm).sum())
        assert found == pytest.approx(exact, abs=2e-5)


@pytest.mark.parametrize("spin", [0, 1])
def test_gradients_in_the_weights_hold_for_local_exact_exchange(spin: int) -> None:
    """Energy to 1e-8 and dipole to 1e-7, against central differences of whole SCFs."""
    functional = Everything()
    places = HYDROXYL if spin else WATER
    field = converged(functional, places, spin)
    operator = dipole_operators(field.mol)[2]
    (energy,), (dipole,) = energy_gradient(field), property_gradient(field, operator)
    for k in range(2):
        found = []
        for sign in (1, -1):
            functional.mix.data[k] += sign * 3e-4
            moved = converged(functional, places, spin)
            density = np.asarray(moved.make_rdm1()).reshape(-1, *operator.shape).sum(axis=0)
            found.append((moved.e_tot, float((density * operator).sum())))
            functional.mix.data[k] -= sign * 3e-4
        slopes = [(a - b) / 6e-4 for a, b in zip(*found, strict=True)]
        assert float(energy[k]) == pytest.approx(slopes[0], abs=1e-8)
        assert float(dipole[k]) == pytest.approx(slopes[1], abs=2e-7)


class OnTheGrid(GridFunctional):
    """A closed form as a functional of the whole grid, with its share of exact exchange."""

    kind, name = "GGA", "on the grid"

    def __init__(self, form: Mixture, omega: float = 0.0, long_range: float = 0.0) -> None:
        super().__init__()
        self.form, self.exact_exchange, self.omega, self.long_range = (
            form,
            form.exact_exchange,
            omega,
            long_range,
        )

    def energy(self, features: GridFeatures) -> Tensor:
        """Hartree."""
        return self.form.energy(features)


@pytest.mark.parametrize(("functional", "spin"), [("pbe", 0), ("b3lyp", 0), ("b3lyp", 1)])
def test_density_fitting_is_that_of_libxc(functional: str, spin: int) -> None:
    """Energy and forces with the same auxiliary basis, chosen by whether there is exact exchange; to 1e-9."""
    from pyscf import dft, gto

    mol = gto.M(atom=HYDROXYL if spin else WATER, basis="def2-svp", spin=spin, verbose=0)
    kind = dft.UKS if spin else dft.RKS
    form = closed_form(functional)
    made = [kind(mol, xc=CLOSED_FORMS[functional][2])]
    made += [use_functional(kind(mol), own) for own in (form, OnTheGrid(form))]
    found = []
    for field in made:
        field.grids.level, field.conv_tol, field.conv_tol_grad = 0, 1e-12, 1e-8
        fitted = field.density_fit()
        energy = fitted.kernel()
        gradient = fitted.nuc_grad_method()
        gradient.grid_response = True
        found.append((energy, gradient.kernel()))
    for energy, gradient in found[1:]:
        assert energy == pytest.approx(found[0][0], abs=1e-10)
        np.testing.assert_allclose(gradient, found[0][1], atol=1e-9)


@pytest.mark.parametrize("ranges", [(0.0, 0.0), (0.3, 0.0), (0.3, 0.5)])
def test_forces_hold_with_density_fitting(ranges: tuple[float, float]) -> None:
    """As slopes of the fitted energy, with exact exchange everywhere, at short range, and of both shares."""
    from pyscf import dft, gto

    mol = gto.M(atom=HYDROXYL, basis="sto-3g", spin=1, verbose=0)
    places = mol.atom_coords()

    def fitted(shift: float) -> Any:
        """A converged mean field with one atom moved."""
        moved = mol.set_geom_(places + np.array([[0, 0, 0], [0, 0, shift]]), unit="Bohr", inplace=False)
        field = use_functional(dft.UKS(moved), OnTheGrid(closed_form("pbe0"), *ranges))
        field.grids.level, field.conv_tol, field.conv_tol_grad = 0, 1e-13, 1e-9
        field = field.density_fit()
        field.kernel()
        return field

    energies = [fitted(shift).e_tot for shift in (1e-3, -1e-3)]
    gradient = fitted(0.0).nuc_grad_method().kernel()
    assert gradient[1, 2] == pytest.approx((energies[0] - energies[1]) / 2e-3, abs=1e-6)


def test_local_hybrids_take_fitted_integrals() -> None:
    """Through the level of theory, whose name of the functional libxc does not know."""
    settings = ScfSettings(grid=0, density_fit=True)
    level = MeanFieldLevel(Lh07tSVWN(), "sto-3g", settings)
    field, method = level.converge(level.mean_field(molecule("H2O")))
    assert "density_fit" in method
    exact = MeanFieldLevel(Lh07tSVWN(), "sto-3g", ScfSettings(grid=0))
    assert 0 < abs(field.e_tot - exact.converge(exact.mean_field(molecule("H2O")))[0].e_tot) < 1e-3
    np.testing.assert_allclose(forces_of(field).sum(axis=0), 0, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    field = converged(Lh07tSVWN(), "He 0 0 0", 0)
    assert np.abs(forces_of(field)).max() < 1e-10
    with pytest.raises(OptionError, match=r"dft\.UKS"):
        field.TDA().kernel()

"""Functionals that read local exact exchange or other points: exact potentials, response and forces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.electronic.functional import GridFeatures, GridFunctional, use_functional
from atomml.electronic.functional_gradients import dipole_operators, energy_gradient, property_gradient
from atomml.electronic.grid_features import MoleculeGrid
from atomml.electronic.mean_field import MeanFieldLevel, forces_of
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import OptionError
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


def test_what_cannot_be_is_refused() -> None:
    settings = ScfSettings(grid=0, density_fit=True)
    with pytest.raises(OptionError, match="density fitting"):
        MeanFieldLevel(Lh07tSVWN(), "sto-3g", settings)
    field = converged(Lh07tSVWN(), "He 0 0 0", 0)
    assert np.abs(forces_of(field)).max() < 1e-10
    with pytest.raises(OptionError, match=r"dft\.UKS"):
        field.TDA().kernel()

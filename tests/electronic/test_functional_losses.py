"""Losses beside reaction energies: their slopes in the weights are those of whole SCFs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from atomml.electronic.functional import use_functional
from atomml.electronic.functional_losses import (
    Loss,
    convergence_loss,
    density_loss,
    dipole_loss,
    self_interaction_loss,
)
from atomml.potentials.xc import closed_form
from atomml.potentials.xc.learned import LearnedConfig, LearnedFunctional

pytest.importorskip("pyscf")


def field_of(functional: Any, places: str, spin: int, *, kernel: bool = True) -> Any:
    """A mean field in a small basis set, tightly converged unless told otherwise."""
    from pyscf import dft, gto

    mol = gto.M(atom=places, basis="6-31g" if places == HYDROGEN else "sto-3g", spin=spin, verbose=0)
    field = use_functional((dft.UKS if spin else dft.RKS)(mol), functional)
    field.grids.level, field.conv_tol, field.conv_tol_grad, field.max_cycle = 0, 1e-13, 1e-10, 200
    if kernel:
        field.kernel()
        assert field.converged
    return field


def learned() -> LearnedFunctional:
    """Weights far from zero."""
    torch.manual_seed(0)
    functional = LearnedFunctional(LearnedConfig(widths=(4,), one_electron=False))
    for parameter in functional.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return functional


WATER, AMINO, HYDROGEN = (
    "O 0 0 0; H 0 0.1 0.95; H 0.9 0 -0.3",
    "N 0 0 0; H 0 0.1 1.0; H 0.95 0 -0.3",
    "H 0 0 0",
)


def dipole(functional: Any) -> Loss:
    return dipole_loss(field_of(functional, WATER, 0), np.array([0.3, -0.2, 1.0]))


def density(functional: Any) -> Loss:
    other = np.asarray(field_of(closed_form("lda"), AMINO, 1).make_rdm1()).sum(axis=0)
    return density_loss(field_of(functional, AMINO, 1), other)


def self_interaction(functional: Any) -> Loss:
    return self_interaction_loss(field_of(functional, HYDROGEN, 1))


def unrest(functional: Any) -> Loss:
    start = field_of(functional, AMINO, 1, kernel=False)
    return convergence_loss(start, np.asarray(field_of(closed_form("lda"), AMINO, 1).make_rdm1()))


@pytest.mark.parametrize("loss", [dipole, density, self_interaction])
def test_slopes_are_those_of_the_whole_scf(loss: Callable[[Any], Loss]) -> None:
    """Central differences of converged results, to 1e-5 of the largest slope."""
    functional = learned()
    found = loss(functional)
    assert found.value > 1e-8
    largest = max(float(slope.abs().max()) for slope in found.slopes)
    for index in (0, 4):
        flat = list(functional.parameters())[index].data.view(-1)
        sides = []
        for sign in (1, -1):
            flat[0] += sign * 1e-3
            sides.append(loss(functional).value)
            flat[0] -= sign * 1e-3
        slope = (sides[0] - sides[1]) / 2e-3
        assert float(found.slopes[index].view(-1)[0]) == pytest.approx(slope, abs=1e-5 * largest)


def test_unrest_is_what_an_scf_gains() -> None:
    """To second order: within 30 % of the fall from PBE's density; 0 at the functional's own."""
    functional = learned()
    own = field_of(functional, WATER, 0)
    assert convergence_loss(own, np.asarray(own.make_rdm1())).value < 1e-12
    foreign = np.asarray(field_of(closed_form("pbe"), WATER, 0).make_rdm1())
    gained = float(own.energy_tot(foreign) - own.e_tot)
    found = convergence_loss(own, foreign)
    assert found.value == pytest.approx(gained, rel=0.3)
    assert all(bool(torch.isfinite(slope).all()) for slope in found.slopes)


def test_unrest_s_slope_is_down_to_its_denominators() -> None:
    """Along one weight, the central difference with levels that move is within a tenth."""
    functional = learned()
    found = unrest(functional)
    flat = next(iter(functional.parameters())).data.view(-1)
    sides = []
    for sign in (1, -1):
        flat[0] += sign * 1e-3
        sides.append(unrest(functional).value)
        flat[0] -= sign * 1e-3
    slope = (sides[0] - sides[1]) / 2e-3
    assert float(found.slopes[0].view(-1)[0]) == pytest.approx(slope, rel=0.1)

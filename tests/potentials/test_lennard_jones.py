"""Lennard-Jones has closed answers; the pair, the lattice sums and the switch are held to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from atomml.graph import GraphBuilder
from atomml.potentials.lennard_jones import LennardJones, argon
from atomml.potentials.lennard_jones.model import NOBLE_GASES, smooth_switch

EPSILON, SIGMA = NOBLE_GASES[18]
# Lattice sums of fcc in nearest-neighbour distances: J. E. Jones and A. E. Ingham,
# Proc. R. Soc. Lond. A 107, 636 (1925); six digits as in Kittel, Introduction to Solid State Physics.
FCC_SUM_12, FCC_SUM_6 = 12.13188, 14.45392


def _energy(model: LennardJones, atoms: Atoms) -> float:
    return float(model.predict(GraphBuilder.for_model(model)(atoms)).energy)


def _tail(density: float, start: float, end: float) -> float:
    """Energy per atom that the switch leaves out of a homogeneous crystal, eV (attraction only)."""
    r = np.linspace(start, end, 20_001)
    removed = 1.0 - smooth_switch(torch.from_numpy(r), start, end).numpy()
    within = np.trapezoid(-4 * EPSILON * SIGMA**6 / r**4 * removed, r)
    beyond = -4 * EPSILON * SIGMA**6 / (3 * end**3)
    return 2 * math.pi * density * (within + beyond)


@pytest.mark.parametrize("ratio", [1.02, 1.0902, 1.2])
def test_fcc_energy_follows_the_published_lattice_sums(ratio: float) -> None:
    neighbour = ratio * SIGMA
    model = argon(cutoff=34.0, switch_start=24.0)
    atoms = bulk("Ar", "fcc", a=math.sqrt(2) * neighbour)
    s6 = (1 / ratio) ** 6
    exact = 2 * EPSILON * (FCC_SUM_12 * s6**2 - FCC_SUM_6 * s6)
    tail = _tail(math.sqrt(2) / neighbour**3, 24.0, 34.0)
    # The sums have six digits: 5e-6 · 2ε; the smooth tail is an integral to some 1e-5 ε.
    assert _energy(model, atoms) == pytest.approx(exact - tail, abs=3e-5 * EPSILON)


def test_fcc_minimum_is_8_6_epsilon_at_1_09_sigma() -> None:
    model = argon(cutoff=34.0, switch_start=24.0)
    ratio = np.linspace(1.07, 1.11, 9)
    energy = []
    for value in ratio:
        neighbour = value * SIGMA
        tail = _tail(math.sqrt(2) / neighbour**3, 24.0, 34.0)
        energy.append(_energy(model, bulk("Ar", "fcc", a=math.sqrt(2) * neighbour)) + tail)
    curve = np.polynomial.Polynomial.fit(ratio, np.array(energy) / EPSILON, 4)
    best = min((root for root in curve.deriv().roots().real if 1.07 < root < 1.11), key=curve)
    assert best == pytest.approx((2 * FCC_SUM_12 / FCC_SUM_6) ** (1 / 6), abs=1e-4)
    assert curve(best) == pytest.approx(-(FCC_SUM_6**2) / (2 * FCC_SUM_12), abs=1e-4)


@pytest.mark.parametrize(("first", "second"), [("Ar", "Ar"), ("Ne", "Xe"), ("Kr", "Ar")])
def test_pair_has_the_mixed_depth_at_two_to_the_sixth_of_sigma(first: str, second: str) -> None:
    atoms = Atoms([first, second], [[0, 0, 0], [0, 0, 1.0]])
    (eps_a, sig_a), (eps_b, sig_b) = (NOBLE_GASES[int(z)] for z in atoms.numbers)
    atoms.positions[1, 2] = 2 ** (1 / 6) * 0.5 * (sig_a + sig_b)
    model = argon()
    prediction = model.predict(GraphBuilder.for_model(model)(atoms))
    assert float(prediction.energy) == pytest.approx(-math.sqrt(eps_a * eps_b), rel=1e-13)
    assert prediction.forces is not None
    assert float(prediction.forces.abs().max()) < 1e-14
    assert prediction.site_energies[0] == prediction.site_energies[1]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_switch_and_its_first_two_derivatives_join(order: int) -> None:
    for edge, inside in ((7.0, 1.0), (8.5, 0.0)):
        for side in (-1e-9, 1e-9):
            r = torch.tensor(edge + side, dtype=torch.float64, requires_grad=True)
            value = smooth_switch(r, 7.0, 8.5)
            for _ in range(order):
                (value,) = torch.autograd.grad(value, r, create_graph=True)
            # The third derivative of the switch is 60/1.5³ = 18 Å⁻³ at either end.
            assert value.item() == pytest.approx(inside if order == 0 else 0.0, abs=18 * 1e-9 * 1.01)


def test_tables_of_parameters_travel_through_hyperparameters_and_state() -> None:
    model = argon()
    copy = LennardJones.from_hyperparameters(model.hyperparameters(), model.info)
    copy.load_state_dict(model.state_dict())
    atoms = bulk("Ar", "fcc", a=5.2).repeat(2)
    atoms.numbers[::3] = 54
    assert _energy(copy, atoms) == _energy(model, atoms)


def test_tables_that_do_not_fit_are_refused() -> None:
    info = argon().info
    square, wrong = torch.ones(4, 4), torch.ones(4, 3)
    with pytest.raises(ValueError, match="shape"):
        LennardJones(info, square, wrong, 7.0)
    with pytest.raises(ValueError, match="switch_start"):
        LennardJones(info, square, square, 8.5)

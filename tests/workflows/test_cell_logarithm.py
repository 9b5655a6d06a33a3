"""The logarithm of a deformation: the inverse of the exponential to the last digits, or a plain refusal."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray
from scipy.linalg import expm

from atomml.potentials.lennard_jones import argon
from atomml.workflows import relax
from atomml.workflows.relaxing import cell_logarithm
from atomml.workflows.relaxing.cell_logarithm import CellFilter, logarithm

Array = NDArray[np.float64]


def turned(values: list[float], seed: int) -> Array:
    """A symmetric matrix with these eigenvalues."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return np.asarray(q @ np.diag(values) @ q.T)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("shape", [[1.0, -0.4, 0.7], [1.0, 1.0, -0.5], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
def test_it_undoes_the_exponential(size: float, shape: list[float]) -> None:
    """Sheared and turned a little, equal eigenvalues among them, to roundings of D, e^U times as many."""
    for seed in range(3):
        u = size * (turned(shape, seed) + 0.3 * np.random.default_rng(seed).normal(size=(3, 3)))
        d = expm(u)
        found = logarithm(d)
        assert np.abs(expm(found) - d).max() <= 2e-15 * np.abs(d).max() * np.exp(2 * size)
        if size < 1e-2:
            assert np.abs(found - u).max() <= 4e-16  # what rounding D near the identity leaves


def test_a_small_strain_is_not_lost_beside_the_identity() -> None:
    """``log(1 + e) = e - e²/2`` for a strain whose entries are powers of two: nothing is rounded in D."""
    e = 2.0**-40 * np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 4.0], [0.0, 0.0, 2.0]])
    np.testing.assert_allclose(logarithm(np.eye(3) + e), e - e @ e / 2, rtol=1e-15, atol=1e-30)
    assert not logarithm(np.eye(3)).any()


def test_a_rotation_gives_its_axis_and_angle() -> None:
    angle = 2.0
    d = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    np.testing.assert_allclose(logarithm(d), [[0, -angle, 0], [angle, 0, 0], [0, 0, 0]], atol=1e-14)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [np.diag([-1.0, 1.0, 1.0]), np.full((3, 3), np.nan), np.zeros((3, 3))])
def test_what_has_no_logarithm_is_refused(bad: Array) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        logarithm(bad)


def test_the_filter_has_the_coordinates_of_the_deformation_itself() -> None:
    """They are the logarithm times its factor, zero for the cell as given, and can be set again."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    filtered = CellFilter(atoms, exp_cell_factor=3.0)
    assert not filtered.get_positions()[32:].any()
    u = turned([1e-9, 1e-9, -2e-9], 0)
    atoms.set_cell(atoms.cell.array @ expm(u).T, scale_atoms=True)
    np.testing.assert_allclose(filtered.get_positions()[32:], 3.0 * u, rtol=0, atol=3 * 2e-15)
    other = filtered.get_positions()
    other[32:] = 3.0 * u * 7e6
    filtered.set_positions(other)
    np.testing.assert_allclose(filtered.get_positions(), other, rtol=0, atol=1e-12)


def test_its_gradient_is_the_slope_of_the_energy() -> None:
    """Central differences along cell and atoms together, from a deformed cell, at a pressure."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    filtered = CellFilter(atoms, exp_cell_factor=3.0, scalar_pressure=0.01)
    start = filtered.get_positions()
    start[4:] = 3.0 * turned([0.05, -0.03, 0.02], 2)
    filtered.set_positions(start)
    forces, way = filtered.get_forces(), np.random.default_rng(3).normal(size=start.shape)
    energies = []
    for h in (1e-4, -1e-4):
        filtered.set_positions(start + h * way)
        energies.append(filtered.get_potential_energy())
    assert (energies[1] - energies[0]) / 2e-4 == pytest.approx(float((forces * way).sum()), rel=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_relaxation_of_many_atoms_warns_of_nothing_and_goes_the_way_of_the_filter_of_ase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ASE's own warns of the logarithm of 32 atoms' deformation, which is 32 times larger than it need be."""
    atoms = bulk("Ar", "fcc", a=5.1, cubic=True).repeat(2)
    atoms.rattle(0.03, seed=0)
    settings: dict[str, Any] = {"cell": "free", "fmax": 1e-4, "smax": 1e-4, "steps": 60}
    ours = relax(atoms, argon(), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(cell_logarithm, "CellFilter", FrechetCellFilter)
        theirs = relax(atoms, argon(), **settings)
    assert ours.n_steps == theirs.n_steps
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-10)
    np.testing.assert_allclose(ours.atoms.cell.array, theirs.atoms.cell.array, atol=1e-7)

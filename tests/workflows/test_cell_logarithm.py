"""The logarithm of a deformation: the inverse of the exponential to the last digits, or a plain refusal."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from numpy.typing import NDArray
from scipy.linalg import expm

from atomml.workflows.relaxing.cell_logarithm import cell_filter, logarithm

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


def test_the_filter_of_relaxations_goes_by_it() -> None:
    """The coordinates of a deformed cell are the logarithm times its factor, whatever ASE calls its parts."""
    atoms = bulk("Cu", cubic=True)
    filtered = cell_filter(atoms, exp_cell_factor=3.0)
    u = turned([1e-9, 1e-9, -2e-9], 0)
    atoms.set_cell(atoms.cell.array @ expm(u).T, scale_atoms=True)
    np.testing.assert_allclose(
        filtered.get_positions()[4:], 3.0 * u, rtol=0, atol=3 * 2e-15
    )  # of solving for D
    other = filtered.get_positions()
    other[4:] = 3.0 * u * 7e6
    filtered.set_positions(other)
    np.testing.assert_allclose(filtered.get_positions(), other, rtol=0, atol=1e-12)

"""Skala on its shipped weights, and DM21 on weights that the user brings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atomml.electronic.functional import GridFeatures, GridFunctional, use_functional
from atomml.errors import CheckpointError, MissingExtraError
from atomml.potentials.xc.dm21 import _SCOPE, DM21, _names, load_dm21
from atomml.potentials.xc.files import load_functional
from atomml.potentials.xc.skala import Skala, load_skala
from atomml.potentials.xc.skala_messages import harmonics

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from skala_cases import CENTRES, directions, points  # noqa: E402

FIELDS = ("rho", "coords", "weights", "centres")


def features(spin: int) -> GridFeatures:
    """Of the formula's points."""
    rho, coords, weights = points(spin)
    arrays = (rho, np.zeros((2, 0, len(weights)) if spin else (0, len(weights))), coords, weights, CENTRES)
    return GridFeatures(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def scrambled() -> Skala:
    """Weights of no meaning."""
    torch.manual_seed(0)
    functional = Skala()
    for parameter in functional.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return functional.requires_grad_(False)


@pytest.mark.parametrize("spin", [0, 1])
def test_skala_is_the_package_s(spin: int) -> None:
    """Energy, and every derivative that potentials and forces are made of; both in float64."""
    known = json.loads((GOLDEN / "skala.json").read_text())[str(spin)]
    along = directions(spin)
    energy, slopes = load_skala().gradients(features(spin), FIELDS)
    assert energy == pytest.approx(known["energy"], abs=1e-12)
    for name, slope in zip(FIELDS[:3], slopes, strict=False):
        assert float((slope.numpy() * along[name]).sum()) == pytest.approx(known[name], rel=1e-10, abs=1e-11)
    np.testing.assert_allclose(slopes[3].numpy(), known["centres"], atol=1e-11)


@pytest.mark.parametrize("spin", [0, 1])
def test_skala_s_fast_derivatives_are_those_of_its_energy(spin: int) -> None:
    """Block by block against plain differentiation; points that hold nothing are left out of the first."""
    functional = scrambled()
    given = features(spin)
    fast = functional.gradients(given, FIELDS)
    plain = GridFunctional.gradients(functional, given, FIELDS)
    assert fast[0] == pytest.approx(plain[0], abs=1e-12)
    along = directions(spin)
    for name, a, b in zip(FIELDS[:3], fast[1], plain[1], strict=False):
        step = torch.from_numpy(along[name])
        assert float((a * step).sum()) == pytest.approx(float((b * step).sum()), rel=1e-10, abs=1e-12)
    torch.testing.assert_close(fast[1][3], plain[1][3], rtol=1e-10, atol=1e-12)


def test_skala_is_the_same_in_every_frame_and_for_both_spins() -> None:
    """Rotations, reflections and exchanged spins: invariant to rounding."""
    functional, given = scrambled(), features(1)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0])
    rho = given.rho.clone()
    rho[:, 1:4] = torch.einsum("ij,sjn->sin", turn, rho[:, 1:4])
    turned = GridFeatures(rho, given.exchange, given.coords @ turn.T, given.weights, given.centres @ turn.T)
    swapped = GridFeatures(given.rho.flip(0), given.exchange, given.coords, given.weights, given.centres)
    energy = float(functional.energy(given))
    assert float(functional.energy(turned)) == pytest.approx(energy, abs=1e-11)
    assert float(functional.energy(swapped)) == pytest.approx(energy, abs=1e-11)


def test_harmonics_are_orthonormal() -> None:
    """``sum_m Y_lm(a) Y_lm(b)`` is Legendre's polynomial of the angle: what messages depend on."""
    random = np.random.default_rng(0).standard_normal((2, 50, 3))
    a, b = (torch.from_numpy(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in random)
    cosine = (a * b).sum(dim=1).numpy()
    for degree in range(4):
        part = slice(degree**2, (degree + 1) ** 2)
        found = (harmonics(a)[:, part] * harmonics(b)[:, part]).sum(dim=1).numpy()
        np.testing.assert_allclose(found, np.polynomial.Legendre.basis(degree)(cosine), atol=1e-12)


def dm21_file(path: Path, **changes: Any) -> Path:
    """Arrays of the published names and shapes."""
    random = np.random.default_rng(0)
    state = DM21().state_dict()
    arrays = {_SCOPE + theirs: state[ours].numpy().T.astype("f4") for ours, theirs in _names().items()}
    arrays = {
        key: array + 0.05 * random.standard_normal(array.shape).astype("f4") for key, array in arrays.items()
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_dm21_runs_and_its_potential_is_exact(tmp_path: Path) -> None:
    """On arrays of the published shapes, along a change of an anion's density matrix with one open spin."""
    pyscf = pytest.importorskip("pyscf")
    from pyscf import dft

    functional = load_functional(dm21_file(tmp_path / "weights.npz"))
    mol = pyscf.gto.M(atom="H 0 0 0; H 0 0 0.8", basis="6-31g", charge=-1, spin=1, verbose=0)
    field = use_functional(dft.UKS(mol), functional)
    field.grids.level = 0
    dm = field.get_init_guess()
    random = np.random.default_rng(1).standard_normal(dm.shape)
    along = random + np.swapaxes(random, -1, -2)
    ni = field._numint
    potential = ni.nr_uks(mol, field.grids, "", dm)[2]
    sides = [ni.nr_uks(mol, field.grids, "", dm + sign * 1e-5 * along)[1] for sign in (1, -1)]
    assert float((potential * along).sum()) == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-8)


def test_wrong_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged, foreign, with numbers that are none, with pickled objects: one sentence, nothing executed."""
    good = dm21_file(tmp_path / "good.npz")
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:5000])
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    last = _SCOPE + "OutputLayer/linear/b"
    dm21_file(tmp_path / "nan.npz", **{last: np.full(3, np.nan, dtype="f4")})
    dm21_file(tmp_path / "pickle.npz", **{last: np.array([{}, {}, {}], dtype=object)})
    dm21_file(tmp_path / "shape.npz", **{last: np.zeros(4, dtype="f4")})
    for name in ("cut", "foreign", "nan", "pickle", "shape"):
        with pytest.raises(CheckpointError, match="28 arrays"):
            load_dm21(tmp_path / f"{name}.npz")
    with pytest.raises(CheckpointError, match="Skala"):
        load_skala(tmp_path)
    monkeypatch.setattr("atomml.potentials.xc.skala.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="skala"):
        load_skala()

"""The fused kernels of MACE against its plain path, and against e3nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from e3nn import o3
from test_mace import small

from atomml import AtomMLCalculator
from atomml.graph import GraphBuilder, build_graph
from atomml.potentials.mace import MACE
from atomml.potentials.mace.fast import FastMACE
from atomml.potentials.mace.fast.geometry import _gradient, _harmonics
from atomml.potentials.mace.fast.splines import N_KNOTS, SplineTables
from atomml.testing import run_conformance

KINDS: dict[str, dict[str, Any]] = {
    "residual": {"hidden": "32x0e+32x1o", "max_degree": 3},
    "padded channels": {"hidden": "8x0e+8x1o+8x2e"},
    "plain": {"interactions": ["plain", "residual"], "hidden": "32x0e"},
    "density": {
        "interactions": ["density", "density-residual"],
        "pair_repulsion": True,
        "distance_transform": "agnesi",
        "hidden": "32x0e+32x1o",
    },
    "odd irreps": {"hidden": "8x0e+8x1o+8x1e+8x2o", "distance_transform": "soft", "radial": "gaussian"},
    "pseudoscalars": {"hidden": "8x0e+8x0o+8x1o"},
    "last readout only": {"last_readout_only": True, "keep_last_irreps": True},
    "three layers": {"interactions": ["residual"] * 3, "correlations": [2, 3, 1]},
    "shared, cut late": {"shared_product": True, "early_cutoff": False, "pair_repulsion": True},
    "one layer": {"interactions": ["residual"], "correlations": [3]},
}


def crystals() -> list[Atoms]:
    """A crystal of two elements, a layer, a molecule, an atom alone."""
    quartz_like = bulk("SiO", "zincblende", 4.6, cubic=True)
    layer = bulk("Si", cubic=True)
    layer.pbc = (True, True, False)
    made = [quartz_like, layer, molecule("CH3CH2OH"), molecule("O")]
    for seed, atoms in enumerate(made):
        atoms.rattle(0.1, seed=seed)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_fast_path_is_as_near_to_float64_as_the_plain_one(kind: str) -> None:
    exact = small(**KINDS[kind])
    rounded = small(**KINDS[kind]).float()
    assert FastMACE.supports(rounded)
    for atoms in crystals():
        graph = build_graph(atoms, 4.0)
        wanted = exact.predict(graph, path="plain")
        plain, fast = (rounded.predict(graph, path=path) for path in ("plain", "fast"))  # type: ignore[arg-type]
        for name in ("site_energies", "forces", "stress", "atom_features"):
            right, one, other = (getattr(p, name).double() for p in (wanted, plain, fast))
            scale = right.nan_to_num().abs().max() + 1
            error, allowed = ((x - right).nan_to_num().abs().max() for x in (other, one))
            assert error < 10 * allowed + 2e-6 * scale, (name, float(error), float(allowed))
        assert torch.equal(plain.stress.isnan(), fast.stress.isnan())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["density", "padded channels"])
def test_fast_path_obeys_the_laws_of_potentials(kind: str) -> None:
    """Among them: the forces are the derivative of the splined energy, batches, permutations, the cutoff."""
    results = run_conformance(small(**KINDS[kind]), dtype="float32", quick=True)
    assert "fast_path/forces" in {result.name for result in results}
    assert [(r.name, r.value, r.tolerance) for r in results if not r.passed] == []


def test_harmonics_and_their_gradient_are_those_of_e3nn() -> None:
    generator = np.random.default_rng(0)
    found = np.empty(16)
    for _ in range(5):
        vector = generator.normal(size=3)
        vector /= np.linalg.norm(vector)
        position = torch.tensor(vector[None], requires_grad=True)
        wanted = o3.spherical_harmonics([0, 1, 2, 3], position, False, "component")
        _harmonics.py_func(*vector, found)
        np.testing.assert_allclose(found, wanted[0].detach(), atol=1e-6)
        weights = generator.normal(size=16)
        (gradient,) = torch.autograd.grad(wanted[0] @ torch.as_tensor(weights), position)
        ours = np.array(_gradient.py_func(*vector, weights))
        across = np.eye(3) - np.outer(vector, vector)  # along the vector other polynomials are as good
        np.testing.assert_allclose(across @ ours, across @ gradient[0].numpy(), atol=1e-5)


def test_splines_are_the_radial_networks() -> None:
    """Between knots, at all distances that atoms have, to float32's rounding; with their slope."""
    model = small(**KINDS["density"])
    tables = SplineTables(model)
    tables.cover(np.array([0, 2]))
    row = tables.pair_table[0, 2] * N_KNOTS
    lengths = torch.linspace(0.5, 3.99, 501, dtype=torch.float64)
    pairs = torch.tensor([[1], [8]]).expand(2, 501)
    basis, cut = model.basis(lengths[:, None], pairs)
    for layer, table in zip(model.interactions, tables.tables, strict=True):
        wanted = layer.radial(basis * cut).numpy()
        place = np.minimum((lengths.numpy() / tables.spacing).astype(int), N_KNOTS - 2)
        t = (lengths.numpy() / tables.spacing - place)[:, None]
        width = table.shape[1] // 2
        low, high = table[row + place].astype(float), table[row + place + 1].astype(float)
        found = (2 * t**3 - 3 * t**2 + 1) * low[:, :width] + (t**3 - 2 * t**2 + t) * low[:, width:]
        found += (3 * t**2 - 2 * t**3) * high[:, :width] + (t**3 - t**2) * high[:, width:]
        np.testing.assert_allclose(found[:, : wanted.shape[1]], wanted, atol=3e-6 * np.abs(wanted).max())


def test_number_of_threads_changes_no_bit() -> None:
    model = small(**KINDS["density"]).float()
    graph = build_graph(bulk("SiO", "zincblende", 4.6, cubic=True) * (2, 2, 2), 4.0)
    before = torch.get_num_threads()
    answers = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            answers.append(model.predict(graph, path="fast"))
    finally:
        torch.set_num_threads(before)
    for other in answers[1:]:
        assert torch.equal(answers[0].energy, other.energy)
        assert torch.equal(answers[0].forces, other.forces)  # type: ignore[arg-type]


def test_elements_met_later_are_added() -> None:
    model = small(**KINDS["density"]).float()
    for name in ("CH4", "H2O", "SiH4", "CO2", "CH4"):
        graph = build_graph(molecule(name), 4.0)
        fast, plain = model.predict(graph, path="fast"), model.predict(graph, path="plain")
        torch.testing.assert_close(fast.forces, plain.forces, rtol=0, atol=2e-4)


def test_kernels_leave_other_models_to_the_plain_path() -> None:
    for model in (small(), small(correlations=[4, 1]).float(), small(max_degree=4).float()):
        assert not FastMACE.supports(model)
    nonlinear = small(interactions=["nonlinear-residual"] * 2, early_cutoff=False).float()
    assert not FastMACE.supports(nonlinear)
    assert nonlinear.predict(build_graph(molecule("CO"), 4.0)).forces is not None


def test_another_head_or_weight_is_seen_by_the_fast_path() -> None:
    model = small(heads=["a", "b"], head="a").float()
    graph = build_graph(molecule("CO"), 4.0)
    first = float(model.predict(graph, path="fast").energy)
    second = float(model.with_head("b").predict(graph, path="fast").energy)
    assert second == pytest.approx(float(model.predict(graph, path="plain").energy), abs=1e-4)
    assert first != second


def test_dynamics_reuses_the_neighbour_list() -> None:
    model: MACE = small(**KINDS["residual"]).float()
    calculator = AtomMLCalculator(model)
    atoms = bulk("Si", cubic=True)
    builder = GraphBuilder.for_model(model)
    for seed in range(3):
        atoms.rattle(0.02, seed=seed)
        atoms.calc = calculator
        fresh = model.predict(builder(atoms), path="fast")
        np.testing.assert_allclose(atoms.get_forces(), fresh.forces, rtol=0, atol=2e-5)


def test_it_answers_where_gradients_are_turned_off() -> None:
    """A training validates so."""
    model, graph = small().float(), build_graph(crystals()[0], 4.0)
    wanted = model.predict(graph, path="fast")
    with torch.no_grad():
        found = model.predict(graph, path="fast")
    assert torch.equal(found.energy, wanted.energy)

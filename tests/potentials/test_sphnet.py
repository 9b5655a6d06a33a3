"""SPHNet: hermitian, equivariant, blind to order and company, by construction; gates; the fused products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from atomml.checkpoint import load_any_model, load_model_file, save_model
from atomml.electronic.matrices import all_pairs
from atomml.electronic.orbitals import n_orbitals
from atomml.electronic.rotation import rotate_matrix
from atomml.errors import ModelError
from atomml.graph.batching import collate
from atomml.potentials.sphnet import SPHNet, products
from atomml.potentials.sphnet import gated_product as gated
from atomml.potentials.sphnet.degrees import couplings, n_components, paths_of
from atomml.potentials.sphnet.gates import ADAPTIVE, FIXED, RANDOM, PairGate, PathGate, Schedule
from atomml.registry import seeded_generator

SVP = {1: [0, 0, 1], 6: [0, 0, 0, 1, 1, 2], 8: [0, 0, 0, 1, 1, 2]}
SMALL: dict[str, Any] = {
    "shells": SVP,
    "level": "pbe/def2-svp",
    "channels": 8,
    "bottleneck": 4,
    "heads": 2,
    "vectorial_layers": 2,
    "vectorial_radial": 8,
    "radial": 8,
}
GATED = {"sparsity": 0.5, "pair_sparsity": 0.5}


def small(**changes: Any) -> SPHNet:
    """Fresh weights, none of them zero, in float64."""
    with seeded_generator(3):
        model = SPHNet.fresh("small", [1, 6, 8], {**SMALL, **changes}).double().eval()
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    if changes.get("sparsity"):
        for step in (0, 99):
            model.begin_step(step, 100, 0)
    return model


def answer(model: SPHNet, *molecules: Atoms) -> list[np.ndarray]:
    return [m.numpy() for m in model.predict(collate([all_pairs(atoms) for atoms in molecules]))]


def turn(seed: int) -> Any:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return rotation


@pytest.mark.parametrize(
    "changes", [{}, GATED, {"pair_harmonics": False}], ids=["dense", "gated", "as published"]
)
def test_matrices_are_hermitian_and_turn_with_the_molecule(changes: dict[str, Any]) -> None:
    """Rotations and, with the determinant's other sign, reflections; to 1e-10 of the largest number."""
    model, atoms = small(**changes), molecule("CH3CH2OH")
    (matrix,) = answer(model, atoms)
    assert np.array_equal(matrix, matrix.T)
    assert np.abs(matrix).max() > 1e-2
    shells = [model.shells_of(int(z)) for z in atoms.numbers]
    for sign in (1.0, -1.0):
        rotation = sign * turn(0)
        other = atoms.copy()
        other.positions = atoms.positions @ rotation.T + 5.0
        (found,) = answer(model, other)
        expected = rotate_matrix(matrix, shells, rotation)
        assert np.abs(found - expected).max() < 1e-10 * max(np.abs(matrix).max(), 1.0)


@pytest.mark.parametrize("changes", [{}, GATED], ids=["dense", "gated"])
def test_order_and_company_do_not_matter(changes: dict[str, Any]) -> None:
    """A permutation of the atoms permutes the orbitals; a molecule in a batch is as alone."""
    model, atoms = small(**changes), molecule("CH3CH2OH")
    (matrix,) = answer(model, atoms)
    order = np.random.default_rng(1).permutation(len(atoms))
    starts = np.cumsum([0, *(n_orbitals(model.shells_of(int(z))) for z in atoms.numbers)])
    places = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    (moved,) = answer(model, atoms[order])
    scale = max(np.abs(matrix).max(), 1.0)
    assert np.abs(moved - matrix[np.ix_(places, places)]).max() < 1e-11 * scale
    company = answer(model, molecule("H2O"), atoms, molecule("CH4"), Atoms("O"))
    assert np.abs(company[1] - matrix).max() < 1e-11 * scale
    assert company[3].shape == (14, 14)
    assert np.abs(answer(model, Atoms("O"))[0] - company[3]).max() < 1e-11 * scale  # a batch without pairs


def test_kernels_are_the_plain_products_with_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(**GATED).requires_grad_(True)
    graph = collate([all_pairs(molecule(name)) for name in ("H2O", "CH3OH")])

    def run() -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Matrices' numbers and gradients of a function of them."""
        found = [part for part, _ in model.matrix_blocks(graph).entries()]
        loss = torch.stack([part.sin().sum() for part in found]).sum()
        return found, list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))

    values, gradients = run()
    monkeypatch.setattr(gated, "tensor_product", products.plain_product)
    plain_values, plain_gradients = run()
    for ours, theirs in zip(values, plain_values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
    for one, two in zip(gradients, plain_gradients, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9 * float(two.abs().max()) + 1e-12)


def test_products_have_a_bounded_size_and_the_published_number_of_paths() -> None:
    """65 paths up to l = 4 of all kinds; those to an unnatural l = 4, which no block needs, are left out."""
    paths = paths_of(4, 4, 4, unnatural=True)
    published = [(a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(a + b, 4) + 1)]
    left_out = [(a, b, c) for a, b, c in published if c == 4 and (a + b) % 2 == 1]
    assert len(published) == 65
    assert len(paths) == 65 - len(left_out)
    table = couplings(paths, 4)
    assert table.n_results == n_components(4) + n_components(3, 1) == 40
    assert table.costs.sum() == len(table.value)


def test_paths_are_drawn_then_chosen_then_kept() -> None:
    costs = np.arange(1.0, 11.0)
    gate = PathGate(costs, 0.7, 0.0)
    kept = []
    for step in range(3):
        gate.begin_step(0, np.random.default_rng(step))
        kept.append(gate.indices())
        assert len(kept[-1]) == 3
    assert len(set(kept)) > 1
    gate.factor.data = torch.tensor([1.0, -9.0, 1, 1, 8, 1, 1, 1, 1, 7])
    gate.begin_step(1, np.random.default_rng(0))
    assert gate.indices() == (1, 4, 9)
    gate.factor.data = torch.ones(10)
    gate.begin_step(2, np.random.default_rng(0))
    assert gate.indices() == (1, 4, 9)
    cheap = PathGate(costs, 0.7, 1.0)
    cheap.begin_step(1, np.random.default_rng(0))
    assert cheap.indices() == (0, 1, 2)


@pytest.mark.parametrize("n_steps", [3, 20, 24, 30, 1000])
@pytest.mark.parametrize("until", [(0.02, 0.04), (0.0, 0.0), (0.3, 0.3)])
def test_paths_that_stay_were_chosen_by_their_scores(n_steps: int, until: tuple[float, float]) -> None:
    """However short a training is, its last choice at random is followed by one by scores."""
    phases = [Schedule(*until).phase(step, n_steps) for step in range(n_steps)]
    assert phases == sorted(phases)
    assert phases.count(RANDOM) == sum(step < until[0] * n_steps for step in range(n_steps))
    assert phases.count(ADAPTIVE) >= 1
    assert phases[-1] == FIXED


def test_molecules_far_apart_are_as_alone() -> None:
    """Beyond the long cutoff nothing is told and nothing learned of a pair; up to it, both fade smoothly."""
    model = small(long_cutoff=6.0)
    one, two = molecule("CH3OH"), molecule("H2O")
    alone = [answer(model, atoms)[0] for atoms in (one, two)]
    two.positions += [30.0, 3.0, 0.0]
    (matrix,) = answer(model, one + two)
    n = len(alone[0])
    np.testing.assert_allclose(matrix[:n, :n], alone[0], atol=1e-12)
    np.testing.assert_allclose(matrix[n:, n:], alone[1], atol=1e-12)
    assert not matrix[:n, n:].any()
    pair = [Atoms("OO", [[0, 0, 0], [0, 0, z]]) for z in (5.9999, 6.0001)]
    within, beyond = answer(model, *pair)
    np.testing.assert_allclose(within, beyond, atol=1e-9)


def test_shapes_of_before_fading_answer_as_they_did() -> None:
    """A checkpoint that says nothing of it was trained without."""
    model = small(fading=False)
    old = {key: value for key, value in model.hyperparameters().items() if key != "fading"}
    again = SPHNet.from_hyperparameters(old, model.info).double().eval()
    again.load_state_dict(model.state_dict())
    ours, theirs = (answer(one, molecule("CH3OH"))[0] for one in (model, again))
    assert np.array_equal(ours, theirs)
    assert np.abs(answer(small(), molecule("CH3OH"))[0] - ours).max() > 1e-6


def test_the_choice_is_saved_and_only_training_moves_it(tmp_path: Path) -> None:
    """A restored model computes the same smaller products; predictions choose nothing."""
    model = small(**GATED)
    before = [gate.indices() for gate in model.modules() if isinstance(gate, PathGate)]
    assert all(len(kept) == gate.n_kept for kept, gate in zip(before, gates_of(model), strict=True))
    answer(model, molecule("H2O"))
    assert [gate.indices() for gate in gates_of(model)] == before
    save_model(model, tmp_path / "small.safetensors")
    again: Any = load_any_model(tmp_path / "small.safetensors", "float64", "cpu")
    assert [gate.indices() for gate in gates_of(again)] == before
    ours, theirs = answer(model, molecule("CH3OH"))[0], answer(again, molecule("CH3OH"))[0]
    assert np.array_equal(ours, theirs)
    with pytest.raises(ModelError, match="hamiltonian predictor"):
        load_model_file(tmp_path / "small.safetensors")


def gates_of(model: Any) -> list[PathGate]:
    return [module for module in model.modules() if isinstance(module, PathGate)]


def test_fewer_paths_are_computed_not_masked() -> None:
    model = small(**GATED)
    for module in model.modules():
        if isinstance(module, gated.GatedProduct):
            table, kept = module.table()
            if kept is None:  # the spherical layers make all degrees
                assert module.gate.n_kept == len(module.paths)
                continue
            assert len(table.paths) == len(kept) == module.gate.n_kept < len(module.paths)
            kinds = {(path.result, path.natural) for path in module.paths}
            assert {(path.result, path.natural) for path in table.paths} == kinds


def test_pairs_are_chosen_within_their_molecule() -> None:
    with seeded_generator(0):
        gate = PairGate(3, 0.5).double()
    one = torch.from_numpy(np.random.default_rng(0).standard_normal((10, 3)))
    other = 100 + torch.from_numpy(np.random.default_rng(1).standard_normal((6, 3)))
    alone, factor = gate(one, torch.zeros(10, dtype=torch.int64))
    molecule_of = torch.tensor([0] * 10 + [1] * 6)
    both, factors = gate(torch.cat([one, other]), molecule_of)
    assert len(alone) == 5
    assert len(both) == 8
    assert torch.equal(both[:5], alone)
    torch.testing.assert_close(factors[:5], factor)
    assert float(factor.detach().min()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prior": "hueckel"}, "prior"),
        ({"max_degree": 3}, "max_degree"),
        ({"channels": 9}, "heads"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"random_until": 0.5}, "random_until"),
        ({"short_cutoff": 20.0}, "short_cutoff"),
        ({"depth": 3}, "depth"),
        ({"shells": {}}, "shells"),
    ],
)
def test_shapes_that_do_not_exist_are_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        small(**changes)


def test_what_it_was_not_trained_on_is_refused() -> None:
    model = small()
    with pytest.raises(ModelError, match="N"):
        answer(model, molecule("NH3"))
    charged = molecule("H2O")
    charged.info["charge"] = 1
    with pytest.raises(ModelError, match="charge"):
        answer(model, charged)


def test_any_basis_set_will_do() -> None:
    """Triple zeta with f shells (blocks up to l = 6), and shells in mixed order: exact all the same."""
    shells = {1: [0, 0, 0, 1], 8: [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3]}
    for changes in ({"shells": shells, "max_degree": 6}, {"shells": {1: [1, 0], 8: [2, 0, 1, 0]}}):
        with seeded_generator(0):
            settings = {**SMALL, **changes, "channels": 4, "bottleneck": 4}
            model = SPHNet.fresh("x", sorted(changes["shells"]), settings).double().eval()
        atoms, rotation = molecule("H2O"), turn(5)
        (matrix,) = answer(model, atoms)
        other = atoms.copy()
        other.positions = atoms.positions @ rotation.T
        own = [model.shells_of(int(z)) for z in atoms.numbers]
        assert np.abs(answer(model, other)[0] - rotate_matrix(matrix, own, rotation)).max() < 1e-11
        assert np.abs(matrix).max() > 1e-3

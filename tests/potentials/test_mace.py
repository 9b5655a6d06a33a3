"""Laws of MACE: equivariant couplings, heads, checkpoints, foreign bases, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import bulk, molecule
from e3nn import o3

from atomml import load_model
from atomml.checkpoint import save_model
from atomml.errors import ModelError
from atomml.graph import build_graph
from atomml.potentials.mace import MACE, MACEConfig
from atomml.potentials.mace.couplings import coupling
from atomml.registry import seeded_generator
from atomml.testing import run_conformance

SMALL = MACEConfig(
    elements=(1, 6, 8, 14),
    cutoff=4.0,
    hidden="8x0e+8x1o",
    max_degree=2,
    n_radial=6,
    radial_widths=(16, 16),
    neighbours=8.0,
)
NATURAL = ((0, 1), (1, -1), (2, 1), (3, -1))


def small(**changes: Any) -> MACE:
    """A small MACE with seeded weights, float64."""
    config = MACEConfig.from_json({**SMALL.to_json(), **changes})
    with seeded_generator(3):
        return MACE.of(config, "small").double().eval().requires_grad_(False)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "interactions": ["density", "density-residual"],
            "pair_repulsion": True,
            "distance_transform": "agnesi",
        },
        {"hidden": "4x0e+4x1o+4x1e+4x2e+4x2o", "distance_transform": "soft", "radial": "gaussian"},
        {"hidden": "4x0e+4x0o+4x1o", "radial": "chebyshev", "distance_transform": "agnesi"},
        {
            "interactions": ["nonlinear-residual", "nonlinear-residual"],
            "edge_irreps": "4x0e+4x1o",
            "edge_irreps_first": True,
            "early_cutoff": False,
            "shared_product": True,
        },
        {"interactions": ["plain"], "correlations": [4], "gate": "tanh"},
    ],
    ids=["density", "odd irreps", "pseudoscalars", "nonlinear", "order 4"],
)
def test_every_kind_obeys_the_laws_of_potentials(changes: dict[str, Any]) -> None:
    results = run_conformance(small(**changes), quick=True)
    assert len(results) > 20
    assert [(r.name, r.value, r.tolerance) for r in results if not r.passed] == []


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("target", [(0, 1), (0, -1), (1, -1), (1, 1), (2, 1), (3, -1)])
def test_couplings_turn_with_their_factors(target: tuple[int, int], order: int) -> None:
    found = coupling(NATURAL, target, order)
    features = torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turn = o3.rand_matrix().double()
    irreps = o3.Irreps("0e+1o+2e+3o")
    for matrix in (turn, -turn):
        turned = features @ irreps.D_from_matrix(matrix).double().T
        representation = o3.Irrep(*target).D_from_matrix(matrix).double()
        before, after = (
            torch.einsum("mkd,m->kd", found.coefficients, x[found.factors].prod(dim=1))
            for x in (features, turned)
        )
        torch.testing.assert_close(after, before @ representation.T, rtol=0, atol=1e-5)


def test_numbers_of_paths_are_those_of_the_paper_s_code() -> None:
    """23, 4 and 1 ways to a scalar, 51, 6 and 1 to a vector, from degrees up to 3."""
    assert [coupling(NATURAL, (0, 1), order).n_paths for order in (1, 2, 3)] == [1, 4, 23]
    assert [coupling(NATURAL, (1, -1), order).n_paths for order in (1, 2, 3)] == [1, 6, 51]


def test_a_file_with_several_heads_answers_only_by_a_chosen_one() -> None:
    model = small(heads=["pbe", "r2scan"], head=None)
    graph = build_graph(molecule("CH4"), 4.0)
    with pytest.raises(ModelError, match=r"choose one of pbe, r2scan"):
        model.predict(graph)
    first, second = (float(model.with_head(head).predict(graph).energy) for head in ("pbe", "r2scan"))
    assert abs(first - second) > 1e-3
    with pytest.raises(ModelError, match=r"no head 'scan': there are pbe, r2scan"):
        model.with_head("scan")


def test_heads_have_their_own_references_scale_and_shift() -> None:
    model = small(heads=["a", "b"], head="b")
    graph = build_graph(molecule("CO"), 4.0)
    before = float(model.predict(graph).energy)
    model.reference[1, 1] += 2.0
    model.shift[1] = 0.25
    model.reference[0] += 100.0
    assert float(model.predict(graph).energy) == pytest.approx(before + 2.0 + 2 * 0.25, abs=1e-12)
    model.shift_references({6: -2.0})
    assert model.references()[6] == pytest.approx(0.0)


def test_checkpoint_keeps_every_bit(tmp_path: Path) -> None:
    model = small(pair_repulsion=True, heads=["a", "b"], head="b")
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "float64")
    graph = build_graph(bulk("Si", cubic=True), 4.0)
    assert torch.equal(loaded.predict(graph, path="plain").energy, model.predict(graph, path="plain").energy)
    assert json.dumps(loaded.hyperparameters()) == json.dumps(model.hyperparameters())


def test_an_atom_alone_has_its_reference_energy_and_the_shift() -> None:
    model = small()
    model.reference[0] = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    alone = model.predict(build_graph(molecule("O"), 4.0))
    pair = molecule("O2")
    pair.set_distance(0, 1, 30.0)
    assert float(model.predict(build_graph(pair, 4.0)).energy) == pytest.approx(
        2 * float(alone.energy), abs=1e-12
    )


def test_training_on_forces_reaches_every_weight() -> None:
    """A loss of forces moves all weights but those that only shift energies."""
    model = small(interactions=["density", "density-residual"]).requires_grad_(True)
    graph = build_graph(molecule("CH3CH2OH"), 4.0)
    found = model.differentiable(graph, create_graph=True)
    assert found.forces is not None
    found.forces.square().sum().backward()
    still = [
        name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()
    ]
    assert still == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden": "8x0e+4x1o"}, "share one multiplicity"),
        ({"hidden": "8x1o"}, "start with 0e"),
        ({"hidden": "8x0e + nonsense"}, "no irreps"),
        ({"correlations": [5, 1]}, "1 to 4"),
        ({"correlations": [3]}, "one correlation order for each"),
        ({"max_degree": 9}, "max_degree is 0 to 4"),
        ({"interactions": ["attention", "residual"]}, "no interactions 'attention'"),
        ({"distance_transform": "log"}, "no distance_transform 'log'"),
        ({"readout": "16x1o"}, "scalars only"),
        ({"heads": ["a", "a"], "head": "a"}, "different names"),
        ({"width": 3}, "no setting 'width'"),
    ],
)
def test_shapes_that_no_mace_has_are_refused_by_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        small(**changes)

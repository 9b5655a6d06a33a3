"""DPA3 by itself: laws of potentials, switches, branches, and its fused kernels against the plain path."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from atomml import AtomMLCalculator
from atomml.errors import ModelError
from atomml.graph import build_graph
from atomml.potentials.dpa3 import DPA3, DPA3Config
from atomml.potentials.dpa3.fast import FastDPA3
from atomml.potentials.dpa3.fast.bounded import bounded_parameters, value_and_slope_of_block
from atomml.potentials.dpa3.layers import activation
from atomml.potentials.dpa3.surroundings import rest_of_switch, switch
from atomml.registry import seeded_generator
from atomml.testing import run_conformance

SMALL: dict[str, Any] = {
    "elements": [1, 6, 8, 14],
    "nlayers": 3,
    "n_dim": 32,
    "e_dim": 32,
    "a_dim": 32,
    "e_rcut": 4.5,
    "e_rcut_smth": 3.8,
    "a_rcut": 3.5,
    "a_rcut_smth": 3.0,
    "e_sel": 200,
    "a_sel": 100,
    "update_residual": 0.4,
    "neuron": [48, 48],
}
FAST: dict[str, dict[str, Any]] = {
    "published kind": {},
    "compressed by a map": {"a_compress_use_split": False, "a_compress_rate": 2},
    "not compressed": {"a_compress_rate": 0, "a_compress_e_rate": 1, "use_exp_switch": False},
    "from lengths": {"edge_init_use_dist": True, "activation": "silu", "fitting_activation": "tanh"},
    "increments": {"update_style": "res_incr", "use_dynamic_sel": False, "env_protection": 0.05},
    "two layers": {"nlayers": 2, "neuron": [24, 24, 48], "resnet_dt": False},
    "charge and spin": {"charge_spin": True, "default_charge_spin": [0.0, 1.0]},
    "data sets": {"dim_case_embd": 3, "heads": ["a", "b"], "head": "b"},
}
PLAIN_ONLY: dict[str, dict[str, Any]] = {
    "one after the other": {"sequential_update": True},
    "averages": {"update_style": "res_avg", "concat_output_tebd": True},
    "no angles": {"update_angle": False},
    "several messages": {"n_multi_edge_message": 2, "activation": "gelu"},
}


def small(**changes: Any) -> DPA3:
    """A small DPA3 with seeded weights, float64."""
    with seeded_generator(3):
        model = DPA3.of(DPA3Config.from_json({**SMALL, **changes}), "small")
    return model.double().eval().requires_grad_(False)


def crystals() -> list[Atoms]:
    """A crystal of two elements, a layer, a molecule, an atom alone."""
    layer = bulk("Si", cubic=True)
    layer.pbc = (True, True, False)
    made = [bulk("SiO", "zincblende", 4.6, cubic=True), layer, molecule("CH3CH2OH"), molecule("O")]
    for seed, atoms in enumerate(made):
        atoms.rattle(0.1, seed=seed)
    return made


QUICK = ("published kind", "not compressed", "one after the other")
KINDS = [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in FAST | PLAIN_ONLY]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_obeys_the_laws_of_potentials(kind: str) -> None:
    """Those whose smooth switch ends at 0 are continuous, the others jump by no more than it leaves."""
    results = run_conformance(small(**(FAST | PLAIN_ONLY)[kind]), quick=True)
    assert ("fast_path/forces" in {result.name for result in results}) == (kind in FAST)
    assert [(r.name, r.value, r.tolerance) for r in results if not r.passed] == []


@pytest.mark.parametrize("kind", ["published kind", "charge and spin"])
def test_kernels_obey_the_laws_in_float32(kind: str) -> None:
    results = run_conformance(small(**FAST[kind]), dtype="float32", quick=True)
    assert [(r.name, r.value, r.tolerance) for r in results if not r.passed] == []


@pytest.mark.parametrize("kind", FAST)
def test_kernels_answer_as_the_plain_path(kind: str) -> None:
    """In float64 to rounding; in float32 they are as near to that as the plain path is."""
    exact = small(**FAST[kind])
    rounded = small(**FAST[kind]).float()
    assert FastDPA3.supports(exact)
    for atoms in crystals():
        graph = build_graph(atoms, 4.5, 3.5)
        wanted, same = exact.predict(graph, path="plain"), exact.predict(graph, path="fast")
        plain, fast = (rounded.predict(graph, path=path) for path in ("plain", "fast"))  # type: ignore[arg-type]
        for name in ("site_energies", "forces", "stress", "atom_features", "crystal_features"):
            right, twin, one, other = (getattr(p, name).double() for p in (wanted, same, plain, fast))
            torch.testing.assert_close(twin, right, rtol=1e-11, atol=1e-11, equal_nan=True)
            scale = right.nan_to_num().abs().max() + 1
            error, allowed = ((x - right).nan_to_num().abs().max() for x in (other, one))
            assert error < 10 * allowed + 2e-6 * scale, (name, float(error), float(allowed))


@pytest.mark.parametrize("kind", PLAIN_ONLY)
def test_other_kinds_have_no_kernels(kind: str) -> None:
    assert small(**PLAIN_ONLY[kind]).fast_path() is None


def test_dense_structures_have_angles_by_the_thousand() -> None:
    """More bonds on an atom than a block has rows, and atoms without any."""
    model = small()
    atoms = bulk("Si", "fcc", 2.4)
    graph = build_graph([atoms, molecule("O"), *crystals()], 4.5, 3.5)
    plain, fast = (model.predict(graph, path=path) for path in ("plain", "fast"))  # type: ignore[arg-type]
    torch.testing.assert_close(fast.energy, plain.energy, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(fast.forces, plain.forces, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["silu", "tanh", "silut:3.0", "custom_silu:3", "silut:10.0"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_have_the_values_and_slopes_of_torch(name: str, dtype: Any) -> None:
    x = np.linspace(-40, 40, 96 * 64).reshape(96, 64).astype(dtype)
    values, slopes = x.copy(), np.empty_like(x)
    parameters = bounded_parameters(name, np.dtype(dtype))
    assert parameters is not None
    value_and_slope_of_block(values, slopes, 96, parameters)
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = activation(name)(at)
    (slope,) = torch.autograd.grad(wanted.sum(), at)
    allowed = 2e-6 if dtype == np.float32 else 1e-14  # some units in the last place of 10
    np.testing.assert_allclose(values, wanted.detach(), rtol=allowed, atol=allowed)
    np.testing.assert_allclose(slopes, slope, rtol=allowed, atol=allowed)


def test_the_polynomial_switch_has_two_continuous_derivatives() -> None:
    """Values and differences at both ends, with errors of third order in the step."""
    for at, limit in ((3.0, 1.0), (4.0, 0.0)):
        r = torch.tensor([at - 2e-4, at - 1e-4, at, at + 1e-4, at + 2e-4], dtype=torch.float64)
        s = switch(r, 3.0, 4.0, exponential=False)
        assert float((s - limit).abs().max()) < 10 * (2e-4) ** 3 * 1.01
        assert float(s.diff(n=2).abs().max()) / 1e-8 < 60 * 2e-4


@pytest.mark.parametrize(("cutoff", "start", "rest"), [(6.0, 5.3, 8e-7), (4.0, 3.5, 3e-8)])
def test_the_exponential_switch_is_cut_off_at_what_is_published(
    cutoff: float, start: float, rest: float
) -> None:
    value, slope = rest_of_switch(start, cutoff)
    assert value == pytest.approx(rest, rel=0.1)
    inside = torch.tensor([cutoff - 1e-9, cutoff - 1e-6], dtype=torch.float64)
    found = switch(inside, start, cutoff, exponential=True)
    assert float(found[0]) == pytest.approx(value, rel=1e-6)
    assert float((found[0] - found[1]) / (1e-6 - 1e-9)) == pytest.approx(slope, rel=1e-3)
    assert float(switch(torch.tensor(cutoff), start, cutoff, exponential=True)) == 0


def test_the_energy_jumps_by_what_the_switch_leaves() -> None:
    """Near the cutoff a pair's energy is proportional to the switch: the jump, too, is."""
    model = small(update_angle=False, e_rcut_smth=4.1)

    def energy(distance: float) -> float:
        """Of a pair."""
        atoms = Atoms("SiO", [[0, 0, 0], [0, 0, distance]])
        return float(model.predict(build_graph(atoms, 4.5, 3.5), forces=False, stress=False).energy)

    free = energy(4.6)
    jump, before = energy(4.5 - 1e-9) - free, energy(4.49) - free
    left = rest_of_switch(4.1, 4.5)[0]
    inside = float(switch(torch.tensor(4.49, dtype=torch.float64), 4.1, 4.5, exponential=True))
    assert abs(jump) > 1e-8
    assert jump / before == pytest.approx(left / inside, rel=0.02)


def test_a_fixed_selection_cuts_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """The sums are divided by other numbers than those of the dynamic selection, that is all."""
    fixed = small(use_dynamic_sel=False, e_sel=20, a_sel=10)
    dynamic = small(e_sel=200, a_sel=100)
    graph = build_graph(crystals()[0], 4.5, 3.5)
    with caplog.at_level("WARNING"):
        answers = [model.predict(graph) for model in (fixed, fixed, dynamic)]
    torch.testing.assert_close(answers[0].energy, answers[2].energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(answers[0].forces, answers[2].forces, rtol=0, atol=1e-12)
    assert len(caplog.records) == 1
    assert "nearest 20" in caplog.text


def test_branches_answer_differently_and_one_must_be_chosen() -> None:
    model = small(dim_case_embd=3, heads=["pbe", "r2scan"], head=None)
    atoms = crystals()[0]
    with pytest.raises(ModelError, match="pbe, r2scan"):
        model.predict(build_graph(atoms, 4.5, 3.5), path="plain")
    energies = []
    for head in ("pbe", "r2scan"):
        atoms.calc = AtomMLCalculator(model.with_head(head))
        energies.append(atoms.get_potential_energy())
    assert abs(energies[0] - energies[1]) > 1e-3
    with pytest.raises(ModelError, match="hse"):
        model.with_head("hse")


def test_charge_and_spin_change_the_answer_and_have_bounds() -> None:
    model = small(charge_spin=True)
    atoms = molecule("CH3CH2OH")
    found = []
    for charge, spin in ((0.0, 0.0), (1.0, 1.0), (-1.0, 1.0)):
        atoms.info = {"charge": charge, "spin": spin}
        found.append(float(model.predict(build_graph(atoms, 4.5, 3.5)).energy))
    assert len({round(energy, 6) for energy in found}) == 3
    atoms.info = {"charge": 0.5, "spin": 0.0}
    with pytest.raises(ModelError, match="whole"):
        model.predict(build_graph(atoms, 4.5, 3.5))
    given = small(charge_spin=True, default_charge_spin=[1.0, 1.0])
    atoms.info = {}
    assert float(given.predict(build_graph(atoms, 4.5, 3.5)).energy) == pytest.approx(found[1], abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"e_rcut_smth": 5.0}, "switches"),
        ({"a_rcut": 5.0}, "a_rcut"),
        ({"smooth_edge_update": False}, "smooth_edge_update"),
        ({"sequential_update": True, "update_angle": False}, "sequential_update"),
        ({"a_compress_rate": 3}, "multiple"),
        ({"update_style": "other"}, "update_style"),
        ({"activation": "sine"}, "sine"),
        ({"activation": "silu:3"}, "silu:3"),
        ({"neurons": [3]}, "neurons"),
        ({"heads": ["a", "a"]}, "different"),
        ({"head": "b"}, "'b'"),
        ({"default_charge_spin": [1.0]}, "default_charge_spin"),
        ({"e_sel": 0}, "positive"),
    ],
)
def test_shapes_that_do_not_exist_are_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        small(**changes)


def test_the_published_shape_has_the_published_number_of_weights() -> None:
    """3.27 million for DPA-3.1-3M (31 data sets), 1.31 million for six layers."""
    config = DPA3Config(dim_case_embd=31)
    assert sum(p.numel() for p in DPA3.of(config, "x").parameters()) == 3_268_689
    config = DPA3Config(elements=(1, 8), nlayers=6)
    assert sum(p.numel() for p in DPA3.of(config, "x").parameters()) == pytest.approx(1.31e6, rel=0.001)


def test_blocks_cover_every_weight_once() -> None:
    model = small()
    blocks = model.blocks()
    assert list(blocks) == ["embedding", "layer-1", "layer-2", "layer-3", "fitting"]
    names = [name for block in blocks.values() for name in block]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    model.shift_references({14: 1.5})
    assert model.references()[14] == 1.5
    assert math.isclose(float(model.double().reference.sum()), 1.5)

"""Committees: the mean, the spread, cutoffs of their own, refusals, and the rule that stops dynamics."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from atomml import AtomMLCalculator, load_model
from atomml.committee import Committee
from atomml.errors import InputError, ModelError
from atomml.graph import build_graph, collate
from atomml.graph.shorter import shorter
from atomml.potentials.lennard_jones import argon
from atomml.testing import run_conformance
from atomml.workflows import md, predict


def gas(seed: int = 0) -> Atoms:
    """Solid argon, disturbed."""
    atoms = bulk("Ar", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=seed)
    return atoms


def trio() -> list[Any]:
    """Three kinds of argon with cutoffs of their own, float64."""
    models = []
    for number, cutoff in enumerate((8.5, 7.5, 6.0)):
        model = argon(cutoff, cutoff - 1.0).double()
        with torch.no_grad():
            model.epsilon *= 1 + 0.05 * number
        models.append(model.eval().requires_grad_(False))
        object.__setattr__(model.info, "name", f"argon-{number}")
    return models


def test_mean_and_spread_are_those_of_the_members() -> None:
    members = trio()
    both = collate([build_graph(gas(seed), 8.5) for seed in (0, 1)])
    found = Committee(members).predict(both)
    alone = [
        member.predict(collate([build_graph(gas(seed), member.info.cutoff) for seed in (0, 1)]))
        for member in members
    ]
    for name in ("energy", "forces", "stress", "site_energies"):
        values = torch.stack([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(found, name), values.mean(dim=0), rtol=0, atol=1e-12)
    energies = torch.stack([one.energy for one in alone])
    forces = torch.stack([one.forces for one in alone])  # type: ignore[misc]
    torch.testing.assert_close(found.energy_std, energies.std(dim=0, correction=1), rtol=0, atol=1e-12)
    squares = (forces - forces.mean(dim=0)).square().sum(dim=(0, 2)) / 2
    torch.testing.assert_close(found.forces_std, squares.sqrt(), rtol=0, atol=1e-12)
    parts = found.split(both)
    assert float(parts[1].energy_std[0]) == float(found.energy_std[1])  # type: ignore[index]


def test_a_committee_obeys_the_laws_of_potentials() -> None:
    results = run_conformance(Committee(trio()), quick=True)
    assert [(r.name, r.value) for r in results if not r.passed] == []


def test_order_of_the_members_changes_no_more_than_the_last_bits() -> None:
    members = trio()
    graph = build_graph(gas(), 8.5)
    one, other = Committee(members).predict(graph), Committee(members[::-1]).predict(graph)
    torch.testing.assert_close(one.forces, other.forces, rtol=0, atol=1e-14)
    torch.testing.assert_close(one.forces_std, other.forces_std, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bonds", [None, 3.0, 4.0])
def test_a_shortened_graph_is_the_one_that_is_built(bonds: float | None) -> None:
    far = collate([build_graph(gas(seed), 8.5, 4.5) for seed in (0, 1)])
    near = collate([build_graph(gas(seed), 6.0, bonds) for seed in (0, 1)])
    cut = shorter(far, 6.0, bonds)
    for name in ("edge_index", "edge_shift", "edge_reverse"):
        assert torch.equal(getattr(cut, name), getattr(near, name))
    assert (cut.bond_graph is None) == (near.bond_graph is None)
    bare = collate([build_graph(gas(seed), 8.5) for seed in (0, 1)])
    assert shorter(bare, 6.0, bonds).bond_graph is None
    again = shorter(bare, 6.0, bonds, angles=True).bond_graph
    assert (again is None) == (bonds is None)
    if cut.bond_graph is not None and near.bond_graph is not None and again is not None:
        assert torch.equal(again.angle_index, near.bond_graph.angle_index)
        assert torch.equal(cut.bond_graph.angle_index, near.bond_graph.angle_index)
        assert torch.equal(cut.bond_graph.bonds, near.bond_graph.bonds)


def test_published_models_of_one_family_by_their_names() -> None:
    model = load_model("chgnet-0.3.0,chgnet-0.2.0", "float64")
    atoms = bulk("NaCl", "rocksalt", 5.6)
    atoms.rattle(0.05, seed=0)
    atoms.calc = AtomMLCalculator(model)
    forces = atoms.get_forces()
    each = []
    for name in ("chgnet-0.3.0", "chgnet-0.2.0"):
        atoms.calc, other = AtomMLCalculator(load_model(name, "float64")), atoms.calc
        each.append(atoms.get_forces())
        atoms.calc = other
    np.testing.assert_allclose(forces, np.mean(each, axis=0), rtol=0, atol=1e-12)
    spread = np.linalg.norm(np.std(each, axis=0, ddof=1), axis=1)
    atoms.get_forces()
    np.testing.assert_allclose(atoms.calc.results["forces_std"], spread, rtol=0, atol=1e-12)
    digests = "".join(member.info.sha256 for member in model.members)  # type: ignore[union-attr]
    assert model.info.sha256 == hashlib.sha256(digests.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("chgnet-0.3.0,", "two models or more"),
        ("chgnet-0.3.0,chgnet", "chgnet-0.3.0 twice"),
        ("chgnet-0.3.0,no-such-model", "no model called 'no-such-model'"),
    ],
)
def test_what_is_no_committee_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(name)


def test_a_committee_knows_the_elements_that_all_members_know() -> None:
    model = load_model("chgnet-0.3.0,lj-argon", "float64")
    assert set(model.info.elements) == {10, 18, 36, 54}
    with pytest.raises(ModelError, match="Atom 0 is Si"):
        model.predict(build_graph(bulk("Si"), model.info.cutoff, model.info.bond_cutoff))


def test_predictions_carry_the_spread(tmp_path: Path) -> None:
    predict([gas(0), gas(1)], Committee(trio()), out=tmp_path / "run")
    with (tmp_path / "run" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    wanted = Committee(trio()).predict(build_graph(gas(1), 8.5))
    assert float(rows[1]["energy_std_eV"]) == pytest.approx(float(wanted.energy_std[0]), abs=1e-12)  # type: ignore[index]
    largest = float(wanted.forces_std.max())  # type: ignore[union-attr]
    assert float(rows[1]["max_force_std_eV_per_A"]) == pytest.approx(largest, abs=1e-12)
    assert "forces_std:R:1" in (tmp_path / "run" / "predictions.extxyz").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [one["name"] for one in summary["model"]["members"]] == ["argon-0", "argon-1", "argon-2"]


def _dynamics(out: Path, **options: Any) -> Any:
    settings = {"temperature": "80", "timestep": 4.0, "every": 7, "seed": 3, "dtype": "float64"}
    return md(gas(), Committee(trio()), out=out, **{**settings, "steps": 60, **options})


def test_dynamics_stops_at_the_first_step_that_is_too_uncertain(tmp_path: Path) -> None:
    free = _dynamics(tmp_path / "free", every=1)
    with (tmp_path / "free" / "log.csv").open() as stream:
        spreads = [float(row["largest_forces_std_eV_per_A"]) for row in csv.DictReader(stream)]
    limit = sorted(spreads[1:])[-5]
    first = next(step for step, spread in enumerate(spreads) if step and spread > limit)
    stopped = _dynamics(tmp_path / "stopped", stop_at_uncertainty=limit)
    assert free.uncertain_atom is None
    assert stopped.steps == first
    assert stopped.forces_std == pytest.approx(spreads[first], abs=1e-12)
    assert any(f"Stopped at step {first}: the models differ" in sentence for sentence in stopped.warnings)
    with (tmp_path / "stopped" / "log.csv").open() as stream:
        assert int(list(csv.DictReader(stream))[-1]["step"]) == first
    again = _dynamics(tmp_path / "stopped", stop_at_uncertainty=limit, resume=True)
    assert again.steps == first
    on = _dynamics(tmp_path / "stopped", stop_at_uncertainty=10 * limit, resume=True)
    assert on.steps == 60
    np.testing.assert_array_equal(on.atoms.positions, free.atoms.positions)


def test_the_rule_needs_a_committee(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model a,b,c"):
        md(gas(), trio()[0], out=tmp_path / "run", stop_at_uncertainty=0.1, steps=1)

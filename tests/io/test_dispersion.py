"""D3 on top of any model: added exactly, differentiable, periodic in any directions, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene
from ase.units import Bohr, Hartree, kcal, mol
from dftd3.interface import DispersionModel, RationalDampingParam

from atomml import AtomMLCalculator, load_model
from atomml.cli.main import main
from atomml.dispersion import Dispersed, split_dispersion
from atomml.errors import ModelError
from atomml.graph import build_graph, collate
from atomml.potentials.lennard_jones import LennardJones, argon
from atomml.testing import run_conformance


def silent() -> LennardJones:
    """A model that says nothing of noble gases: what is left is the correction."""
    model = argon().double().eval().requires_grad_(False)
    with torch.no_grad():
        model.epsilon.zero_()
    return model


def argon_crystal() -> Atoms:
    """Disturbed."""
    atoms = bulk("Ar", cubic=True) * (1, 1, 2)
    atoms.rattle(0.1, seed=0)
    return atoms


def test_the_laws_of_potentials_hold() -> None:
    """Forces, stress and force constants by differences, invariances, batches, extensivity, the fast path."""
    results = run_conformance(Dispersed(argon().double().eval(), "d3bj:pbe"), quick=True)
    assert [(r.name, r.value) for r in results if not r.passed] == []


def test_the_correction_is_added_and_nothing_else() -> None:
    plain, both = load_model("lj-argon", "float64"), load_model("lj-argon+d3zero:pbe", "float64")
    graph = collate([build_graph(atoms, 8.5) for atoms in (argon_crystal(), bulk("Ar"))])
    alone = Dispersed(silent(), "d3zero:pbe").predict(graph)
    found, without = both.predict(graph), plain.predict(graph)
    for name in ("energy", "forces", "stress", "site_energies"):
        total = getattr(without, name) + getattr(alone, name)
        torch.testing.assert_close(getattr(found, name), total, rtol=0, atol=1e-12)
    assert float(alone.energy.min()) < -0.01


def test_a_pair_has_the_energy_that_dftd3_gives_it() -> None:
    """The published package is asked in its own units; at 3.76 Å argon is bound by 0.15 kcal/mol or so."""
    pair = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.76]])
    own = DispersionModel(pair.numbers, pair.positions / Bohr)
    wanted = float(own.get_dispersion(RationalDampingParam(method="pbe"), grad=False)["energy"]) * Hartree
    found = float(Dispersed(silent(), "d3bj:pbe").predict(build_graph(pair, 8.5)).energy)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert -0.4 < found / (kcal / mol) < -0.05


def test_an_atom_alone_has_none() -> None:
    found = Dispersed(silent(), "d3bj:pbe").predict(build_graph(Atoms("Ar"), 8.5))
    assert float(found.energy) == 0
    assert bool(found.stress.isnan().all())  # type: ignore[union-attr]


def test_layers_and_wires_are_not_torn_by_their_cell() -> None:
    """A layer that lies across the edge of its cell, in a direction that is not periodic, stays one layer."""
    model = load_model("chgnet-0.3.0+d3bj:pbe", "float64")
    layer = graphene(size=(2, 2, 1), vacuum=5.0)
    assert list(layer.pbc) == [True, True, False]
    layer.rattle(0.05, seed=1)
    other = layer.copy()
    other.positions[:, 2] += 5.1
    other.cell[2] = [0.3, 0.2, 11.0]
    energies = []
    for atoms in (layer, other):
        atoms.calc = AtomMLCalculator(model)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)
    np.testing.assert_allclose(layer.get_forces(), other.get_forces(), rtol=0, atol=1e-8)


def test_graphite_is_held_together_by_it() -> None:
    """CHGNet, trained on PBE, hardly binds the layers; D3(BJ) binds them by 30 to 80 meV an atom."""
    near = bulk("C", "hcp", a=2.46, c=6.7)
    near.set_scaled_positions([[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]])
    near = Atoms("C4", cell=near.cell, pbc=True)
    near.set_scaled_positions([[0, 0, 0.25], [1 / 3, 2 / 3, 0.25], [0, 0, 0.75], [2 / 3, 1 / 3, 0.75]])
    far = near.copy()
    far.set_cell(near.cell.array * np.array([[1], [1], [3]]), scale_atoms=True)
    values = {}
    for name in ("chgnet-0.3.0", "chgnet-0.3.0+d3bj:pbe"):
        model = load_model(name, "float64")
        energies = []
        for atoms in (near, far):
            atoms.calc = AtomMLCalculator(model)
            energies.append(atoms.get_potential_energy() / 4)
        values[name] = energies[1] - energies[0]
    assert 0.03 < values["chgnet-0.3.0+d3bj:pbe"] - values["chgnet-0.3.0"] < 0.08


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lj-argon+d3xy:pbe", "no damping 'd3xy': choose from d3bj, d3zero"),
        ("lj-argon+d3bj:nonsense", "no parameters of 'nonsense' for d3bj"),
        ("no-such-model+d3bj:pbe", "no model called 'no-such-model'"),
    ],
)
def test_what_there_is_not_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(name)


def test_names_are_taken_apart() -> None:
    assert split_dispersion("a,b+d3bj:pbe0") == ("a,b", "d3bj:pbe0")
    assert split_dispersion("my+model") == ("my+model", None)


def test_a_committee_keeps_its_spread() -> None:
    model = load_model("chgnet-0.3.0,chgnet-0.2.0+d3bj:pbe", "float64")
    graph = build_graph(bulk("NaCl", "rocksalt", 5.6), 6.0, 3.0)
    assert model.predict(graph).energy_std is not None
    assert model.info.name == "chgnet-0.3.0,chgnet-0.2.0+d3bj:pbe"


def test_the_flag_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structure = tmp_path / "argon.xyz"
    argon_crystal().write(structure, format="extxyz")
    command = ["predict", str(structure), "--model", "lj-argon", "--dtype", "float64", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "a"), "--dispersion", "d3bj:pbe"]) == 0
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["model"]["name"] == "lj-argon+d3bj:pbe"
    wanted = load_model("lj-argon+d3bj:pbe", "float64").predict(build_graph(argon_crystal(), 8.5))
    assert summary["results"]["energy_eV"] == pytest.approx(float(wanted.energy), abs=1e-6)
    assert main([*command, "--out", str(tmp_path / "b"), "--dispersion", "d3bj"]) == 2
    assert main(["predict", str(structure), "--model", "ase:a:B", "--dispersion", "d3bj:pbe"]) == 2
    assert "is an ASE calculator" in capsys.readouterr().err

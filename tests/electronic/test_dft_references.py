"""``dft label`` and dispersion: references that training reads, and what is added to functionals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule

from atomml.cli.main import main
from atomml.data.label import label
from atomml.electronic.dft_calculator import AtomMLDFT
from atomml.electronic.mean_field import MeanFieldLevel
from atomml.electronic.reactions import read_reactions
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import FileFormatError, OptionError, StructureError
from atomml.potentials.xc import closed_form
from atomml.workflows.electronic.dft_energy import dft_energy, dft_optimize
from atomml.workflows.electronic.dft_label import dft_label

pytest.importorskip("pyscf")

FAST: dict[str, Any] = {"basis": "sto-3g", "grid": 0}


def hydrogen(distance: float) -> Atoms:
    return Atoms("H2", [[0, 0, 0], [0, 0, distance]])


def test_two_electrons_are_the_same_by_clusters_and_by_full_interaction(tmp_path: Path) -> None:
    """CCSD is exact for two electrons; binding is a difference of total energies; training reads it."""
    found = {}
    for method in ("ccsd(t)/sto-3g", "fci/sto-3g"):
        to = tmp_path / f"{method[:3]}.yaml"
        result = dft_label([hydrogen(0.74), hydrogen(1.5)], to, method=method)
        assert result.n_molecules == 2
        found[method] = [reaction.energy for reaction in read_reactions(to).reactions]
    np.testing.assert_allclose(found["ccsd(t)/sto-3g"], found["fci/sto-3g"], atol=1e-8)
    total = label(hydrogen(0.74), "fci/sto-3g").energy
    assert total is not None
    assert found["fci/sto-3g"][0] == pytest.approx(total / 27.211386024367243 + 2 * 0.46658185, abs=1e-6)


def test_labels_go_from_the_command_line_to_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hydrogen(0.8).write("h2.xyz")
    call = ["dft", "label", "h2.xyz", "--method", "fci/sto-3g", "--to", "r.yaml", "--quiet"]
    assert main(call) == 0
    assert main(call) == 2
    assert "r.yaml is there" in capsys.readouterr().err
    assert main([*call, "--overwrite"]) == 0
    assert main(["dft", "label", "h2.xyz"]) == 2
    assert "--to" in capsys.readouterr().err
    evaluate = ["dft", "evaluate", "r.yaml", "--functional", "pbe", "--basis", "sto-3g", "--grid", "0"]
    assert main([*evaluate, "--quiet"]) == 0


def test_what_full_interaction_cannot_hold_is_refused() -> None:
    with pytest.raises(StructureError, match="determinants"):
        label(molecule("C6H6"), "fci/sto-3g")
    with pytest.raises(OptionError, match="no mean field"):
        label(hydrogen(0.7), "mp4/sto-3g")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"unit": "Eh", "energy": -109.0}, "unit right"),
        ({"bound": "D0"}, "zero_point"),
        ({"bound": "D298"}, "De"),
        ({"dipoles": {"H2": [0, 0]}}, "three numbers"),
        ({"dipoles": {"HF": [0, 0, 1]}}, "no such species"),
    ],
)
def test_traps_of_units_are_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    given = {"unit": "kcal/mol", "energy": -109.0} | changes
    pair = [["H", 0, 0, 0], ["H", 0, 0, 0.74]]
    species = {"H": {"atoms": pair[:1], "spin": 1}, "H2": {"atoms": pair}}
    reaction = {"species": {"H2": 1, "H": -2}, "energy": given.pop("energy")}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"species": species, "reactions": [reaction], **given}))
    with pytest.raises(FileFormatError, match=word):
        read_reactions(path)


@pytest.mark.parametrize("dispersion", ["d3bj:pbe", "d4:pbe"])
def test_dispersion_is_added_to_energy_and_forces(dispersion: str) -> None:
    """The difference is the package's own energy; forces are the slope of the sum."""
    pytest.importorskip("pyscf.dispersion")
    atoms = Atoms("Ne2", [[0, 0, 0], [0, 0, 3.0]])
    plain = dft_energy(atoms, functional="pbe", **FAST)
    added = dft_energy(atoms, functional="pbe", dispersion=dispersion, **FAST)
    named = dft_energy(atoms, functional=f"libxc:pbe-{dispersion[:-4]}", **FAST)
    assert added.energy < plain.energy
    assert added.energy_Eh == pytest.approx(named.energy_Eh, abs=1e-8)
    np.testing.assert_allclose(added.forces, named.forces, atol=1e-5)
    assert f"dispersion={dispersion}" in added.method
    level = MeanFieldLevel(closed_form("pbe"), "sto-3g", ScfSettings(grid=0), dispersion=dispersion)
    atoms.calc = AtomMLDFT(level)
    assert atoms.get_potential_energy() == pytest.approx(added.energy, abs=1e-6)


def test_a_coarse_grid_saves_cycles_and_changes_nothing() -> None:
    """The density that a coarse grid gives is a start: fewer cycles on the full one, the same end."""
    level = MeanFieldLevel("pbe", "sto-3g", ScfSettings(conv_tol=1e-9))
    atoms = molecule("C2H4")
    cycles = {}
    fields = {}
    for start in ("coarse", "default"):
        count: list[int] = []
        field = level.mean_field(atoms)
        field.callback = lambda state, count=count, field=field: count.append(state["mf"] is field)
        dm0 = None if start == "coarse" else field.get_init_guess()
        fields[start], method = level.converge(field, dm0)
        cycles[start] = sum(count)
        assert method == level.method
    assert fields["coarse"].grids.level == 3
    assert fields["coarse"].e_tot == pytest.approx(fields["default"].e_tot, abs=1e-8)
    assert 0 < cycles["coarse"] < cycles["default"]


def test_wrong_dispersion_is_refused() -> None:
    pytest.importorskip("pyscf.dispersion")
    wrong = {"d3": "no dispersion", "d5:pbe": "no dispersion", "d3bj:unknown": "no parameters"}
    for text, word in wrong.items():
        with pytest.raises(OptionError, match=word):
            dft_energy(hydrogen(0.7), dispersion=text, **FAST)
    with pytest.raises(OptionError, match="already"):
        dft_energy(hydrogen(0.7), functional="libxc:pbe-d3bj", dispersion="d3bj:pbe", **FAST)


def test_open_shells_relax_and_the_last_field_is_used_again() -> None:
    """A radical relaxes; energy and forces are those of a calculation at the end."""
    atoms = molecule("NH2")
    atoms.info["spin"] = 1
    found = dft_optimize(atoms, functional="pbe", fmax=0.02, **FAST)
    assert found.converged
    again = dft_energy(found.atoms, functional="pbe", **FAST)
    assert found.energy_Eh == pytest.approx(again.energy_Eh, abs=1e-7)
    np.testing.assert_allclose(found.forces, again.forces, atol=1e-3)

"""``dft label`` and dispersion: references that training reads, and what is added to functionals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from ase.io import write

from atomml.cli.main import main
from atomml.data.dataset import open_dataset
from atomml.data.label import LabelSettings, engine_of, label
from atomml.electronic.dft_calculator import AtomMLDFT
from atomml.electronic.mean_field import MeanFieldLevel, dipole_of
from atomml.electronic.reactions import ReactionSet, Species, read_reactions
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import FileFormatError, OptionError, StructureError
from atomml.potentials.xc import closed_form
from atomml.potentials.xc.files import load_functional
from atomml.workflows.datasets.data_label import label_data
from atomml.workflows.electronic.dft_energy import dft_energy, dft_optimize
from atomml.workflows.electronic.dft_label import dft_label
from atomml.workflows.electronic.functional_terms import terms_of
from atomml.workflows.electronic.functional_training import FunctionalTrainOptions, train_functional

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
    assert (tmp_path / "dft-evaluate-r" / "summary.json").exists()


def density_of(atoms: Atoms, method: str) -> Any:
    """Of both spins."""
    return engine_of(method, LabelSettings(density=True)).label(atoms).matrices["density"]


@pytest.mark.parametrize("method", ["ccsd/6-31g", "ccsd(t)/6-31g"])
def test_densities_of_two_electrons_are_those_of_full_interaction(method: str) -> None:
    """Stretched hydrogen, whose density Hartree-Fock has far off; clusters are exact there."""
    exact = density_of(hydrogen(1.4), "fci/6-31g")
    np.testing.assert_allclose(density_of(hydrogen(1.4), method), exact, atol=1e-5)
    assert np.abs(density_of(hydrogen(1.4), "hf/6-31g") - exact).max() > 1e-2


@pytest.mark.parametrize(
    ("method", "spin"), [("fci", 0), ("fci", 1), ("ccsd", 0), ("ccsd", 1), ("ccsd(t)", 0)]
)
def test_dipoles_are_the_slope_of_the_energy_in_a_field(method: str, spin: int) -> None:
    """Central differences of 1e-4 atomic units, Hartree-Fock's orbitals kept: that is unrelaxed."""
    from pyscf import cc, fci, scf

    atoms = Atoms("BeH" if spin else "LiH", [[0, 0, 0], [0, 0, 1.5]], info={"charge": 0, "spin": spin})
    dm = density_of(atoms, f"{method}/sto-3g")
    mol = MeanFieldLevel("hf", "sto-3g", ScfSettings()).molecule(atoms)
    z, core = mol.intor_symmetric("int1e_r")[2], mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    kind = scf.RHF if not spin else (scf.ROHF if method == "fci" else scf.UHF)
    field = kind(mol).run(conv_tol=1e-12)
    energies = []
    for strength in (1e-4, -1e-4):
        field.get_hcore = lambda *_, strength=strength: core + strength * z
        if method == "fci":
            energies.append(float(fci.FCI(field).kernel()[0]))
            continue
        clusters = cc.CCSD(field).run(conv_tol=1e-11, conv_tol_normt=1e-9)
        determinant = field.energy_tot(dm=field.make_rdm1())
        triples = clusters.ccsd_t() if method == "ccsd(t)" else 0.0
        energies.append(float(determinant + clusters.e_corr + triples))
    slope = (energies[0] - energies[1]) / 2e-4
    assert float((dm * z).sum()) == pytest.approx(slope, abs=2e-5)


def test_a_store_keeps_densities_and_text_does_not(tmp_path: Path) -> None:
    """``data label --density``: the matrix comes back from the store; an extended XYZ file is refused."""
    how: dict[str, Any] = {"method": "ccsd/sto-3g", "density": True}
    label_data([molecule("H2O")], to=tmp_path / "set.lmdb", **how)
    entry = open_dataset(tmp_path / "set.lmdb", unlabelled=True)[0]
    np.testing.assert_array_equal(entry.matrices["density"], density_of(molecule("H2O"), "ccsd/sto-3g"))
    assert entry.method.endswith("density=unrelaxed")
    with pytest.raises(OptionError, match=r"set\.lmdb"):
        label_data([molecule("H2O")], to=tmp_path / "set.extxyz", **how)


def test_labels_of_densities_are_learned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dipole and density of lithium hydride by full interaction: both errors fall in a short training."""
    to = tmp_path / "r.yaml"
    atoms = Atoms("LiH", [[0, 0, 0], [0, 0, 1.6]])
    label_of = dft_label([atoms], to, method="fci/sto-3g", density=True, out=tmp_path / "labels")
    assert label_of.density_file == str(tmp_path / "r.density.safetensors")
    given = read_reactions(to)
    molecule_of = MeanFieldLevel("hf", "sto-3g", ScfSettings()).molecule(given.species["HLi"].atoms)
    charges, places = molecule_of.atom_charges(), molecule_of.atom_coords()
    electrons = np.einsum("xij,ij->x", molecule_of.intor("int1e_r"), given.densities["HLi"])
    debye = 2.541746473  # e bohr
    np.testing.assert_allclose(given.dipoles["HLi"], debye * (charges @ places - electrons), atol=1e-5)
    tree = yaml.safe_load(to.read_text())
    tree["reactions"][0]["weight"] = 1e-9
    to.write_text(yaml.safe_dump(tree))
    errors = {}
    for dipole, density in ((0.0, 0.0), (1e6, 0.0), (0.0, 1e6)):
        weights: dict[str, Any] = {"dipole_weight": dipole, "density_weight": density}
        out = tmp_path / f"train-{dipole:g}-{density:g}"
        how = weights | FAST | {"epochs": 3, "valid_every": 3, "widths": (4,)}
        found = "pbe" if not any(weights.values()) else train_functional(to, out=out, **how).functional
        level = MeanFieldLevel(load_functional(found), "sto-3g", ScfSettings(grid=0))
        field, _ = level.converge(level.mean_field(given.species["HLi"].atoms))
        error = field.make_rdm1() - given.densities["HLi"]
        values = field._numint.eval_ao(field.mol, field.grids.coords)
        rho = np.einsum("gi,ij,gj->g", values, error, values)
        off = float(np.linalg.norm(dipole_of(field) - given.dipoles["HLi"]))
        errors[dipole, density] = off, float(field.grids.weights @ rho**2)
    assert errors[1e6, 0.0][0] < errors[0.0, 0.0][0]
    assert errors[0.0, 1e6][1] < errors[0.0, 0.0][1]
    call = ["dft", "train", str(to), "--epochs", "1", "--out", str(tmp_path / "other"), "--quiet"]
    assert main([*call, "--basis", "6-31g"]) == 2
    assert "in sto-3g and the training in 6-31g" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(OptionError, match="no density"):
        dft_label([atoms], tmp_path / "g.yaml", method="gfn2", density=True)


def test_densities_over_core_potentials_are_of_the_electrons_that_are_left() -> None:
    """Iodine's core is no part of the matrix, and the check of a training counts as the matrix does."""
    species = Species("HI", Atoms("HI", [[0, 0, 0], [0, 0, 1.6]], info={"charge": 0, "spin": 0}))
    field = MeanFieldLevel("hf", "def2-svp", ScfSettings()).mean_field(species.atoms)
    matrix = field.run().make_rdm1()
    assert float((matrix * field.get_ovlp()).sum()) == pytest.approx(26)
    options = FunctionalTrainOptions(basis="def2-svp", density_weight=1.0)
    assert terms_of(ReactionSet({"HI": species}, [], {}, {"HI": matrix}, "def2-svp"), options)
    with pytest.raises(OptionError, match="26 electrons"):
        terms_of(ReactionSet({"HI": species}, [], {}, {"HI": 1.1 * matrix}, "def2-svp"), options)


@pytest.mark.slow
def test_a_killed_labelling_goes_on_to_the_same_file(tmp_path: Path, root: Path) -> None:
    """``kill -9`` after some labels: energies, dipoles and densities have the bits of an unbroken run."""
    frames = [molecule("H2O") for _ in range(5)]
    for k, frame in enumerate(frames):
        frame.rattle(0.02, seed=k)
    write(tmp_path / "waters.extxyz", frames)
    words = ["dft", "label", "waters.extxyz", "--method", "ccsd(t)/6-31g", "--density", "--quiet"]
    call = [sys.executable, "-m", "atomml.cli.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for out, more in (("whole", []), ("killed", ["kill"]), ("killed", ["--resume"])):
        line = [*call, "--out", out, "--to", f"{out}.yaml", *(more if more != ["kill"] else [])]
        process = subprocess.Popen(line, cwd=tmp_path, env=environment)
        events = tmp_path / out / "labels" / "events.jsonl"
        while more == ["kill"] and (not events.exists() or events.read_text().count('"label"') < 4):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        if more == ["kill"]:
            process.kill()
        assert process.wait() == (-signal.SIGKILL if more == ["kill"] else 0)
        assert (tmp_path / f"{out}.yaml").exists() == (more != ["kill"])
    texts = [(tmp_path / f"{name}.yaml").read_text().replace(name, "") for name in ("whole", "killed")]
    files = [(tmp_path / f"{name}.density.safetensors").read_bytes() for name in ("whole", "killed")]
    assert texts[0] == texts[1]
    assert files[0] == files[1]


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

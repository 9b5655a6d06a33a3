"""``atomml dft``: energies and geometries as a user asks for them, and a functional that learns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.io import write

from atomml.cli.main import main
from atomml.electronic.reactions import read_reactions
from atomml.errors import CheckpointError, FileFormatError, OptionError
from atomml.potentials.xc.files import load_functional, save_functional
from atomml.potentials.xc.learned import LearnedFunctional
from atomml.workflows.electronic.dft_energy import dft_energy, dft_optimize
from atomml.workflows.electronic.functional_evaluation import evaluate_functional
from atomml.workflows.electronic.functional_training import train_functional

pytest.importorskip("pyscf")

FAST: dict[str, Any] = {"basis": "sto-3g", "grid": 0}


def test_energy_and_forces_are_those_of_libxc(tmp_path: Path) -> None:
    ours = dft_energy(molecule("H2O"), functional="pbe", out=tmp_path / "run", **FAST)
    theirs = dft_energy(molecule("H2O"), functional="libxc:pbe", **FAST)
    assert ours.energy_Eh == pytest.approx(theirs.energy_Eh, abs=1e-9)
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-6)
    assert ours.dipole == pytest.approx(theirs.dipole, abs=1e-6)
    assert ours.gap == pytest.approx(ours.lumo - ours.homo)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["results"]["energy_Eh"] == ours.energy_Eh
    assert "pbe/sto-3g grid=0" in summary["results"]["method"]


def test_a_relaxed_molecule_has_no_forces_and_lies_lower() -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=3)
    before = dft_energy(atoms, functional="b3lyp", **FAST)
    after = dft_optimize(atoms, functional="b3lyp", fmax=0.005, **FAST)
    assert after.converged
    assert after.max_force is not None
    assert after.max_force < 0.005
    assert after.energy < before.energy


def test_wrong_charges_and_failed_scfs_give_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"))
    call = ["dft", "energy", str(tmp_path / "water.xyz"), "--basis", "sto-3g", "--grid", "0"]
    out = ["--out", str(tmp_path / "run")]
    assert main([*call, *out, "--charge", "1"]) == 2
    assert "9 electrons" in capsys.readouterr().err
    assert main([*call, *out, "--functional", "pbe1"]) == 2
    assert "r2scan" in capsys.readouterr().err
    assert main([*call, *out, "--max-cycle", "1"]) == 1
    told = capsys.readouterr().err
    assert "DIIS" in told
    assert "shifted" in told
    assert not (tmp_path / "run" / "structure.extxyz").exists()
    assert main([*call, *out, "--overwrite", "--quiet"]) == 0
    assert main(["dft", "functionals"]) == 0
    assert "0.72 b88" in capsys.readouterr().out


Writer = Callable[..., Path]


@pytest.fixture
def reactions(tmp_path: Path) -> Writer:
    """Writes a file of H2's binding energies by FCI in the minimal basis."""

    def make(name: str, distances: tuple[float, ...], **changes: Any) -> Path:
        """One reaction for each distance."""
        from pyscf import fci, gto, scf

        species: dict[str, Any] = {"H": {"atoms": [["H", 0, 0, 0]], "spin": 1}}
        rows = []
        for d in distances:
            atoms = [["H", 0.0, 0.0, 0.0], ["H", 0.0, 0.0, d]]
            mol = gto.M(atom=[(a[0], a[1:]) for a in atoms], basis="sto-3g", verbose=0)
            energy = float(fci.FCI(scf.RHF(mol).run()).kernel()[0]) + 2 * 0.46658185
            species[f"H2 {d}"] = {"atoms": atoms}
            rows.append({"name": f"H2 {d}", "species": {f"H2 {d}": 1, "H": -2}, "energy": energy})
        path = tmp_path / f"{name}.yaml"
        tree = {"unit": "Eh", "species": species, "reactions": rows} | changes
        path.write_text(yaml.safe_dump(tree))
        return path

    return make


def test_training_lowers_self_consistent_errors_and_resumes_to_the_same_bits(
    reactions: Writer, tmp_path: Path
) -> None:
    """On stretched hydrogen, and on distances between; interrupted in the middle, the file is the same."""
    from atomml.workflows.electronic import functional_training

    train, valid = reactions("train", (0.7, 1.0, 1.6)), reactions("valid", (0.85, 1.3))
    how: dict[str, Any] = {"epochs": 8, "valid_every": 2, "learning_rate": 0.03, "widths": (6,), **FAST}
    result = train_functional(train, valid, out=tmp_path / "whole", **how)
    assert result.train_mae < 0.6 * result.train_before
    assert result.valid_mae is not None
    assert result.valid_before is not None
    assert result.valid_mae < result.valid_before
    assert result.converged_share == 1
    judged = evaluate_functional(result.functional, valid, **FAST)
    assert judged.mae == pytest.approx(result.valid_mae, abs=1e-4)
    assert evaluate_functional("pbe", valid, **FAST).mae > judged.mae
    original, passes = functional_training._Training._pass, []

    def interrupted(self: Any) -> float:
        """Fails once in the middle."""
        passes.append(self.epoch)
        if len(passes) == 5:
            raise KeyboardInterrupt
        return float(original(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional_training._Training, "_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_functional(train, valid, out=tmp_path / "broken", **how)
    train_functional(train, valid, out=tmp_path / "broken", resume=True, **how)
    files = [(tmp_path / name / "functional.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"unit": None}, "unit"),
        ({"reactions": []}, "no reaction"),
        ({"reactions": [{"species": {"He": 1}, "energy": 0}]}, "no species He"),
        ({"reactions": [{"species": {"H": 1}}]}, "reaction 0"),
        ({"species": {"H": {"atoms": "H"}}}, "species H"),
    ],
)
def test_files_of_reactions_are_refused_in_one_sentence(
    reactions: Writer, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(FileFormatError, match=word):
        read_reactions(reactions("bad", (0.7,), **changes))


def test_units_and_zero_points_are_taken_off(reactions: Writer) -> None:
    row = {"species": {"H": 1}, "energy": 627.5094740631, "zero_point": 62.75094740631}
    (found,) = read_reactions(reactions("kcal", (0.7,), unit="kcal/mol", reactions=[row])).reactions
    assert found.energy == pytest.approx(0.9, abs=1e-12)


def test_functionals_come_back_from_files(tmp_path: Path) -> None:
    save_functional(LearnedFunctional(name="mine"), tmp_path / "f.safetensors")
    assert load_functional(tmp_path / "f.safetensors").name == "mine"
    with pytest.raises(OptionError, match="no functional"):
        load_functional("pbe2")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError):
        load_functional(tmp_path / "bad.safetensors")

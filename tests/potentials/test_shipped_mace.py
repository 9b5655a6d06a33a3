"""The model that comes with the package: small, offline, with molecules that look right."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from ase.optimize import LBFGS

from atomml import AtomMLCalculator, load_model
from atomml.cli.main import main
from atomml.model import Potential

NAME = "mace-tiny-organic"


@pytest.fixture(scope="module")
def tiny() -> Potential:
    return load_model(NAME, device="cpu")


def relaxed(name: str, model: Potential) -> Atoms:
    atoms = molecule(name)
    atoms.calc = AtomMLCalculator(model)
    assert LBFGS(atoms, logfile=None).run(fmax=0.005, steps=300)
    return atoms


def test_it_is_small_and_says_what_it_knows(tiny: Potential) -> None:
    file = resources.files("atomml.potentials.mace") / f"{NAME}.safetensors"
    assert len(file.read_bytes()) < 2 * 2**20
    assert tiny.info.name == NAME
    assert tiny.info.elements == (1, 6, 7, 8, 9, 16, 17)
    assert "B3LYP" in tiny.info.training_data


@pytest.mark.parametrize(
    ("name", "bonds"),
    # Measured structures, of NIST's CCCBDB; bonds to hydrogen are 0.01 Å longer by the method trained on.
    [
        ("CH4", [(0, 1, 1.087)]),
        ("H2O", [(0, 1, 0.958)]),
        ("C2H6", [(0, 1, 1.536)]),
        ("C2H4", [(0, 1, 1.339)]),
        ("C2H2", [(0, 1, 1.203)]),
        ("C6H6", [(0, 1, 1.397)]),
        ("CH3OH", [(0, 1, 1.421)]),
        ("H2CO", [(0, 1, 1.205)]),
        ("CH3Cl", [(0, 1, 1.776)]),
        ("NH3", [(0, 1, 1.012)]),
    ],
)
def test_bond_lengths_are_those_of_the_molecules(
    name: str, bonds: list[tuple[int, int, float]], tiny: Potential
) -> None:
    atoms = relaxed(name, tiny)
    for first, second, length in bonds:
        assert atoms.get_distance(first, second) == pytest.approx(length, abs=0.03)


def test_a_smiles_is_relaxed_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["relax", "CCO", "--model", NAME, "--quiet"]) == 0
    assert (tmp_path / "relax-CCO" / "summary.json").exists()


def test_an_element_that_it_never_saw_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "CCBr", "--model", NAME, "--quiet"]) == 2
    assert "Br" in capsys.readouterr().err

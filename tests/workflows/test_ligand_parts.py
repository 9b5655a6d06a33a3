"""The parts of ligand strain: force field, bonds, statistics of the search, the optimiser, the overlay."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from atomml.data.force_fields import KCAL_PER_MOL, ForceField, bonded_molecule, bonds_of
from atomml.data.label import engine_of, label
from atomml.data.molecules import read_smiles
from atomml.errors import StructureError
from atomml.report.frames import pack_frames
from atomml.workflows import predict, relax
from atomml.workflows.inputs import GivenStructure, given_model
from atomml.workflows.ligands.ligand_chemistry import aligned, angles_of, best_overlay, ligand_of, turned
from atomml.workflows.ligands.ligand_conformers import find_conformers, guessed_hessian
from atomml.workflows.ligands.ligand_pool import boltzmann_mean, expected_lowest
from atomml.workflows.relaxing.quasi_newton import QuasiNewton, StiffFirst
from atomml.workflows.relaxing.relaxation_batched import relax_batched


@pytest.fixture(scope="module")
def ethanol() -> Atoms:
    return read_smiles("CCO")


def test_forces_of_the_field_are_the_derivative_of_its_energy(ethanol: Atoms) -> None:
    """At a geometry that the field has not seen before, and again at another."""
    field = ForceField(bonded_molecule(ethanol))
    for seed in (0, 1):
        x = ethanol.positions + np.random.default_rng(seed).normal(0, 0.05, (9, 3))
        field.energy(ethanol.positions)
        forces = field.forces(x)
        for atom, axis in ((0, 0), (2, 1), (8, 2)):
            step = np.zeros_like(x)
            step[atom, axis] = 1e-4
            slope = (field.energy(x + step) - field.energy(x - step)) / 2e-4
            assert forces[atom, axis] == pytest.approx(-slope, abs=1e-5)


def test_the_hessian_has_no_descent_at_a_minimum(ethanol: Atoms) -> None:
    curvatures = np.linalg.eigvalsh(ForceField(bonded_molecule(ethanol)).hessian(ethanol.positions))
    assert curvatures[0] > -0.02  # eV/Å²; six are zero but for the forward differences
    assert 20 < curvatures[-1] < 200  # an O-H bond


def test_bonds_go_along_as_text_in_any_order(ethanol: Atoms) -> None:
    order = np.random.default_rng(0).permutation(9)
    mixed = Chem.RenumberAtoms(bonded_molecule(ethanol), order.tolist())
    other = Atoms(ethanol.numbers[order], ethanol.positions[order])
    other.info["bonds"] = bonds_of(mixed)
    assert label(other, "mmff94s").energy == pytest.approx(label(ethanol, "mmff94s").energy, abs=1e-9)
    bare = Atoms(ethanol.numbers, ethanol.positions)  # bonds are read off the geometry
    assert label(bare, "mmff94s").energy == pytest.approx(label(ethanol, "mmff94s").energy, abs=1e-9)


def test_what_the_field_cannot_take_is_refused(ethanol: Atoms) -> None:
    engine = engine_of("mmff94s")
    cell = ethanol.copy()
    cell.set_cell([9, 9, 9])
    cell.pbc = True
    charged = ethanol.copy()
    charged.info["charge"] = 1
    charged.info["spin"] = 1
    wrong = ethanol.copy()
    wrong.info["bonds"] = "[CH4:1]"
    for atoms, words in ((cell, "periodic"), (charged, "goes by the bonds"), (wrong, "'bonds'")):
        with pytest.raises(StructureError, match=words):
            engine.check(atoms, "here")
    with pytest.raises(StructureError, match="no parameters"):
        engine.check(read_smiles("CB(C)C"), "here")


def test_methods_are_models_of_the_workflows(ethanol: Atoms) -> None:
    shaken = ethanol.copy()
    shaken.rattle(0.02, seed=0)
    assert relax(shaken, "mmff94s", fmax=0.01).energy == pytest.approx(
        label(ethanol, "mmff94s").energy, abs=2e-3
    )
    assert predict(ethanol, "gfn2").energy == pytest.approx(label(ethanol, "gfn2").energy, abs=1e-9)
    record = given_model("gfn2").record()
    assert record["name"] == "gfn2"
    assert "gfn2" in record["calculator"]["method"]


def test_one_geometry_with_another_charge_is_another_structure(ethanol: Atoms) -> None:
    ion = ethanol.copy()
    ion.info |= {"charge": 1, "spin": 1}
    rows = predict([ethanol, ion], "gfn2").rows
    assert rows[1]["energy_eV"] - rows[0]["energy_eV"] > 5  # an ionisation energy


@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_expected_lowest_is_the_mean_over_all_choices(count: int) -> None:
    energies = np.random.default_rng(0).normal(size=6)
    every = np.mean([min(chosen) for chosen in combinations(energies, count)])
    assert expected_lowest(energies, count) == pytest.approx(every, abs=1e-12)


def test_the_boltzmann_mean_of_two_levels() -> None:
    gap = 0.6 * KCAL_PER_MOL
    weight = np.exp(-0.6 / (1.987204e-3 * 298.15))
    assert boltzmann_mean(np.array([0.0, gap]), 298.15) == pytest.approx(
        gap * weight / (1 + weight), rel=1e-6
    )


def test_fewer_conformers_are_the_first_of_more() -> None:
    ligand = ligand_of("CCCCO")
    few, many = (find_conformers(ligand, count, searches=2) for count in (4, 8))
    assert many.kind_of[:4] == few.kind_of
    assert many.search_of[:4] == few.search_of == [0, 1, 0, 1]
    for one, other in zip(few.geometries, many.geometries, strict=False):
        assert np.array_equal(one, other)


def test_the_overlay_exchanges_equivalent_atoms() -> None:
    ligand = ligand_of("Cc1ccccc1")
    molecule = Chem.Mol(ligand.molecule)
    rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
    x = np.array(molecule.GetConformer().GetPositions())
    (swap,) = [m for m in molecule.GetSubstructMatches(ligand.molecule, uniquify=False) if m[2] == 6][:1]
    _, rmsd, pairs = best_overlay(ligand, x[list(swap)] + 5.0, x)
    assert rmsd < 1e-6
    assert pairs[2] == 6
    assert aligned(x[list(swap)], x)[2] > 0.5


def test_angles_are_signed_and_turn_the_short_way() -> None:
    x = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]])
    assert abs(angles_of(((0, 1, 2, 3),), x)[0]) == pytest.approx(90)
    assert turned(np.array([170.0]), np.array([-170.0]))[0] == pytest.approx(20)


def test_the_force_fields_hessian_saves_most_of_the_steps() -> None:
    """GFN2 from the minimum of MMFF94s, to the same energy."""
    atoms = read_smiles("CC(=O)Nc1ccc(O)cc1")
    given = GivenStructure(atoms, "paracetamol")
    (plain,) = relax_batched([given], "gfn2", fmax=0.01, optimizer="bfgs")
    (guessed,) = relax_batched([given], "gfn2", fmax=0.01, guess=guessed_hessian())
    assert plain.result is not None
    assert guessed.result is not None
    assert guessed.result.converged
    assert guessed.result.energy <= plain.result.energy + 1e-3
    assert guessed.result.n_steps < 0.5 * plain.result.n_steps


class _Bowl:
    """A quadratic well with curvatures from 0.2 to 80 eV/Å²."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        modes, _ = np.linalg.qr(random.normal(size=(12, 12)))
        self.hessian = (modes * np.geomspace(0.2, 80, 12)) @ modes.T
        self.x = random.normal(0, 0.02, 12)

    def get_x(self) -> np.ndarray:
        return self.x.copy()

    def set_x(self, x: np.ndarray) -> None:
        self.x = x

    def get_gradient(self) -> np.ndarray:
        return self.hessian @ self.x

    def get_value(self) -> float:
        return float(0.5 * self.x @ self.hessian @ self.x)


def test_the_true_hessian_needs_one_step_and_a_wrong_one_is_learnt() -> None:
    bowl = _Bowl()
    QuasiNewton(bowl, lambda: bowl.hessian).step()
    assert np.abs(bowl.x).max() < 1e-12
    bowl = _Bowl()
    optimizer = QuasiNewton(bowl, lambda: 30 * np.eye(12))
    for _ in range(60):
        optimizer.step()
    assert np.abs(bowl.get_gradient()).max() < 1e-6


def test_stiff_coordinates_give_way_first() -> None:
    """After ten steps by the true Hessian the stiffest are at their minimum, the softest half way."""
    bowl = _Bowl()
    before = bowl.x.copy()
    optimizer = StiffFirst(bowl, lambda: bowl.hessian)
    for _ in range(10):
        optimizer.step()
    modes = np.linalg.eigh(bowl.hessian)[1]
    left = (modes.T @ bowl.x) / (modes.T @ before)
    assert left[0] > 0.4  # (1 - 0.7 0.2 / 2)^10 = 0.48
    assert abs(left[-1]) < 1e-4  # 0.3^10


def test_no_bond_is_drawn_between_two_structures_laid_on_each_other() -> None:
    atoms = Atoms("CHCH", [[0, 0, 0], [1.1, 0, 0], [0, 0, 0.3], [1.1, 0, 0.3]])
    atoms.arrays["overlay"] = np.array([0, 0, 1, 1])
    packed = pack_frames([atoms])
    symbols = [one["symbol"] for one in packed["species"]]
    cutoffs = np.array(packed["bondCutoffs"])
    assert symbols == ["H", "C", "H′", "C′"]
    assert (cutoffs[:2, 2:] == 0).all()
    assert np.array_equal(cutoffs[:2, :2], cutoffs[2:, 2:])
    assert packed["species"][1]["colour"] != packed["species"][3]["colour"]

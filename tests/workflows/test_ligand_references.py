"""What a pose is held against: sound geometries alone, a search that says what it missed, rings that flip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from embedded_molecules import embedded
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from atomml.data.force_fields import KCAL_PER_MOL
from atomml.errors import FileFormatError
from atomml.workflows import ligand_strain
from atomml.workflows.ligands.ligand_chemistry import best_overlay, ligand_of
from atomml.workflows.ligands.ligand_conformers import Conformers, number_of_conformers
from atomml.workflows.ligands.ligand_pool import Minimum, Pool

QUICK = {"conformers": 4, "searches": 1}


class Trap(Calculator):  # type: ignore[misc]
    """Springs along the bonds of ethanol, and a well without a floor for an O-H that is longer than 1.3 Å."""

    implemented_properties = ("energy", "forces")
    bonds = ((0, 1, 1.52), (1, 2, 1.42), (0, 3, 1.1), (0, 4, 1.1), (0, 5, 1.1), (1, 6, 1.1), (1, 7, 1.1))

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(self.atoms), 3))
        energy = 0.0
        for a, b, rest in (*self.bonds, (2, 8, 0.97)):
            along = self.atoms.positions[b] - self.atoms.positions[a]
            length = float(np.linalg.norm(along))
            torn = b == 8 and length > 1.3
            energy += -20.0 + (length - 3.0) ** 2 if torn else 10.0 * (length - rest) ** 2
            slope = 2.0 * (length - 3.0) if torn else 20.0 * (length - rest)
            forces[a] += slope * along / length
            forces[b] -= slope * along / length
        self.results = {"energy": energy, "forces": forces}


def test_a_pose_that_became_another_molecule_is_no_reference_and_does_not_pass() -> None:
    """A model may have wells that no molecule has: what falls into one says nothing about the other poses."""
    sound, falls = embedded("CCO"), embedded("CCO")
    x = falls.GetConformer().GetPositions()
    x[8] = x[2] + 1.35 * (x[8] - x[2]) / np.linalg.norm(x[8] - x[2])
    falls.GetConformer().SetPositions(x)
    alone = ligand_strain(sound, Trap(), **QUICK)
    both = ligand_strain([falls, sound], Trap(), threshold="1000", **QUICK)
    fallen, other = both.rows
    assert "not the same molecule" in fallen["note"]
    assert (fallen["passes"], fallen["rank"], fallen["left_basin"]) == (False, 2, True)
    assert (other["passes"], other["rank"]) == (True, 1)
    assert other["strain_kcal_per_mol"] == pytest.approx(alone.strain, abs=0.01)


def test_a_ligand_without_a_minimum_has_no_strain() -> None:
    """Not a strain of zero over itself that passes every threshold."""
    result = ligand_strain(embedded("CCCO"), steps=0, fmax=1e-9, threshold="5", **QUICK)
    assert "No geometry came to an unbound minimum (it did not converge)" in result.rows[0]["error"]
    assert (result.n_failed, result.n_passed) == (1, 0)


@pytest.mark.parametrize(
    ("reached", "pose", "missed"), [((2.0, 3.0), 0.5, 1.5), ((0.2, 3.0), 0.5, 0.0), ((), 0.5, np.inf)]
)
def test_a_search_that_missed_the_minimum_of_a_pose_says_by_how_much(
    reached: tuple[float, ...], pose: float, missed: float
) -> None:
    x = np.zeros((9, 3))
    found = Conformers([x] * max(1, len(reached)), list(range(max(1, len(reached)))), [0, 0], False)
    minima = [Minimum(x, energy * KCAL_PER_MOL, kind) for kind, energy in enumerate(reached)]
    pool = Pool(ligand_of("CCO"), found, [*minima, Minimum(x, pose * KCAL_PER_MOL, -1)])
    assert pool.missed() == pytest.approx(missed)


def test_a_search_that_missed_the_minimum_of_a_pose_is_not_converged() -> None:
    """One conformer of a chain, whose own pose is the minimum: the second half gained nothing before it."""
    chain = embedded("CCCCCCC")
    for first in range(4):
        rdMolTransforms.SetDihedralDeg(chain.GetConformer(), *range(first, first + 4), 180.0)
    (row,) = ligand_strain(chain, conformers=1, searches=1).rows
    assert row["search_gain_kcal_per_mol"] == 0
    assert row["search_converged"] is False
    assert "The search missed a minimum that a pose leads to" in row["note"]


def test_a_ring_that_flips_is_among_the_torsions() -> None:
    """Both groups of a cyclohexane axial, and the minimum is the other chair."""
    axial = embedded("C[C@H]1CCCC[C@@H]1F", seed=2)
    assert abs(rdMolTransforms.GetDihedralDeg(axial.GetConformer(), 0, 1, 6, 7)) > 145
    result = ligand_strain(axial, bound_fmax=0.02, conformers=8, searches=1)
    assert result.rows[0]["left_basin"] is False
    assert result.strain > 0.3
    assert sum(row["change_deg"] > 90 for row in result.torsions) == 6


def test_bonds_of_a_macrocycle_ask_for_conformers() -> None:
    assert number_of_conformers(ligand_of("O=C1CCCCCCCCCCCCCC1")) == 150
    assert number_of_conformers(ligand_of("CC1CCCCC1")) == 20
    assert len(ligand_of("c1ccccc1-c1ccccc1").ring_torsions) == 0


def test_hydrogen_alone_can_be_laid_on_itself() -> None:
    x = np.array([[0.0, 0.0, 0.0], [0.74, 0.0, 0.0]])
    assert best_overlay(ligand_of("[H][H]"), x + 3.0, x)[1] < 1e-6


def test_a_file_that_cannot_be_read_is_a_row_of_a_library(tmp_path: Path) -> None:
    import gzip

    block = f"{Chem.MolToMolBlock(embedded('CO'))}$$$$\n"
    (tmp_path / "a.sdf").write_text(block)
    (tmp_path / "b.sdf").write_text("")
    (tmp_path / "c.sdf.gz").write_bytes(gzip.compress((block * 20).encode())[:-30])
    result = ligand_strain(tmp_path, conformers=1, searches=1)
    whole = [row["id"] for row in result.rows if row["error"] is None]
    assert whole[0] == "a-0"
    assert 5 < len(whole) < 20  # what was read of the damaged file before it ended
    assert "holds no molecule" in result.rows[1]["error"]
    assert "damaged" in result.rows[-1]["error"]
    assert result.n_failed == 2
    with pytest.raises(FileFormatError, match="holds no molecule"):
        ligand_strain(tmp_path / "b.sdf")


def test_results_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    """A pose that was written by a run with --refine, and the next run is without it."""
    pose = embedded("CO")
    for name, value in (("strain_refined_kcal_per_mol", "99"), ("note", "old"), ("site", "A")):
        pose.SetProp(name, value)
    result = ligand_strain(pose, conformers=1, searches=1, out=tmp_path / "run")
    (found,) = Chem.SDMolSupplier(str(tmp_path / "run" / "poses.sdf"), removeHs=False)
    assert not found.HasProp("strain_refined_kcal_per_mol")
    assert not found.HasProp("note")
    assert found.GetProp("site") == "A"
    assert float(found.GetProp("strain_kcal_per_mol")) == pytest.approx(result.strain, rel=1e-4, abs=1e-5)


def test_what_cannot_be_done_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the same command, mended, is not refused for the folder; a dry run says the same."""
    from atomml.cli.main import main

    monkeypatch.chdir(tmp_path)
    Path("a.sdf").write_text(f"{Chem.MolToMolBlock(embedded('CO'))}$$$$\n")
    Path("a.pdb").write_text(Chem.MolToPDBBlock(embedded("CO")))
    Path("empty.sdf").write_text("")
    for words, said in (
        (["a.sdf", "none.sdf"], "none.sdf: cannot be read"),
        (["a.sdf", "a.txt"], "a.txt is no file of poses"),
        (["a.sdf", "a.pdb"], "--template"),
        (["empty.sdf"], "holds no molecule"),
        (["a.sdf", "--threshold", "much"], "kcal/mol"),
        (["a.sdf", "--refine", "no-such-method"], "no method"),
        (["a.sdf", "--refine-relax"], "--refine METHOD"),
        (["a.pdb", "--template", "C("], "no SMILES"),
    ):
        for more in ([], ["--dry-run"]):
            assert main(["ligand-strain", *words, "--out", "run", *more]) == 2, (words, more)
            assert said in capsys.readouterr().err
            assert not Path("run").exists()

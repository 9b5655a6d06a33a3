"""Which ligand a pose is of: what files say, hydrogens and stereochemistry left open, templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_molecules import embedded
from rdkit import Chem

from atomml.workflows import ligand_strain
from atomml.workflows.ligands.ligand_chemistry import ligand_of
from atomml.workflows.ligands.ligand_run import Record, records_of


def read_back(molecule: Any, path: Path) -> Record:
    """The record of a molecule that went through an SD file."""
    path.write_text(f"{Chem.MolToMolBlock(molecule)}$$$$\n")
    (record,) = records_of(str(path), None)
    return record


def of_pdb(molecule: Any, template: str, path: Path) -> Record:
    """The record of a molecule that went through a PDB file."""
    path.write_text(Chem.MolToPDBBlock(molecule, flavor=2))
    (record,) = records_of(str(path), template)
    return record


def ligand(record: Record) -> str:
    assert record.prepared is not None, record.error
    return record.prepared.ligand


@pytest.mark.parametrize("smiles", ["CC=CC(=O)C", "CN=NC"])
def test_a_crossed_double_bond_has_the_side_that_its_coordinates_say(smiles: str, tmp_path: Path) -> None:
    """RDKit writes one for a double bond whose SMILES says nothing; every conformer was left out for it."""
    record = read_back(embedded(smiles), tmp_path / "a.sdf")
    found = ligand(record)
    assert "/" in found
    assert record.prepared is not None
    assert ligand_of(found).problem(record.prepared.positions) is None


@pytest.mark.parametrize("smiles", ["CC(=N)N", "CCNC(=N)N", "C[C@H](O)C=N"])
def test_the_side_of_a_hydrogen_on_nitrogen_is_not_what_a_ligand_is_told_by(
    smiles: str, tmp_path: Path
) -> None:
    """With hydrogens and without them an amidine is one ligand, whose conformers are its own."""
    for molecule in (embedded(smiles), Chem.RemoveHs(embedded(smiles)), embedded(smiles, seed=11)):
        record = read_back(molecule, tmp_path / "a.sdf")
        assert ligand(record) == smiles
        assert record.prepared is not None
        assert ligand_of(smiles).problem(record.prepared.positions) is None
    result = ligand_strain(tmp_path / "a.sdf", conformers=4, searches=1)
    assert result.rows[0]["n_minima"] >= 1
    assert result.rows[0]["left_basin"] is False


@pytest.mark.parametrize(
    "smiles", ["O=c1cccc[nH]1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "OB(O)c1ccccc1", "c1c[nH+]c[nH]1"]
)
def test_placing_hydrogens_keeps_the_molecule(smiles: str, tmp_path: Path) -> None:
    """MMFF94s calls fewer rings aromatic, and has no parameters for boron; the ligand stays what it was."""
    whole = embedded(smiles)
    bare = Chem.RemoveHs(whole)
    record = read_back(bare, tmp_path / "a.sdf")
    assert ligand(record) == Chem.CanonSmiles(smiles)
    assert record.prepared is not None
    assert record.prepared.hydrogens_added == whole.GetNumAtoms() - bare.GetNumAtoms()
    heavy = record.prepared.molecule.GetConformer().GetPositions()[: bare.GetNumAtoms()]
    assert np.allclose(heavy, bare.GetConformer().GetPositions(), atol=1e-3)
    assert ligand_of(Chem.CanonSmiles(smiles)).problem(record.prepared.positions) is None


TEMPLATES = (
    *("CC(=O)O", "C[C@H]([NH3+])C(=O)[O-]", "O=c1cccc[nH]1", "Oc1ccccn1", "Cc1c[nH]cn1", "Cc1cnc[nH]1"),
    *("NC(N)=[NH2+]", "C[N+](=O)[O-]", "OP(=O)(O)OC", "C[C@@H](F)Cl", r"C/C=C\C", "CN1CC[NH+](C)CC1"),
)


@pytest.mark.parametrize("smiles", TEMPLATES)
def test_a_template_gives_back_its_molecule(smiles: str, tmp_path: Path) -> None:
    """With all hydrogens, the polar ones alone, and none; atoms in any order; O-H and N-H where they are."""
    whole = embedded(smiles)
    Chem.Kekulize(whole, clearAromaticFlags=True)
    polar = Chem.RWMol(whole)
    for atom in reversed(range(whole.GetNumAtoms())):
        one = polar.GetAtomWithIdx(atom)
        if one.GetAtomicNum() == 1 and one.GetNeighbors()[0].GetAtomicNum() == 6:
            polar.RemoveAtom(atom)
    for form in (whole, polar.GetMol(), Chem.RemoveHs(whole)):
        for order in (range(form.GetNumAtoms()), reversed(range(form.GetNumAtoms()))):
            given = Chem.RenumberAtoms(form, list(order))
            record = of_pdb(given, smiles, tmp_path / "a.pdb")
            assert ligand(record) == Chem.CanonSmiles(smiles)
            assert record.prepared is not None
            assert record.prepared.hydrogens_added == whole.GetNumAtoms() - form.GetNumAtoms()
            assert ligand_of(ligand(record)).problem(record.prepared.positions) is None


def test_the_short_bond_of_an_acid_without_hydrogens_is_the_double_one(tmp_path: Path) -> None:
    acid = Chem.RemoveHs(embedded("CC(=O)O"))
    for order in ([0, 1, 2, 3], [0, 1, 3, 2]):
        record = of_pdb(Chem.RenumberAtoms(acid, order), "CC(=O)O", tmp_path / "a.pdb")
        assert record.prepared is not None
        found = record.prepared.molecule
        (double,) = [bond for bond in found.GetBonds() if bond.GetBondTypeAsDouble() == 2]
        assert sorted((double.GetBeginAtomIdx(), double.GetEndAtomIdx())) == [1, order.index(2)]


def test_what_does_not_fit_its_template_is_told(tmp_path: Path) -> None:
    left = embedded("C[C@@H](O)N")
    for template, words in (
        ("C[C@H](O)N", "stereochemistry is not that of the template"),
        ("COCN", "not joined as those"),
        ("CO", "4 heavy atoms, and the template 2"),
    ):
        assert words in str(of_pdb(left, template, tmp_path / "a.pdb").error)
    assert ligand(of_pdb(left, "CC(O)N", tmp_path / "a.pdb")) == Chem.CanonSmiles("C[C@@H](O)N")


def test_coordinates_that_are_not_those_of_the_bonds_are_refused(tmp_path: Path) -> None:
    """Bohr in place of Å, or one atom far away: a relaxation would give them a strain of nothing."""
    bohr, torn = embedded("CCO"), embedded("CCO")
    bohr.GetConformer().SetPositions(bohr.GetConformer().GetPositions() * 1.889726)
    torn.GetConformer().SetAtomPosition(0, [30.0, 0.0, 0.0])
    for molecule in (bohr, torn):
        record = read_back(molecule, tmp_path / "a.sdf")
        assert record.prepared is None
        assert "its bond C1-C2 is" in str(record.error)


def test_a_record_that_cannot_be_read_keeps_its_name(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    block = Chem.MolToMolBlock(embedded("CO"))
    (tmp_path / "a.sdf").write_text(
        f"lost one\n\n\n no\n$$$$\n{block}\n{block}$$$$\n{block}>  <x>\ny\n\n$$$$\n"
    )
    bad, double, good = records_of(str(tmp_path / "a.sdf"), None)
    assert bad.pose.name == "lost one"
    assert bad.error is not None
    assert "several molecules: put a line $$$$" in str(double.error)
    assert good.error is None
    (tmp_path / "a.mol2").write_text("@<TRIPOS>MOLECULE\nthis one\n 2 1\n")
    (broken,) = records_of(str(tmp_path / "a.mol2"), None)
    assert (broken.pose.name, broken.prepared) == ("this one", None)
    parquet.write_table(pyarrow.table({"mol_bytes": [None, b"x"], "id": ["p", "q"]}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"mol_bytes": [1]}), tmp_path / "b.parquet")
    assert [one.pose.name for one in records_of(str(tmp_path / "a.parquet"), None)] == ["p", "q"]
    (number,) = records_of(str(tmp_path / "b.parquet"), None)
    assert "no molecule" in str(number.error)


def test_hydrogens_added_beside_others_are_noted(tmp_path: Path) -> None:
    """An acetate whose file has lost its charge is read as the acid: nothing is wrong, and it is told."""
    acetate = embedded("CC(=O)[O-]")
    block = Chem.MolToMolBlock(acetate).replace("M  CHG  1   4  -1\n", "")
    (tmp_path / "a.sdf").write_text(f"{block}$$$$\n{Chem.MolToMolBlock(Chem.RemoveHs(acetate))}$$$$\n")
    acid, ion = ligand_strain(tmp_path / "a.sdf", conformers=1, searches=1).rows
    assert (acid["smiles"], ion["smiles"]) == ("CC(=O)O", "CC(=O)[O-]")
    assert "Hydrogens added: 1, beside 3" in acid["note"]
    assert "Hydrogens added" not in str(ion["note"])


@pytest.mark.parametrize("smiles", ["OC(=O)c1ccccc1", "OC(=O)c1ccccc1O", "OCCO", "NCCO", "CNCCO"])
def test_hydrogens_that_were_absent_cost_nothing(smiles: str) -> None:
    """The heavy atoms are at their minimum: an acid's hydrogen on the wrong side would cost 12 kcal/mol."""
    lowest = ligand_strain(embedded(smiles), conformers=12, searches=1).minima[0]
    bare = Chem.RemoveHs(lowest)
    other = Chem.RenumberAtoms(bare, list(reversed(range(bare.GetNumAtoms()))))
    for row in ligand_strain([bare, other], conformers=12, searches=1, workers=0).rows:
        assert row["hydrogens_added"] > 0
        assert row["strain_kcal_per_mol"] == pytest.approx(0.0, abs=0.3)

"""Structures from every kind of source; partly occupied sites refused by name, or put in order."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import write
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure
from pymatgen.transformations.standard_transformations import OrderDisorderedStructureTransformation

from atomml.cli.main import main
from atomml.errors import FileFormatError, StructureError
from atomml.workflows import eos, ordering, predict
from atomml.workflows.inputs import given_structure, split_ordering, structures_of, to_be_ordered
from atomml.workflows.ordering import order_sites, ordered_file

CLASS = "ase:ase.calculators.emt:EMT"


def layered(lithium: float = 0.5) -> Structure:
    """Li_xCoO2 in its hexagonal cell of three layers."""
    lattice = Lattice.hexagonal(2.82, 14.05)
    sites: list[Any] = [{"Li": lithium}, "Co", "O"]
    return Structure.from_spacegroup("R-3m", lattice, sites, [[0, 0, 0.5], [0, 0, 0], [0, 0, 0.2605]])


def alloy() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.8), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    layered().to(filename="lco.cif")
    alloy().to(filename="alloy.cif")
    return tmp_path


def test_every_kind_of_source_gives_the_same_energies(files: Path) -> None:
    """CIF (8 digits and more), POSCAR, extended XYZ, a folder, a data base: one crystal."""
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True)
    Path("set").mkdir()
    write("set/cu.cif", crystal)
    write("set/POSCAR", crystal)
    write("set/cu.extxyz", crystal)
    with connect("set/cu.db") as database:
        database.write(crystal)
        database.write(bulk("Cu", "fcc", a=3.7, cubic=True))
    found = predict("set", EMT())
    by_name: dict[str, list[float]] = {}
    for row in found.rows:
        by_name.setdefault(Path(row["input"]).name, []).append(row["energy_eV"])
    assert sorted(by_name) == ["POSCAR", "cu.cif", "cu.db", "cu.extxyz"]
    assert len(by_name["cu.db"]) == 2
    for energies in by_name.values():
        assert energies[0] == pytest.approx(by_name["cu.extxyz"][0], abs=1e-6)
    assert given_structure("set/cu.db@1").atoms.cell.lengths()[0] == pytest.approx(3.7)


def test_partly_occupied_sites_are_refused_by_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        FileFormatError, match=r"lco\.cif: sites are partly occupied \(Li0 \(Li 0\.5\).*--order"
    ):
        given_structure("lco.cif")
    with pytest.raises(StructureError, match=r"partly occupied sites \(Cu 0\.5, Au 0\.5\).*order_sites"):
        given_structure(alloy())
    for words in (["predict", "alloy.cif"], ["eos", "alloy.cif"], ["relax", "alloy.cif"]):
        assert main([*words, "--model", CLASS, "--quiet"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "(Cu 0.5)" in message


def ewald_energy(structure: Structure) -> float:
    return float(EwaldSummation(structure).total_energy)


def test_the_lowest_arrangement_is_that_of_all_ewald_sums() -> None:
    """Half the lithium of two cells: 20 ways, each summed by itself; charges +1, +3.5, -2."""
    (found,) = order_sites(layered())
    assert found.atoms.get_chemical_formula() == "Co6Li3O12"
    assert "of 20 arrangements in 2x1x1 cells" in found.note
    assert "composition" not in found.note
    cell = layered(1.0)
    cell.make_supercell([2, 1, 1])
    cell.add_oxidation_state_by_element({"Li": 1, "Co": 3.5, "O": -2})
    lithium = [n for n, site in enumerate(cell) if site.specie.symbol == "Li"]
    energies = []
    for kept in combinations(lithium, 3):
        one = cell.copy()
        one.remove_sites([n for n in lithium if n not in kept])
        energies.append(ewald_energy(one))
    chosen = Structure(found.atoms.cell.array, list(found.atoms.symbols), found.atoms.get_scaled_positions())
    chosen.add_oxidation_state_by_element({"Li": 1, "Co": 3.5, "O": -2})
    assert ewald_energy(chosen) == pytest.approx(min(energies), abs=1e-5)
    assert max(energies) > min(energies) + 0.1


def test_arrangements_come_from_the_lowest_up_and_none_twice() -> None:
    found = order_sites(layered(), count=50)
    assert 2 <= len(found) < 20  # symmetry makes many of the 20 the same
    energies = []
    for one in found:
        cell = Structure(one.atoms.cell.array, list(one.atoms.symbols), one.atoms.get_scaled_positions())
        cell.add_oxidation_state_by_element({"Li": 1, "Co": 3.5, "O": -2})
        energies.append(ewald_energy(cell))
    assert energies == sorted(energies)


def test_a_small_crystal_is_ordered_as_pymatgens_own_search_does() -> None:
    mixed = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.0), [{"Mg2+": 0.5, "Li+": 0.5}, "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    (found,) = order_sites(mixed)
    big = mixed.copy()
    big.make_supercell([2, 1, 1])
    theirs = OrderDisorderedStructureTransformation().apply_transformation(big)
    assert sorted(found.atoms.symbols) == sorted(site.specie.symbol for site in theirs)


def test_an_alloy_has_no_charges_and_that_is_said() -> None:
    (found,) = order_sites(alloy())
    assert sorted(found.atoms.symbols) == ["Au", "Au", "Cu", "Cu"]
    assert "no charges can be told" in found.note


def test_too_many_arrangements_are_searched_and_that_is_said() -> None:
    big = alloy()
    big.make_supercell([2, 2, 2])
    (found,) = order_sites(big)
    assert "a lower one may exist" in found.note  # 32 over 16 = 6e8
    assert sorted(set(found.atoms.symbols)) == ["Au", "Cu"]
    assert list(found.atoms.symbols).count("Au") == 16


def test_occupancies_without_whole_atoms_are_refused_or_rounded_and_said() -> None:
    with pytest.raises(StructureError, match=r"no supercell of at most 12 cells .* Li.* 0\.003"):
        order_sites(layered(0.003))
    (found,) = order_sites(layered(0.334))
    assert list(found.atoms.symbols).count("Li") == 1
    assert "composition is now" in found.note


def test_order_works_with_every_command_and_is_recorded(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "alloy.cif", "--model", CLASS, "--order", "--out", "run", "--quiet"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert any("were ordered: number 1" in warning for warning in summary["warnings"])
    assert summary["inputs"][0]["path"] == "alloy.cif"
    assert summary["inputs"][0]["sha256"]
    assert "were ordered" in Path("run/report.html").read_text()
    assert main(["relax", "alloy.cif", "--model", CLASS, "--order", "--cell", "free", "--quiet"]) == 0
    assert Path("relax-alloy/summary.json").exists()
    words = ["compare", "predict", "alloy.cif", "--model", CLASS, "--model", "lj-argon", "--order"]
    assert main([*words, "--quiet"]) == 2
    assert "not trained on" in capsys.readouterr().err  # it came as far as the elements
    again = ["relax", "--config", "relax-alloy/config.yaml", "--allow-code", "--out", "again", "--quiet"]
    assert main(again) == 0  # config.yaml alone repeats the run
    assert main(["eos", "alloy.cif", "--model", CLASS, "--order", "--dry-run", "--quiet"]) == 0


def test_several_orderings_are_several_structures(files: Path) -> None:
    found = [given.atoms for given in structures_of("lco.cif@ordered:9")]
    assert len(found) >= 2
    assert all(len(atoms) == 21 for atoms in found)
    with pytest.raises(StructureError, match="--orderings 1"):
        given_structure("lco.cif@ordered:9")


def test_an_ordered_file_is_not_changed_by_order(files: Path) -> None:
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True)
    write("cu.cif", crystal)
    given = given_structure("cu.cif@ordered")
    assert given.note == ""
    np.testing.assert_allclose(given.atoms.positions, crystal.positions, atol=1e-6)
    assert isinstance(given.atoms, Atoms)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a.cif@ordered", ("a.cif", 1)),
        ("a.cif@ordered:5", ("a.cif", 5)),
        ("a.cif@0", ("a.cif@0", None)),
        ("a@ordered.cif", ("a@ordered.cif", None)),
        ("a.cif@ordered:x", ("a.cif@ordered:x", None)),
    ],
)
def test_the_mark_of_order_is_at_the_end(source: str, parts: tuple[str, int | None]) -> None:
    assert split_ordering(source) == parts


def test_only_cifs_are_marked_and_silly_numbers_refused() -> None:
    assert to_be_ordered(["a.cif", "b.extxyz", "c.CIF"], 3) == [
        "a.cif@ordered:3",
        "b.extxyz",
        "c.CIF@ordered:3",
    ]
    with pytest.raises(StructureError, match="between 1 and 1000"):
        split_ordering("a.cif@ordered:0")


def test_a_closed_curve_of_an_ordered_alloy(files: Path) -> None:
    """L1_0 CuAu, whatever two of the four sites are copper: all six are one crystal, so one energy."""
    found = eos("alloy.cif@ordered", EMT(), relax="none", start="given", volume_range=0.12)
    tetragonal = Atoms("Cu2Au2", cell=[3.8] * 3, pbc=True)
    tetragonal.set_scaled_positions([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    expected = eos(tetragonal, EMT(), relax="none", start="given", volume_range=0.12)
    assert found.energy == pytest.approx(expected.energy, abs=1e-6)


def test_a_file_is_arranged_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command counts the structures of a file before it works on them; what it changes stays its own."""
    asked = []
    inner = ordering.order_sites

    def counted(structure: Structure, *rest: Any) -> Any:
        asked.append(structure)
        return inner(structure, *rest)

    monkeypatch.setattr(ordering, "order_sites", counted)
    file = tmp_path / "alloy.cif"
    alloy().to(str(file))
    first, again = (ordered_file(file) for _ in range(2))
    assert first is not None
    assert again is not None
    assert len(asked) == 1
    assert again[0].atoms == first[0].atoms
    first[0].atoms.positions += 1.0
    third = ordered_file(file)
    assert third is not None
    assert third[0].atoms == again[0].atoms
    layered().to(str(file))
    other = ordered_file(file)
    assert other is not None
    assert set(other[0].atoms.symbols) == {"Li", "Co", "O"}

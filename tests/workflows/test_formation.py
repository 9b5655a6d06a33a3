"""Formation energies and hulls: a pair-bond alloy whose answers are closed, and runs from end to end."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list

from atomml.cli.main import main
from atomml.errors import InputError, ModelError, OptionError, RunFailedError, StructureError
from atomml.run import read_events
from atomml.workflows import formation

AA, BB, AB = -0.50, -0.70, -0.66  # eV of a bond between nearest neighbours: Au-Au, Cu-Cu, Au-Cu
W = AB - (AA + BB) / 2


class Bonds(Calculator):  # type: ignore[misc]
    """Nearest neighbours closer than 3.3 Å are bonds of fixed energies; nothing pulls or presses."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]
    energies: ClassVar[dict[frozenset[str], float]] = {
        frozenset({"Au"}): AA,
        frozenset({"Cu"}): BB,
        frozenset({"Au", "Cu"}): AB,
    }

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        first, second = neighbor_list("ij", self.atoms, 3.3)
        symbols = self.atoms.get_chemical_symbols()
        bonds = (
            self.energies[frozenset({symbols[i], symbols[j]})] for i, j in zip(first, second, strict=True)
        )
        self.results = {
            "energy": sum(bonds) / 2,
            "forces": np.zeros((len(self.atoms), 3)),
            "stress": np.zeros(6),
        }


def ordered(symbols: str) -> Atoms:
    """Four sites of a cube of fcc: CuAu in layers (L1_0), Cu3Au with gold at the corners (L1_2)."""
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms(symbols, scaled_positions=sites, cell=[3.85] * 3, pbc=True)


def test_bonds_give_formation_energies_and_hull() -> None:
    """Of the six bonds of an atom four are unlike in L1_0 and three in L1_2: w per unlike bond."""
    l10, l12, mirrored = ordered("Au2Cu2"), ordered("AuCu3"), ordered("CuAu3")
    found = formation([l10, l12, mirrored], Bonds())
    assert [row["formula"] for row in found.rows] == ["CuAu", "Cu3Au", "CuAu3"]
    energies = [row["formation_energy_per_atom_eV"] for row in found.rows]
    assert energies == pytest.approx([4 * W, 3 * W, 3 * W], abs=1e-12)
    assert all(row["stable"] and row["energy_above_hull_per_atom_eV"] < 1e-12 for row in found.rows)
    assert {one["element"]: one["energy_per_atom_eV"] for one in found.references} == pytest.approx(
        {"Au": 6 * AA, "Cu": 6 * BB}
    )
    assert found.n_phases == 5
    assert found.warnings == []


def test_what_lies_above_the_hull_falls_apart_into_its_ends() -> None:
    """Layers of gold, gold, copper, copper: at half copper as L1_0, and above it by a known amount.

    Stacked along 001, a layer has 4 neighbours in itself and 4 in each layer beside it: 1/3 of the
    bonds are within a layer; of the others, half join unlike layers. So 2 of 6 bonds are unlike, and it
    lies 2 w above L1_0. Cu3Au alone leaves the line from Cu3Au to Au at 1/2: (2/3) 3 w = 2 w.
    """
    layers = ordered("Au2Cu2").repeat((1, 1, 2))
    heights = np.rint(layers.get_scaled_positions()[:, 2] * 4).astype(int) % 4
    layers.symbols[:] = np.where(heights < 2, "Au", "Cu")
    with_l10 = formation(layers, Bonds(), phases=(), start="given")
    assert with_l10.formation_energy_per_atom == pytest.approx(2 * W, abs=1e-12)
    assert with_l10.stable
    both = formation([layers, ordered("Au2Cu2")], Bonds())
    assert both.rows[0]["energy_above_hull_per_atom_eV"] == pytest.approx(-2 * W, abs=1e-12)
    assert both.rows[0]["decomposition"] == "1 CuAu"
    assert not both.rows[0]["stable"]
    assert both.rows[1]["stable"]


def test_a_phase_between_two_decomposes_by_the_lever_rule(tmp_path: Path) -> None:
    """Cu7Au lies half way from copper to Cu3Au, and without gold as neighbours on that line."""
    cell = ordered("AuCu3").repeat((1, 1, 2))
    cell.symbols[4] = "Cu"  # the gold of the second cube
    ordered("AuCu3").write(tmp_path / "Cu3Au.cif")
    found = formation(cell, Bonds(), phases=(str(tmp_path / "Cu3Au.cif"),), start="given")
    assert found.formula == "Cu7Au"
    # 12 unlike bonds around the one gold atom in 8 atoms, against the line at half of 3 w.
    assert found.formation_energy_per_atom == pytest.approx(12 / 8 * W, abs=1e-12)
    assert found.energy_above_hull_per_atom == pytest.approx(0, abs=1e-12)
    assert found.n_phases == 4


def test_an_unlike_bond_that_costs_energy_decomposes_into_the_elements() -> None:
    class Repelling(Bonds):
        energies: ClassVar[dict[frozenset[str], float]] = {**Bonds.energies, frozenset({"Au", "Cu"}): -0.55}

    found = formation(ordered("AuCu3"), Repelling())
    assert found.formation_energy_per_atom == pytest.approx(3 * 0.05, abs=1e-12)
    assert found.energy_above_hull_per_atom == pytest.approx(3 * 0.05, abs=1e-12)
    assert found.decomposition == "0.25 Au (fcc) + 0.75 Cu (fcc)"
    assert not found.stable


def test_a_crystal_of_the_users_own_is_the_reference_where_it_is_lower() -> None:
    """A copper of seven bonds an atom lies below the table's fcc, which has six."""
    body = bulk("Cu", "bcc", a=2.87)  # 8 + 6 neighbours within 3.3 Å: 7 bonds an atom
    found = formation([ordered("AuCu3"), body], Bonds(), start="given")
    assert found.references[1]["energy_per_atom_eV"] == pytest.approx(7 * BB)
    assert found.rows[0]["formation_energy_per_atom_eV"] == pytest.approx(3 * W - 0.75 * BB, abs=1e-12)
    assert found.rows[1]["formation_energy_per_atom_eV"] == pytest.approx(0, abs=1e-12)


def test_three_elements_have_a_triangle(tmp_path: Path) -> None:
    """A cell of Au, Cu and Ag by EMT: every row of the hull in place, its edges between stable phases."""
    crystal = ordered("AuAgCu2")
    found = formation(crystal, EMT(), out=tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run/hull.csv").read_text().splitlines()))
    assert {row["system"] for row in rows} == {"Ag-Au-Cu"}
    (middle,) = (row for row in rows if row["role"] == "structure")
    assert (float(middle["fraction_2"]), float(middle["fraction_3"])) == (0.25, 0.5)
    edges = list(csv.DictReader((tmp_path / "run/tie_lines.csv").read_text().splitlines()))
    assert len(edges) == (6 if found.stable else 3)
    page = (tmp_path / "run/report.html").read_text()
    assert "Convex hull of Ag-Au-Cu" in page


def test_the_command_writes_what_the_contract_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ordered("Au2Cu2").write("CuAu.cif")
    ordered("AuCu3").write("Cu3Au.cif")
    words = ["formation", "CuAu.cif", "Cu3Au.cif", "--model", "ase:ase.calculators.emt:EMT", "--out", "run"]
    assert main([*words, "--quiet"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert "Au (fcc), Cu (fcc)" in summary["results"]["convention"]
    assert all("King" in one["source"] for one in summary["results"]["references"])
    rows = list(csv.DictReader(Path("run/results.csv").read_text().splitlines()))
    assert [row["formula"] for row in rows] == ["CuAu", "Cu3Au"]
    # EMT's Cu3Au: -0.0102 eV/atom against fcc Cu and Au, each relaxed by hand.
    assert float(rows[1]["formation_energy_per_atom_eV"]) == pytest.approx(by_hand(), abs=1e-5)
    page = Path("run/report.html").read_text()
    assert all(word in page for word in ("Convex hull of Au-Cu", "References", "eV per atom, less"))


def by_hand() -> float:
    """Cu3Au against the elements, each at the minimum over its lattice constant."""
    from scipy.optimize import minimize_scalar

    def lowest(make: Any, a: float) -> float:
        def energy(length: float) -> float:
            atoms = make(length)
            atoms.calc = EMT()
            return float(atoms.get_potential_energy() / len(atoms))

        return float(minimize_scalar(energy, bracket=(a - 0.05, a + 0.05), tol=1e-8).fun)

    def alloy(a: float) -> Atoms:
        atoms = ordered("AuCu3")
        atoms.set_cell([a] * 3, scale_atoms=True)
        return atoms

    copper, gold = (lowest(lambda a, s=s: bulk(s, "fcc", a=a), a0) for s, a0 in (("Cu", 3.59), ("Au", 4.06)))
    return lowest(alloy, 3.70) - 0.75 * copper - 0.25 * gold


def test_one_that_fails_is_a_row_and_the_others_go_on() -> None:
    class Sick(Bonds):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            super().calculate(*args, **kwargs)
            if len(self.atoms) == 8:
                self.results["energy"] = float("nan")

    fine, bad = ordered("AuCu3"), ordered("Au2Cu2").repeat((1, 1, 2))
    found = formation([bad, fine], Sick())
    assert not found.converged
    assert found.n_failed == 1
    assert "not finite" in found.rows[0]["error"] or "nan" in found.rows[0]["error"]
    assert found.rows[0]["formation_energy_per_atom_eV"] is None
    assert found.rows[1]["formation_energy_per_atom_eV"] == pytest.approx(3 * W, abs=1e-12)
    with pytest.raises(RunFailedError):
        formation(bad, Sick())


def test_molecules_as_references_are_warned_of() -> None:
    """Of Mg and O only oxygen is molecules; a crystal of the user's own that lies lower is none."""

    class Flat(Bonds):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            Calculator.calculate(self, *args, **kwargs)
            n = len(self.atoms)
            self.results = {"energy": -1.0 * n, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}

    found = formation(bulk("MgO", "rocksalt", a=4.2), Flat())
    (warning,) = found.warnings
    assert "O2" in warning
    assert "functional" in warning
    assert "Mg" not in warning
    assert found.formation_energy_per_atom == 0


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    copper = bulk("Cu", "fcc", a=3.6)
    with pytest.raises(StructureError, match="no published structure of At"):
        formation(bulk("CuAt", "rocksalt", a=5.0), Bonds())
    with pytest.raises(StructureError, match="not periodic"):
        formation(Atoms("Cu"), EMT())
    with pytest.raises(OptionError):
        formation(copper, EMT(), start="there")
    with pytest.raises(InputError, match="holds no files"):
        formation(copper, EMT(), phases=(str(tmp_path / "*.cif"),))
    with pytest.raises(ModelError, match=r"atom 0 is Po .* not trained on"):
        formation(bulk("Po", "sc", a=3.36), "chgnet-0.3.0")


def test_chgnet_forms_an_alloy_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NiAl: -0.64 eV/atom measured (O. Kubaschewski et al., Materials Thermochemistry, 1993), PBE -0.66."""
    monkeypatch.chdir(tmp_path)
    bulk("NiAl", "cesiumchloride", a=2.88).write("NiAl.cif")
    words = ["formation", "NiAl.cif", "--dtype", "float32", "--fmax", "0.05", "--smax", "0.3"]
    assert main([*words, "--quiet", "--out", "run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["results"]["formation_energy_per_atom_eV"] == pytest.approx(-0.65, abs=0.1)
    assert summary["units"]["formation_energy_per_atom_eV"] == "eV/atom"
    assert summary["results"]["stable"]


@pytest.mark.slow
def test_chgnet_forms_an_oxide_and_says_what_its_oxygen_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MgO: -2.98 eV/atom by PBE with the corrections that CHGNet's data has (-3.08 measured)."""
    monkeypatch.chdir(tmp_path)
    bulk("MgO", "rocksalt", a=4.21).write("MgO.cif")
    words = ["formation", "MgO.cif", "--dtype", "float32", "--steps", "40", "--fmax", "0.05", "--smax", "0.5"]
    code = main([*words, "--quiet", "--out", "run"])
    summary = json.loads(Path("run/summary.json").read_text())
    assert code == (0 if summary["converged"] else 3)
    assert summary["results"]["formation_energy_per_atom_eV"] == pytest.approx(-3.0, abs=0.15)
    assert any("O2" in warning and "functional" in warning for warning in summary["warnings"])


def test_a_reference_that_the_model_blows_up_is_warned_of() -> None:
    """A Lennard-Jones copper of far larger atoms: its fcc crystal grows to 3.4 times the volume."""
    from ase.calculators.lj import LennardJones

    big = LennardJones(epsilon=0.3, sigma=3.4, rc=10.0, smooth=True)
    found = formation(bulk("Cu", "fcc", a=5.2), big)
    assert any("Cu relaxed to" in warning and "a guess" in warning for warning in found.warnings)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_relaxes_nothing_twice(
    killable: Callable[..., Callable[..., int]],
) -> None:
    ordered("Au2Cu2").write("CuAu.cif")
    ordered("AuCu3").write("Cu3Au.cif")
    run = killable("formation", "CuAu.cif", "Cu3Au.cif")
    assert run("whole", 1 << 30) == 0
    assert run("killed", 10) == -signal.SIGKILL
    done = sorted(path.parent.name for path in Path("killed").rglob("summary.json"))
    assert done == ["Au", "Cu"]
    before = {name: Path("killed/references", name, "summary.json").read_bytes() for name in done}
    assert run("killed", 1 << 30, "--resume") == 0
    whole, killed = (json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    assert Path("whole/results.csv").read_bytes() == Path("killed/results.csv").read_bytes()
    assert before == {name: Path("killed/references", name, "summary.json").read_bytes() for name in done}
    assert [event["event"] for event in read_events("killed/references/Au")].count("finished") == 1

"""Vacancies, substitutions and antisites: lattice sums, bonds that can be counted, signs, and runs."""

from __future__ import annotations

import csv
import json
import math
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
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list

from atomml.cli.main import main
from atomml.errors import InputError, ModelError, OptionError, StructureError
from atomml.run import read_events
from atomml.workflows import defect, vacancy
from atomml.workflows.defects.defect_measurement import concentration

EPSILON, SIGMA = 0.0104, 3.40
EMT_MODEL = ["--model", "ase:ase.calculators.emt:EMT"]


def test_a_lennard_jones_vacancy_costs_the_lattice_sum_of_one_atom() -> None:
    """Unrelaxed. Every atom has half of its bonds; without one, all of its bonds are gone.

    E(N-1) - E(N) = -2 e and mu = e with e the energy of an atom, so E_f = -e, to rounding, if an atom
    does not reach its own image.
    """
    cut = 2.5 * SIGMA
    model = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=cut)
    argon = bulk("Ar", "fcc", a=5.25)
    found = vacancy(argon, model, min_length=cut + 0.1, relax="none", start="given")
    shift = 4 * EPSILON * ((SIGMA / cut) ** 12 - (SIGMA / cut) ** 6)
    lengths = neighbor_list("d", argon, cut)
    bonds = 4 * EPSILON * ((SIGMA / lengths) ** 12 - (SIGMA / lengths) ** 6) - shift
    assert found.vacancy_formation_energy == pytest.approx(-bonds.sum() / 2, abs=1e-12)
    assert found.unrelaxed_vacancy_formation_energy == found.vacancy_formation_energy
    assert found.relaxation_energy is None
    assert found.convention.endswith("(own bulk)")


def test_relaxing_lowers_the_energy_and_the_emt_value_is_that_by_hand() -> None:
    """1.2 eV for EMT copper, as ASE's own optimiser finds it in the same supercell.

    What a force of 0.005 eV/Å leaves on atoms held by some 3 eV/Å² is below 1e-4 eV.
    """
    from ase.optimize import BFGS

    copper = bulk("Cu", "fcc", a=3.59, cubic=True)
    found = vacancy(copper, EMT(), min_length=7, start="given", fmax=0.005)
    cell = copper.repeat(2)
    cell.calc = EMT()
    whole = cell.get_potential_energy()
    del cell[5]
    cell.calc = EMT()
    unrelaxed = cell.get_potential_energy()
    BFGS(cell, logfile=None).run(fmax=0.005)
    share = whole * 31 / 32
    assert found.unrelaxed_vacancy_formation_energy == pytest.approx(unrelaxed - share, abs=1e-9)
    assert found.vacancy_formation_energy == pytest.approx(cell.get_potential_energy() - share, abs=2e-4)
    assert 1.1 < found.vacancy_formation_energy < found.unrelaxed_vacancy_formation_energy < 1.3
    assert found.max_displacement is not None
    assert 0.005 < found.max_displacement < 0.05
    assert found.relaxation_energy == pytest.approx(
        found.unrelaxed_vacancy_formation_energy - found.vacancy_formation_energy
    )


def test_the_concentration_is_boltzmanns() -> None:
    """At kT = E it is 1/e; a defect that costs nothing or less fills every site and overflows nothing."""
    assert concentration(1.0, 1 / 8.617333262e-5) == pytest.approx(math.exp(-1))
    assert concentration(0.5, 300) == pytest.approx(math.exp(-0.5 / 0.02585199979), rel=1e-6)
    assert concentration(-5.0, 10.0) == 1.0
    assert concentration(50.0, 10.0) == 0.0


class Bonds(Calculator):  # type: ignore[misc]
    """Neighbours closer than 3.3 Å are bonds of fixed energies; nothing pulls or presses."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]
    energies: ClassVar[dict[str, float]] = {"AuAu": -0.50, "CuCu": -0.70, "AuCu": -0.66}
    energies |= {"AgAg": -0.45, "AgAu": -0.50, "AgCu": -0.55}

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        symbols = self.atoms.get_chemical_symbols()
        pairs = zip(*neighbor_list("ij", self.atoms, 3.3), strict=True)
        energy = sum(self.energies["".join(sorted((symbols[i], symbols[j])))] for i, j in pairs) / 2
        self.results = {"energy": energy, "forces": np.zeros((len(self.atoms), 3)), "stress": np.zeros(6)}


def alloy() -> Atoms:
    """CuAu in layers along z (L1_0): each atom has 4 like and 8 unlike neighbours."""
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("Au2Cu2", scaled_positions=sites, cell=[3.85] * 3, pbc=True)


SETTINGS: dict[str, Any] = {"min_length": 7, "relax": "none", "start": "given"}
AU, CU, AUCU = -0.50, -0.70, -0.66
PAIR = 2 * AU + 2 * CU + 8 * AUCU  # eV of one Au and one Cu in CuAu: half of 4, 4 and 16 bonds


@pytest.mark.parametrize(
    ("limit", "mu"),
    [("auto", 6 * AU), ("rich", 6 * AU), ("poor", PAIR - 6 * CU), ("-3.2", -3.2)],
)
def test_limits_of_the_potential_are_the_corners_of_the_diagram(limit: str, mu: float) -> None:
    """Rich in gold it is that of gold; poor, copper is at that of copper and gold has what is left.

    A gold vacancy breaks 4 Au-Au and 8 Au-Cu bonds, and the atom goes to the reservoir.
    """
    found = vacancy(alloy(), Bonds(), element=("Au",), mu=(f"Au={limit}",), **SETTINGS)
    broken = 4 * AU + 8 * AUCU
    assert found.vacancy_formation_energy == pytest.approx(-broken + mu, abs=1e-9)
    (row,) = found.chemical_potentials
    assert row["mu_eV"] == pytest.approx(mu, abs=1e-9)
    if limit != "-3.2":
        assert row["rich_eV"] == pytest.approx(6 * AU, abs=1e-9)
        assert row["poor_eV"] == pytest.approx(PAIR - 6 * CU, abs=1e-9)
        assert f"Au-{'poor' if limit == 'poor' else 'rich'} limit" in found.convention
        assert ("Cu (fcc)" if limit == "poor" else "Au (fcc)") in found.convention
    else:
        assert "as given" in found.convention


def test_the_potentials_of_one_equilibrium_sum_to_the_crystal() -> None:
    found = vacancy(alloy(), Bonds(), **SETTINGS)
    by_element = {row["element"]: row["mu_eV"] for row in found.chemical_potentials}
    assert sum(by_element.values()) == pytest.approx(PAIR, abs=1e-9)
    assert {row["defect"] for row in found.rows} == {"v_Au", "v_Cu"}


def test_a_further_phase_narrows_the_limits(tmp_path: Path) -> None:
    """Beside AuCu3 gold cannot be as poor as beside copper."""
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    rival = Atoms("AuCu3", scaled_positions=sites, cell=[3.75] * 3, pbc=True)
    rival.write(tmp_path / "rival.cif")
    found = vacancy(
        alloy(),
        Bonds(),
        element=("Au",),
        mu=("Au=poor",),
        phases=(str(tmp_path / "rival.cif"),),
        **SETTINGS,
    )
    # Equilibrium of AuCu and AuCu3: mu_Au + mu_Cu = PAIR, mu_Au + 3 mu_Cu = E(AuCu3): 12 unlike bonds
    # and 12 of copper with itself.
    copper = (12 * AUCU + 12 * CU - PAIR) / 2
    assert found.chemical_potentials[0]["mu_eV"] == pytest.approx(PAIR - copper, abs=1e-9)
    assert PAIR - copper > PAIR - 6 * CU


def test_an_antisite_and_its_reverse_have_the_signs_of_the_exchange() -> None:
    """Au on Cu: 8 Cu-Au and 4 Cu-Cu bonds go, 8 Au-Au and 4 Au-Cu come; gold leaves its reservoir.

    The sum of both antisites has no potential in it: what one takes the other gives back.
    """
    found = defect(alloy(), Bonds(), antisites=True, **SETTINGS)
    by_name = {row["defect"]: row["formation_energy_eV"] for row in found.rows}
    mu = {row["element"]: row["mu_eV"] for row in found.chemical_potentials}
    on_copper = 8 * AU + 4 * AUCU - 8 * AUCU - 4 * CU
    on_gold = 8 * CU + 4 * AUCU - 8 * AUCU - 4 * AU
    assert by_name["Au_Cu"] == pytest.approx(on_copper - (mu["Au"] - mu["Cu"]), abs=1e-9)
    assert by_name["Cu_Au"] == pytest.approx(on_gold - (mu["Cu"] - mu["Au"]), abs=1e-9)
    assert sum(by_name.values()) == pytest.approx(on_copper + on_gold, abs=1e-9)


def test_a_foreign_atom_comes_from_its_own_crystal(tmp_path: Path) -> None:
    """Silver in copper: 12 Cu-Cu bonds become Ag-Cu; copper goes to its bulk, silver comes from silver."""
    bulk("Cu", "bcc", a=2.87).write(tmp_path / "lower.cif")  # 7 bonds an atom: no reservoir of fcc copper
    phases = (str(tmp_path / "lower.cif"),)
    found = defect(bulk("Cu", "fcc", a=3.6), Bonds(), substitute=("Cu:Ag",), phases=phases, **SETTINGS)
    expected = 12 * (-0.55 + 0.70) - (6 * -0.45) + 6 * CU
    assert found.formation_energy == pytest.approx(expected, abs=1e-9)
    assert "mu(Cu) = -4.2000 eV (own bulk)" in found.convention
    assert "Ag-rich limit" in found.convention
    assert not found.warnings


def test_a_molecule_that_goes_into_a_metal_is_warned_of() -> None:
    class Flat(Bonds):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            Calculator.calculate(self, *args, **kwargs)
            n = len(self.atoms)
            self.results = {"energy": -2.0 * n, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}

    found = defect(bulk("Cu", "fcc", a=3.6), Flat(), substitute=("Cu:O",), **SETTINGS)
    assert found.formation_energy == pytest.approx(0, abs=1e-9)
    (warning,) = found.warnings
    assert "O2" in warning


def test_converging_shares_supercells_and_says_what_changes(tmp_path: Path) -> None:
    """7 and 7.1 Å of copper are one supercell of 32 atoms; the largest one counts."""
    found = vacancy(
        bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), min_length=7, converge=(7.1, 10), start="given"
    )
    assert [row["n_atoms"] for row in found.all_rows] == [32, 108]
    assert found.n_atoms == 108
    first, last = (row["formation_energy_eV"] for row in found.all_rows)
    assert found.size_change == pytest.approx(last - first)
    assert found.vacancy_formation_energy == last


def test_a_negative_formation_energy_is_warned_of() -> None:
    found = vacancy(alloy(), Bonds(), element=("Au",), mu=("Au=-20",), **SETTINGS)
    assert found.vacancy_formation_energy < 0
    assert any("negative" in warning for warning in found.warnings)
    assert found.concentration == 1.0


def test_a_crystal_above_the_hull_is_said_to_be() -> None:
    class Repelling(Bonds):
        energies: ClassVar[dict[str, float]] = Bonds.energies | {"AuCu": -0.55}

    found = vacancy(alloy(), Repelling(), element=("Au",), **SETTINGS)
    assert any("above the hull" in warning and "Cu (fcc)" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"element": ("Fe",)}, "has no Fe to take away; its elements are Au, Cu"),
        ({"mu": ("Fe=rich",)}, "Fe is neither in .* nor added"),
        ({"mu": ("Au",)}, "write it as ELEMENT="),
        ({"mu": ("Au=much",)}, "none of auto, rich, poor"),
        ({"mu": ("Au=rich", "Au=poor")}, "given twice"),
        ({"min_length": 30}, "has 2048 atoms, more than --max-atoms 300"),
        ({"converge": (8, 30)}, "--min-length and --converge"),
        ({"min_length": 0}, "above 0"),
        ({"min_length": 30, "max_atoms": 9}, "more than --max-atoms 9"),
        ({"phases": ("nowhere/*.cif",)}, "holds no files"),
        ({"phases": ("nowhere/*.cif",), "mu": ("Au=-1", "Cu=-1")}, "holds no files"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        vacancy(alloy(), Bonds(), **({**SETTINGS, **options}))


def test_wrong_substitutions_and_elements_are_refused() -> None:
    for wrong in ("Cu", "Cu:Cu", "Cu:X9", "Xy:Cu"):
        with pytest.raises(OptionError, match="OLD:NEW"):
            defect(alloy(), Bonds(), substitute=(wrong,), **SETTINGS)
    with pytest.raises(OptionError, match="needs --substitute"):
        defect(alloy(), Bonds(), **SETTINGS)
    with pytest.raises(OptionError, match="has no Ag to replace"):
        defect(alloy(), Bonds(), substitute=("Ag:Cu",), **SETTINGS)
    with pytest.raises(OptionError, match="no lower limit"):
        defect(alloy(), Bonds(), substitute=("Cu:Ag",), mu=("Ag=poor",), **SETTINGS)
    with pytest.raises(OptionError, match="no antisites"):
        defect(bulk("Cu", "fcc", a=3.6), Bonds(), antisites=True, **SETTINGS)
    with pytest.raises(StructureError, match="no published structure of At"):
        defect(alloy(), Bonds(), substitute=("Cu:At",), **SETTINGS)
    with pytest.raises(ModelError, match=r"is Po .* not trained on"):
        vacancy(bulk("Po", "sc", a=3.36), "chgnet-0.3.0")
    with pytest.raises(StructureError, match="not periodic"):
        vacancy(Atoms("Cu"), EMT())


def test_an_element_that_the_model_never_saw_is_refused_as_a_dopant_too() -> None:
    """With its potential given, no reference would say so."""
    with pytest.raises(ModelError, match=r"v_|Po_Cu: atom . is Po .* not trained on"):
        defect(bulk("Cu", "fcc", a=3.6), "chgnet-0.3.0", substitute=("Cu:Po",), mu=("Po=-1",))
    with pytest.raises(OptionError, match="has one atom: raise --min-length"):
        vacancy(bulk("Cu", "fcc", a=3.6), EMT(), min_length=1)


def test_a_number_for_every_potential_needs_no_reference(tmp_path: Path) -> None:
    """Astatine has no published structure, and with its potential given none is asked for."""

    class Flat(Bonds):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            Calculator.calculate(self, *args, **kwargs)
            n = len(self.atoms)
            self.results = {"energy": -2.0 * n, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}

    settings = {**SETTINGS, "mu": ("Cu=-1.5", "At=-3"), "out": tmp_path / "run"}
    found = defect(alloy(), Flat(), substitute=("Cu:At",), **settings)
    assert found.formation_energy == pytest.approx(3.0 - 1.5)  # -(+1)(-3) - (-1)(-1.5)
    assert not (tmp_path / "run" / "references").exists()


def test_the_folder_holds_what_the_contract_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bulk("Cu", "fcc", a=3.6).write("cu.cif")
    words = ["vacancy", "cu.cif", "--element", "Cu", "--min-length", "6", "--converge", "7,8", "--out", "run"]
    assert main([*words, *EMT_MODEL, "--mu", "Cu=auto", "--quiet"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    results = summary["results"]
    assert summary["units"]["vacancy_formation_energy_eV"] == "eV"
    assert results["site"] == "Cu 4a"
    assert "own bulk" in results["convention"]
    rows = list(csv.DictReader(Path("run/defects.csv").read_text().splitlines()))
    assert (rows[0]["wyckoff"], rows[0]["multiplicity"]) == ("a", "4")
    table = list(csv.DictReader(Path("run/concentration.csv").read_text().splitlines()))
    at_1000 = next(float(row["v_Cu"]) for row in table if row["temperature_K"] == "1000.0")
    expected = math.exp(-results["vacancy_formation_energy_eV"] / (8.617333262e-5 * 1000))
    assert at_1000 == pytest.approx(expected)
    page = Path("run/report.html").read_text()
    shown = ("Formation energies", "Convergence with size", "Equilibrium concentration", "own bulk")
    assert all(word in page for word in shown)


def test_chgnet_takes_an_atom_out_of_copper_from_the_command_line(here: Path) -> None:
    """1.0 to 1.3 eV measured and by PBE; CHGNet, trained on crystals without vacancies, is softer."""
    bulk("Cu", "fcc", a=3.6).write("fcc.cif")
    words = ["vacancy", "fcc.cif", "--min-length", "6", "--fmax", "0.05", "--dtype", "float32", "--quiet"]
    assert main([*words, "--out", "run"]) == 0
    results = json.loads(Path("run/summary.json").read_text())["results"]
    assert 0.4 < results["vacancy_formation_energy_eV"] < 1.4


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_sites_that_are_missing(
    killable: Callable[..., Callable[..., int]],
) -> None:
    alloy().write("alloy.cif")
    words = ("--min-length", "7", "--mu", "Au=-1,Cu=-1", "--start", "given")
    run = killable("vacancy", "alloy.cif", *words)
    assert run("whole", 1 << 30) == 0
    steps = [
        row["relaxation_steps"] for row in csv.DictReader(Path("whole/log.csv").read_text().splitlines())
    ]
    first = 4 + int(steps[0]) + 1  # the crystal, the bulk and two defects, then the first relaxation
    assert run("killed", first + 2) == -signal.SIGKILL
    finished = list(Path("killed/defects").glob("*/summary.json"))
    assert len(finished) == 1
    before = finished[0].read_bytes()
    assert run("killed", 1 << 30, "--resume") == 0
    whole, killed = (json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    for name in ("log.csv", "defects.csv", "structures.extxyz"):
        assert Path("whole", name).read_bytes() == Path("killed", name).read_bytes()
    assert finished[0].read_bytes() == before
    assert [event["event"] for event in read_events(finished[0].parent)].count("finished") == 1

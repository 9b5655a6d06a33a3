"""Phonons against closed answers: springs, an Einstein solid, elastic waves, thermodynamics, soft modes."""

from __future__ import annotations

import csv
import json
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
from ase.units import _amu, _e, _hbar, _k, _Nav

from atomml.cli.main import main
from atomml.errors import OptionError, StructureError
from atomml.run import read_events
from atomml.workflows import elastic, phonons
from atomml.workflows.crystals.phonon_measurement import repeats_for, thermal_table
from atomml.workflows.crystals.phonon_path import standard_path

pytest.importorskip("phonopy")

GAS = _k * _Nav
SMOOTH = LennardJones(epsilon=0.0104, sigma=3.4, rc=8.5, ro=6.8, smooth=True)


def thz(stiffness: float, mass: float) -> float:
    """Frequency of a spring in eV/Å² and a mass in u."""
    return float(np.sqrt(stiffness * _e * 1e20 / (mass * _amu)) / (2 * np.pi) / 1e12)


class Springs(Calculator):  # type: ignore[misc]
    """Springs between nearest neighbours, linear in the displacements: ``-k n (n·(u_i - u_j))``."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, lattice: float, constant: float) -> None:
        super().__init__()
        self.lattice, self.constant = lattice, constant

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        half = self.lattice / 2
        sites = self.atoms.copy()
        sites.positions = np.round(sites.positions / half) * half
        moved = self.atoms.positions - sites.positions
        i, j, d = neighbor_list("ijD", sites, 0.8 * self.lattice)
        unit = d / np.linalg.norm(d, axis=1, keepdims=True)
        stretch = np.einsum("ni,ni->n", unit, moved[j] - moved[i])
        forces = np.zeros_like(moved)
        np.add.at(forces, i, self.constant * stretch[:, None] * unit)
        self.results = {"energy": self.constant * (stretch**2).sum() / 4, "forces": forces}


def at_corner(result: Any, name: str) -> np.ndarray[Any, Any]:
    """Frequencies at a corner of the path, THz, from the smallest."""
    path = standard_path(result.phonopy.primitive.cell, 3)
    return np.sort(np.asarray(result.phonopy.run_qpoints([path.points[name]]).frequencies[0]))


def test_springs_of_fcc_have_the_frequencies_of_born_and_karman() -> None:
    """At X: ω² = 4k/m twice and 8k/m; at L: k/m · 2 twice and 8k/m, from sum k n n (1 - cos q·R)."""
    a, k = 4.0, 2.0
    crystal = bulk("Cu", "fcc", a=a, cubic=True)
    found = phonons(crystal, Springs(a, k), start="given", min_length=7.9)
    mass = float(crystal.get_masses()[0])
    assert found.supercell == [2, 2, 2]
    assert found.n_displacements == 1
    expected = [thz(4 * k, mass), thz(4 * k, mass), thz(8 * k, mass)]
    assert np.allclose(at_corner(found, "X"), expected, rtol=1e-6)
    expected = [thz(2 * k, mass), thz(2 * k, mass), thz(8 * k, mass)]
    assert np.allclose(at_corner(found, "L"), expected, rtol=1e-6)
    assert np.abs(at_corner(found, "G")).max() < 1e-3
    assert found.highest_frequency == pytest.approx(thz(8 * k, mass), rel=1e-6)
    assert found.stable
    assert found.imaginary_modes == []


class Einstein(Calculator):  # type: ignore[misc]
    """Every atom on a spring of its own, fixed to its site of a simple cubic lattice."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    lattice, constant = 3.0, 5.0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        moved = self.atoms.positions - np.round(self.atoms.positions / self.lattice) * self.lattice
        energy = self.constant * (moved**2).sum() / 2
        self.results = {"energy": energy, "forces": -self.constant * moved}


def test_an_einstein_solid_has_one_frequency_and_einsteins_heat_capacity() -> None:
    """C = 3R x² eˣ/(eˣ - 1)² and F = 3 (ħω/2 + kT ln(1 - e⁻ˣ)), with x = ħω/kT."""
    crystal = bulk("Al", "sc", a=3.0)
    found = phonons(
        crystal, Einstein(), start="given", min_length=6, sum_rule=False, temperature=200.0, mesh=10.0
    )
    frequency = thz(5.0, float(crystal.get_masses()[0]))
    assert found.lowest_frequency == pytest.approx(frequency, rel=1e-6)
    assert found.highest_frequency == pytest.approx(frequency, rel=1e-6)
    quantum = _hbar * 2 * np.pi * frequency * 1e12  # J
    x = quantum / (_k * 200.0)
    assert found.heat_capacity == pytest.approx(3 * GAS * x**2 * np.exp(x) / np.expm1(x) ** 2, rel=1e-5)
    assert found.zero_point_energy == pytest.approx(1500 * quantum / _e, rel=1e-5)
    free = 3000 * (quantum / 2 + _k * 200.0 * np.log(-np.expm1(-x))) / _e
    assert found.free_energy == pytest.approx(free, rel=1e-4)
    assert found.entropy == pytest.approx(3 * GAS * (x / np.expm1(x) - np.log(-np.expm1(-x))), rel=1e-5)


@pytest.mark.slow
def test_long_waves_run_at_the_speed_of_the_elastic_constants() -> None:
    """Along [100], v² = C11/ρ and C44/ρ. At 1/50 of the way to X dispersion takes (π/50)²/24, 2e-4."""
    crystal = bulk("Ar", "fcc", a=5.25, cubic=True)
    tight: dict[str, Any] = {"fmax": 1e-6, "smax": 1e-5}
    found = phonons(crystal, SMOOTH, min_length=20, **tight)
    assert found.supercell == [4, 4, 4]
    constants = np.array(elastic(crystal, SMOOTH, ions="clamped", **tight).elastic_tensor)
    assert found.atoms is not None
    density = found.atoms.get_masses().sum() * _amu / (found.atoms.cell.volume * 1e-30)
    q = standard_path(found.phonopy.primitive.cell, 3).points["X"] / 50
    frequencies = np.sort(np.asarray(found.phonopy.run_qpoints([q]).frequencies[0])) * 1e12
    length = np.linalg.norm(q @ np.linalg.inv(found.phonopy.primitive.cell).T) * 1e10  # 1/m
    # A supercell of 4 leaves out pairs beyond half of it, 10.5 Å; the model ends at 8.5 Å.
    speeds = frequencies / length
    assert speeds[2] == pytest.approx(np.sqrt(constants[0, 0] * 1e9 / density), rel=5e-3)
    assert speeds[0] == pytest.approx(np.sqrt(constants[3, 3] * 1e9 / density), rel=5e-3)


@pytest.fixture(scope="module")
def copper() -> Any:
    return phonons(bulk("Cu", "fcc", a=3.6), EMT(), min_length=10.0, max_temperature=2000.0)


def test_thermodynamics_has_its_limits_and_hangs_together(copper: Any) -> None:
    """C → 3R (Dulong and Petit), C → 0 and S → 0 at 0 K, S = -dF/dT, C = T dS/dT; 2000 K is 5 times ħω/k."""
    h = 1.0
    capacity, entropy, free = list(
        thermal_table(copper.phonopy, [0.0, 300 - h, 300.0, 300 + h, 5000.0]).values()
    )[1:]
    assert capacity[0] == 0
    assert entropy[0] == 0
    assert capacity[4] == pytest.approx(3 * GAS, rel=1e-3)
    slope = -(free[3] - free[1]) / (2 * h)  # meV/atom/K
    assert copper.entropy == pytest.approx(slope * 1e-3 * _e * _Nav, rel=1e-4)
    assert copper.heat_capacity == pytest.approx(300 * (entropy[3] - entropy[1]) / (2 * h), rel=1e-4)
    assert copper.free_energy == pytest.approx(free[2], rel=1e-12)
    assert copper.zero_point_energy == pytest.approx(free[0], rel=1e-12)


def test_numbers_are_per_atom_whatever_the_cell(copper: Any) -> None:
    """The conventional cell of four atoms, in the supercell of the same size along its axes."""
    four = phonons(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), min_length=10.0)
    assert len(four.phonopy.primitive) == 1
    assert four.heat_capacity == pytest.approx(copper.heat_capacity, rel=5e-3)
    assert four.zero_point_energy == pytest.approx(copper.zero_point_energy, rel=1e-2)


def test_a_soft_crystal_has_its_imaginary_modes_named(here: Path) -> None:
    """Lennard-Jones bcc shears into a close packing: the transverse mode at N is imaginary."""
    found = phonons(bulk("Ar", "bcc", a=4.2, cubic=True), SMOOTH, min_length=12.0, out="run")
    assert not found.stable
    named = {mode["point"]: mode for mode in found.imaginary_modes}
    assert "N" in named
    assert named["N"]["frequency_THz"] < -0.1
    assert named["N"]["move"] == "Ar"
    assert found.lowest_frequency <= min(mode["frequency_THz"] for mode in found.imaginary_modes) + 1e-9
    assert any("imaginary modes at" in warning and "N (" in warning for warning in found.warnings)
    page = Path("run/report.html").read_text()
    assert "Imaginary modes" in page


def test_the_supercell_is_the_smallest_whose_faces_are_far_enough_apart() -> None:
    """A slanted cell needs more repeats than its vectors are long: what counts is the height."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        cell = rng.normal(size=(3, 3)) * 4
        repeats = repeats_for(cell, 20.0)
        for axis in range(3):
            normal = np.cross(cell[axis - 2], cell[axis - 1])
            height = abs(cell[axis] @ normal) / np.linalg.norm(normal)
            assert repeats[axis] * height >= 20.0 - 1e-4
            assert (repeats[axis] - 1) * height < 20.0
    assert repeats_for(np.eye(3) * 5.0, 20.0) == (4, 4, 4)


def test_the_default_is_20_angstrom_and_too_large_a_cell_is_refused() -> None:
    with pytest.raises(OptionError, match="4x4x4 supercell has 512 atoms"):
        phonons(bulk("Si", "diamond", a=5.43, cubic=True), EMT(), max_atoms=511)


def slanted() -> Atoms:
    """A crystal without symmetry."""
    atoms = Atoms("ArKr", cell=[[3.9, 0, 0], [0.5, 3.8, 0], [0.3, 0.7, 7.0]], pbc=True)
    atoms.set_scaled_positions([[0, 0, 0], [0.45, 0.55, 0.48]])
    return atoms


def test_our_own_model_is_asked_for_many_displacements_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from atomml import load_model
    from atomml.model import Potential

    asked: list[int] = []
    plain = Potential.predict

    def counting(self: Potential, graph: Any, **more: Any) -> Any:
        asked.append(graph.n_graphs)
        return plain(self, graph, **more)

    monkeypatch.setattr(Potential, "predict", counting)
    model = load_model("lj-argon", dtype="float64", device="cpu")
    found = phonons(slanted(), model, start="given", supercell=(2, 2, 1), mesh=10.0, path_points=3)
    assert found.n_displacements == 12
    assert max(asked) > 4
    assert any("thinner" in warning for warning in found.warnings)


def test_an_interrupted_run_asks_for_the_rest_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own model, whose answers don't depend on what it was asked before: the same bits."""
    from atomml import load_model
    from atomml.model import Potential

    monkeypatch.setattr("atomml.workflows.crystals.crystal_images._KEEP_EVERY_S", 0.0)
    monkeypatch.setattr("atomml.workflows.crystals.crystal_images._KEPT_TOGETHER", 2)
    model = load_model("lj-argon", dtype="float64", device="cpu")
    left = 1 << 30
    plain = Potential.predict

    def stopping(self: Potential, graph: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return plain(self, graph, **more)

    monkeypatch.setattr(Potential, "predict", stopping)
    settings: dict[str, Any] = {"start": "given", "supercell": (2, 2, 1), "mesh": 10.0, "path_points": 3}
    whole = phonons(slanted(), model, out="whole", **settings)
    assert whole.n_displacements == 12
    left = 4
    with pytest.raises(KeyboardInterrupt):
        phonons(slanted(), model, out="part", **settings)
    left = 2  # two batches of two are missing, and no more are asked for
    part = phonons(slanted(), model, out="part", resume=True, **settings)
    assert part.results() == whole.results()
    for name in ("log.csv", "bands.csv", "dos.csv", "thermal.csv", "phonopy_params.yaml"):
        assert Path("part", name).read_bytes() == Path("whole", name).read_bytes(), name
    steps = [event["step"] for event in read_events("part") if event["event"] == "images"]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_the_folder_holds_what_the_contract_says(here: Path) -> None:
    words = ["phonons", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--out", "run", "--quiet"]
    assert main([*words, "--min-length", "7"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["units"]["heat_capacity_J_per_K_per_mol"] == "J/K/mol"
    assert summary["units"]["highest_frequency_THz"] == "THz"
    page = Path("run/report.html").read_text()
    titles = ("Phonon bands", "Density of states", "Heat capacity", "Free energy", "Displacements")
    assert all(title in page for title in titles)
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page
    import phonopy

    rows = list(csv.DictReader(Path("run/bands.csv").read_text().splitlines()))
    again = phonopy.load("run/phonopy_params.yaml", log_level=0)
    highest = max(again.run_qpoints([[0.5, 0.5, 0.0]]).frequencies[0])
    assert highest == pytest.approx(
        max(float(row["band_3_THz"]) for row in rows if row["point"] == "X"), rel=1e-3
    )


def test_what_has_no_phonons_is_refused() -> None:
    with pytest.raises(StructureError, match="not periodic"):
        phonons(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]]), EMT())


def test_a_dry_run_counts_the_cells_of_all_displaced_supercells(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silicon needs one displacement: 64 cells of 8 atoms at 20 Å, or what --supercell says."""
    words = ["phonons", "si.cif", "--start", "given", "--dry-run", "--json"]
    for more, cells in (([], 64), (["--supercell", "2,2,1"], 4)):
        assert main([*words, *more]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["steps"], plan["atoms"]) == (cells, 8)
        assert plan["estimated_s"] == pytest.approx(cells * plan["evaluation_s"])
    assert main([*words, "--max-atoms", "511"]) == 2
    assert "512 atoms" in capsys.readouterr().err

"""Thermal expansion with closed answers: an Einstein crystal that follows its volume, identities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.units import _amu, _e, _hbar, _k, _Nav
from interrupted import Interrupted
from scipy.optimize import minimize_scalar

from atomml.cli.main import main
from atomml.errors import OptionError, StructureError
from atomml.run import read_events
from atomml.workflows import phonons, qha

pytest.importorskip("phonopy")

GAS = _k * _Nav
KB = _k / _e  # eV/K
GPA = 160.21766208


class Follows(Calculator):  # type: ignore[misc]
    """Simple cubic aluminium on springs to its sites, ``k = k0 (V/V0)^(-2 γ)``, over Vinet's energy."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    volume, modulus, derivative, constant, gamma = 27.0, 0.3, 4.5, 5.0, 2.0

    def static(self, volume: Any) -> Any:
        """Vinet's energy of an atom, eV."""
        x, eta = (volume / self.volume) ** (1 / 3), 1.5 * (self.derivative - 1)
        rise = 1 - (1 - eta * (1 - x)) * np.exp(eta * (1 - x))
        return 4 * self.modulus * self.volume / (self.derivative - 1) ** 2 * rise

    def spring(self, volume: float) -> float:
        """eV/Å²."""
        return float(self.constant * (volume / self.volume) ** (-2 * self.gamma))

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        n, volume = len(self.atoms), self.atoms.cell.volume / len(self.atoms)
        lattice, spring = volume ** (1 / 3), self.spring(volume)
        moved = self.atoms.positions - np.round(self.atoms.positions / lattice) * lattice
        energy = n * float(self.static(volume)) + spring * (moved**2).sum() / 2
        self.results = {"energy": energy, "forces": -spring * moved}

    def quantum(self, volume: Any) -> Any:
        """``ħω`` in eV."""
        rate = np.sqrt(self.constant * _e * 1e20 / (26.9815385 * _amu))
        return _hbar * rate / _e * (volume / self.volume) ** -self.gamma

    def free_energy(self, volume: Any, temperature: float) -> Any:
        """Of an atom, eV: Einstein's."""
        quantum = self.quantum(volume)
        thermal = KB * temperature * np.log(-np.expm1(-quantum / (KB * temperature))) if temperature else 0.0
        return self.static(volume) + 3 * (quantum / 2 + thermal)

    def equilibrium(self, temperature: float) -> float:
        """Å³ of an atom."""
        found = minimize_scalar(
            lambda v: self.free_energy(v, temperature), bounds=(24, 33), options={"xatol": 1e-10}
        )
        return float(found.x)


EINSTEIN: dict[str, Any] = {
    "start": "given",
    "relax": "ions",
    "supercell": (2, 2, 2),
    "sum_rule": False,
    "mesh": 10.0,
    "temperature_step": 25.0,
    "max_temperature": 600.0,
}


@pytest.fixture(scope="module")
def einstein() -> Any:
    return qha(bulk("Al", "sc", a=3.0), Follows(), **EINSTEIN)


def test_an_einstein_crystal_expands_as_its_free_energy_says(einstein: Any) -> None:
    """Volumes by a plain minimisation; the four parameters of the curve miss ``V^-γ`` by 1e-5 of V."""
    model, table = Follows(), einstein.table
    expected = np.array([model.equilibrium(t) for t in table["temperature_K"]])
    assert np.allclose(table["volume_A3"], expected, rtol=3e-5)
    assert einstein.zero_point_volume == pytest.approx(expected[0], rel=3e-5)
    assert einstein.static_volume == pytest.approx(27.0, rel=1e-5)
    assert einstein.fit_rms < 0.01
    assert einstein.zero_point_volume > 27.01  # zero-point motion pushes
    h = 1.0
    slope = np.log(model.equilibrium(300 + h) / model.equilibrium(300 - h)) / (2 * h)
    assert einstein.thermal_expansion == pytest.approx(slope, rel=1e-2)
    v, dv = model.equilibrium(300), 0.05
    curvature = (
        model.free_energy(v + dv, 300) - 2 * model.free_energy(v, 300) + model.free_energy(v - dv, 300)
    ) / dv**2
    assert einstein.bulk_modulus == pytest.approx(v * curvature * GPA, rel=5e-3)


def test_the_grueneisen_parameter_is_that_of_every_mode(einstein: Any) -> None:
    """All frequencies follow ``V^-2``, so the thermodynamic parameter is 2 at every temperature.

    Differences over 50 K miss by ``(Δ²/6) α''/α``, 1 % at 100 K.
    """
    gamma = np.array(einstein.table["gruneisen"])
    warm = np.array(einstein.table["temperature_K"]) >= 125
    assert np.allclose(gamma[warm], 2.0, rtol=1.2e-2)
    assert einstein.gruneisen == pytest.approx(2.0, rel=1e-2)


def test_heat_at_constant_volume_is_einsteins(einstein: Any) -> None:
    """``3R x² eˣ/(eˣ - 1)²`` at the volume of the temperature."""
    for temperature, volume, capacity in zip(
        *(einstein.table[n] for n in ("temperature_K", "volume_A3", "heat_capacity_v_J_per_K_per_mol")),
        strict=True,
    ):
        if temperature:
            x = Follows().quantum(volume) / (KB * temperature)
            assert capacity == pytest.approx(
                3 * GAS * x**2 * np.exp(x) / np.expm1(x) ** 2, rel=1e-3, abs=1e-4
            )


@pytest.fixture(scope="module")
def copper() -> Any:
    return qha(bulk("Cu", "fcc", a=3.6), EMT(), min_length=7, points=7, temperature_step=20.0, mesh=30.0)


@pytest.mark.parametrize("which", ["einstein", "copper"])
def test_both_heat_capacities_differ_by_what_expansion_costs(
    which: str, request: pytest.FixtureRequest
) -> None:
    """``C_p - C_V = α² B V T``; the one side from entropies, the other from volumes and curvatures."""
    found = request.getfixturevalue(which)
    columns = {name: np.array(column) for name, column in found.table.items()}
    t = columns["temperature_K"]
    assert found.volume_per_atom is not None
    n_atoms = found.volume / found.volume_per_atom
    molar = columns["volume_A3"] / n_atoms * 1e-30 * _Nav  # m³/mol
    cost = columns["thermal_expansion_per_K"] ** 2 * columns["bulk_modulus_GPa"] * 1e9 * molar * t
    extra = columns["heat_capacity_p_J_per_K_per_mol"] - columns["heat_capacity_v_J_per_K_per_mol"]
    assert np.allclose(extra[t > 100], cost[t > 100], rtol=2e-2)
    assert extra[t > 500].min() > 0.2


def test_limits_at_low_and_at_high_temperature(copper: Any) -> None:
    """``α`` and both heat capacities vanish at 0 K; ``C_V`` reaches Dulong and Petit's 3R."""
    expansion = copper.table["thermal_expansion_per_K"]
    assert expansion[0] == 0
    assert 0 < expansion[1] < 0.1 * copper.thermal_expansion  # 20 K
    assert copper.table["heat_capacity_p_J_per_K_per_mol"][0] == 0
    assert copper.table["heat_capacity_p_J_per_K_per_mol"][1] < 1.0
    assert copper.table["heat_capacity_v_J_per_K_per_mol"][-1] == pytest.approx(3 * GAS, rel=1e-2)
    assert copper.table["temperature_K"][-1] == 1000.0
    assert copper.bulk_modulus < copper.table["bulk_modulus_GPa"][0]  # it softens


def test_the_grueneisen_parameter_is_the_phonons_change_with_volume(copper: Any) -> None:
    """At 900 K every mode counts alike: the mean of ``-d ln ω / d ln V`` over the mesh, by differences."""
    volume = float(np.interp(900, copper.table["temperature_K"], copper.table["volume_A3"]))
    logs = []
    for factor in (0.99, 1.01):
        crystal = bulk("Cu", "fcc", a=(4 * volume * factor) ** (1 / 3))
        found = phonons(crystal, EMT(), start="given", supercell=tuple(copper.supercell), mesh=30.0)
        mesh = found.phonopy.run_mesh(30.0)
        frequencies, weights = np.asarray(mesh.frequencies), np.asarray(mesh.weights, dtype=float)
        logs.append((weights[1:, None] * np.log(frequencies[1:])).sum() / (3 * weights[1:].sum()))
    expected = -(logs[1] - logs[0]) / np.log(1.01 / 0.99)
    gamma = float(np.interp(900, copper.table["temperature_K"], copper.table["gruneisen"]))
    assert gamma == pytest.approx(expected, rel=2e-2)


def test_cells_are_relaxed_at_each_volume() -> None:
    """Copper rattled in its cell expands as perfect copper does; peers took phonons of scaled cells."""
    perfect = bulk("Cu", "fcc", a=3.6, cubic=True)
    rattled = perfect.copy()
    rattled.rattle(0.05, seed=3)
    settings: dict[str, Any] = {"start": "given", "relax": "ions", "points": 5, "supercell": (2, 2, 2)}
    settings |= {"temperature_step": 50.0, "mesh": 20.0, "max_temperature": 500.0, "symprec": 0.01}
    expected = qha(perfect, EMT(), **settings)
    found = qha(rattled, EMT(), **settings)
    assert max(row["max_force_eV_per_A"] for row in found.volumes) <= 1e-4
    assert min(row["relaxation_steps"] for row in found.volumes) > 0
    assert found.thermal_expansion == pytest.approx(expected.thermal_expansion, rel=1e-2)
    assert found.volume == pytest.approx(expected.volume, rel=1e-5)
    energies = [[row["energy_eV"] for row in one.volumes] for one in (found, expected)]
    assert np.allclose(*energies, atol=1e-5)


@pytest.mark.slow
def test_a_range_that_is_left_on_the_way_up_is_said(here: Path) -> None:
    bulk("Cu", "fcc", a=3.6).write("cu1.extxyz")
    words = ["qha", "cu1.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--supercell", "2,2,2", "--quiet"]
    words += ["--points", "5", "--volume-range", "-0.02,0.025", "--mesh", "20"]
    assert main([*words, "--temperature", "900", "--out", "run"]) == 3
    summary = json.loads(Path("run/summary.json").read_text())
    assert any("minimum of the free energy lies beyond the volumes" in w for w in summary["warnings"])
    assert 300 < summary["results"]["valid_to_K"] < 900
    assert "thermal_expansion_per_K" not in summary["results"]
    assert main([*words, "--temperature", "200", "--out", "cold"]) == 0
    cold = json.loads(Path("cold/summary.json").read_text())
    assert cold["units"]["thermal_expansion_per_K"] == "1/K"


@pytest.mark.parametrize(("span", "end"), [((-0.08, -0.03), "largest"), ((0.05, 0.1), "smallest")])
def test_a_minimum_that_is_not_among_the_volumes_is_refused(span: Any, end: str) -> None:
    with pytest.raises(StructureError, match=f"still falls at the {end} volume"):
        qha(bulk("Al", "sc", a=3.0), Follows(), **(EINSTEIN | {"volume_range": span}))


class Softens(Follows):
    """Whose springs give way beyond a volume."""

    limit = 28.5

    def spring(self, volume: float) -> float:
        return super().spring(volume) if volume < self.limit else -1.0


def test_volumes_with_imaginary_modes_are_left_out_and_named(einstein: Any) -> None:
    found = qha(bulk("Al", "sc", a=3.0), Softens(), **EINSTEIN)
    assert len(found.dropped_volumes) == 2  # of nine up to 29.16 Å³
    assert all(volume > Softens.limit for volume in found.dropped_volumes)
    assert any("Imaginary modes at the volumes" in warning for warning in found.warnings)
    assert found.thermal_expansion == pytest.approx(einstein.thermal_expansion, rel=2e-2)
    model = Softens()
    model.limit = 27.5
    with pytest.raises(StructureError, match="5 are needed"):
        qha(bulk("Al", "sc", a=3.0), model, **(EINSTEIN | {"points": 7}))


def test_pressure_is_that_of_the_equation_of_state(einstein: Any) -> None:
    """At 2 GPa the static volume is where Vinet's curve has that slope."""
    found = qha(
        bulk("Al", "sc", a=3.0), Follows(), pressure=1.0, **(EINSTEIN | {"volume_range": (-0.06, 0.06)})
    )
    model = Follows()
    expected = minimize_scalar(lambda v: model.static(v) + v / GPA, bounds=(24, 30), options={"xatol": 1e-9})
    assert found.static_volume == pytest.approx(expected.x, rel=1e-5)
    assert found.volume < einstein.volume


class Stops(Interrupted, EMT):  # type: ignore[misc]
    """Copper that is interrupted once it has answered so many times, and counts its answers."""


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_next_volume(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"points": 5, "supercell": (2, 2, 2), "mesh": 20.0, "start": "given"}
    crystal = bulk("Cu", "fcc", a=3.6)
    whole = qha(crystal, Stops(), out="whole", **settings)
    asked = Stops.answers
    monkeypatch.setattr(Stops, "left", asked - 2)  # three of five volumes
    with pytest.raises(KeyboardInterrupt):
        qha(crystal, Stops(), out="part", **settings)
    monkeypatch.setattr(Stops, "left", 1 << 30)
    Stops.answers = 0
    part = qha(crystal, Stops(), out="part", resume=True, **settings)
    assert part.results() == whole.results()
    assert Stops.answers < asked
    assert Path("part/thermal.csv").read_bytes() == Path("whole/thermal.csv").read_bytes()
    steps = [event["step"] for event in read_events("part") if event["event"] == "images"]
    assert steps.count(1) == 2 + 3  # the scaled cells twice, and each displaced supercell once


def test_the_folder_holds_what_the_contract_says(here: Path) -> None:
    bulk("Si", "diamond", a=5.46).write("si2.extxyz")
    words = ["qha", "si2.extxyz", "--supercell", "2,2,2", "--points", "5", "--mesh", "20", "--quiet"]
    words += ["--temperature-step", "50", "--displacement", "0.03", "--out", "run"]
    assert main(words) in (0, 3)  # CHGNet, whose frequencies are rough over the volume
    summary = json.loads(Path("run/summary.json").read_text())
    assert 40 < summary["results"]["static_volume_A3"] < 42
    assert any("off the curve" in warning for warning in summary["warnings"])
    page = Path("run/report.html").read_text()
    for title in ("Thermal expansion", "Heat capacity", "Free energy against volume", "Volumes"):
        assert title in page
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page


def test_wrong_options_are_refused() -> None:
    for wrong in ({"volume_range": (0.1, -0.1)}, {"temperature": 2000.0}, {"points": 4}, {"relax": "none"}):
        with pytest.raises(OptionError):
            qha(bulk("Cu", "fcc", a=3.6), EMT(), **wrong)

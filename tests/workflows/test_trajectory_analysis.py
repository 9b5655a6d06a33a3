"""Distributions and spectra against closed answers: an ideal gas, a crystal's shells, oscillators."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from atomml.cli.main import main
from atomml.errors import FileFormatError, InputError, OptionError, StructureError
from atomml.workflows import md, rdf, vdos
from atomml.workflows.dynamics.trajectories import read_trajectory
from atomml.workflows.dynamics.vibrational_spectrum import autocorrelation, spectrum


def gas(n_frames: int, numbers: list[int], length: float, seed: int) -> list[Atoms]:
    generator = np.random.default_rng(seed)
    size = (len(numbers), 3)
    return [
        Atoms(numbers, generator.uniform(0, length, size), cell=[length] * 3, pbc=True)
        for _ in range(n_frames)
    ]


def test_an_ideal_gas_is_flat_at_one_less_an_atom() -> None:
    """That is (N-1)/N for a pair of one element and 1 for a pair of two.

    200 frames of 40 atoms hold 156,000 ordered pairs in 12³ Å³; within 2 to 6 Å are 78,000 of them (each
    pair twice), so the mean of g there is known to 1/sqrt(39,000) = 0.5 %: four of these are asked for.
    """
    found = rdf(gas(200, [18] * 30 + [10] * 10, 12.0, 1), cutoff=6.0, bin_width=0.1)
    assert found.radii is not None
    outer = found.radii > 2
    weights = found.radii[outer] ** 2
    expected = {"all": 39 / 40, "Ar-Ar": 29 / 30, "Ne-Ne": 9 / 10, "Ne-Ar": 1.0}
    tolerance = {"all": 0.02, "Ar-Ar": 0.03, "Ne-Ne": 0.09, "Ne-Ar": 0.04}
    assert set(found.curves) == set(expected)
    for name, value in expected.items():
        mean = np.average(found.curves[name][outer], weights=weights)
        assert mean == pytest.approx(value, abs=tolerance[name])


def test_it_integrates_to_all_other_atoms() -> None:
    """Where every pair is within the cutoff and no image is, an atom has N - 1 others: exactly."""
    frames = gas(5, [18] * 6 + [10] * 3, 3.0, 2)
    for frame in frames:
        frame.set_cell([30.0] * 3)
    found = rdf(frames, cutoff=8.0)
    assert found.neighbours["all"][-1] == pytest.approx(8, rel=1e-9)
    assert found.neighbours["Ar-Ne"][-1] == pytest.approx(3, rel=1e-9)
    assert found.neighbours["Ne-Ar"][-1] == pytest.approx(6, rel=1e-9)
    assert found.neighbours["Ne-Ne"][-1] == pytest.approx(2, rel=1e-9)
    assert found.density == pytest.approx(9 / 27000)


def test_a_crystals_shells_have_its_coordination_numbers() -> None:
    """Rock salt: 6 unlike neighbours at a/2, 12 alike at a/√2; fluorite 4 and 8."""
    found = rdf([bulk("NaCl", "rocksalt", a=5.64)])
    pairs = {pair["pair"]: pair for pair in found.pairs}
    assert pairs["Na-Cl"]["neighbours"] == pytest.approx(6)
    assert pairs["Na-Na"]["neighbours"] == pytest.approx(12)
    assert pairs["Na-Cl"]["first_peak_A"] == pytest.approx(2.82, abs=0.05)
    assert any("half the distance" in warning for warning in found.warnings)
    fluorite = rdf([bulk("CaF2", "fluorite", a=5.46)])
    (pair,) = (pair for pair in fluorite.pairs if pair["pair"] == "F-Ca")
    assert pair["neighbours"] == pytest.approx(4)
    assert pair["neighbours_reversed"] == pytest.approx(8)
    near = rdf([bulk("NaCl", "rocksalt", a=5.64)], shell=4.5).pairs[0]
    assert near["neighbours"] == pytest.approx(18)


def test_the_same_pairs_as_the_run_counted_itself(tmp_path: Path) -> None:
    run = md(
        bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 2, 2), EMT(), out=tmp_path / "run", steps=40, every=10
    )
    found = rdf(tmp_path / "run", cutoff=6.0, skip=1)
    # positions are written with 8 decimals: a pair at a bin's edge may change sides
    assert found.curves["all"] == pytest.approx(run.rdf["Cu-Cu"], abs=0.02)


def oscillators(n_frames: int, interval: float, frequencies: tuple[float, ...]) -> list[Atoms]:
    """Atoms on springs with known frequencies (THz), each of energy kT along each axis, out of phase."""
    symbols, mass = ["Cu", "O"], Atoms("CuO").get_masses()
    generator = np.random.default_rng(5)
    copies = 20
    phases = generator.uniform(0, 2 * np.pi, (copies, len(frequencies), 3))
    masses = np.tile(mass[: len(frequencies)], copies)
    speeds = np.sqrt(2 * units.kB * 300 / masses)[:, None]  # amplitude of the velocity: m v² / 2 = kT
    frames = []
    for number in range(n_frames):
        time = number * interval
        angle = 2 * np.pi * np.array(frequencies)[None, :, None] * time / 1000 + phases
        atoms = Atoms(
            symbols[: len(frequencies)] * copies, np.zeros((len(masses), 3)), cell=[99.0] * 3, pbc=True
        )
        atoms.set_velocities(np.cos(angle).reshape(-1, 3) * speeds)
        atoms.info["time_fs"] = time
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("window", ["hann", "gaussian", "none"])
def test_oscillators_have_their_lines_with_three_states_an_atom(window: str) -> None:
    """Both lines are as wide as the window makes them; equipartition gives each element its share."""
    frames = oscillators(1000, 4.0, (7.0, 21.0))
    found = vdos(frames, window=window, correlation_time=1.0, remove_drift=False)
    assert found.states == pytest.approx(120, rel=1e-9)
    assert found.states_by_element["Cu"] == pytest.approx(60, rel=0.02)
    assert found.states_by_element["O"] == pytest.approx(60, rel=0.02)
    assert found.frequencies is not None
    for symbol, frequency in (("Cu", 7.0), ("O", 21.0)):
        density = found.densities[symbol]
        peak = found.frequencies[density.argmax()]
        assert peak == pytest.approx(frequency, abs=0.05)
        above = found.frequencies[density > density.max() / 2]
        assert np.ptp(above) <= found.resolution <= np.ptp(above) + 2 * found.frequencies[1]
    assert found.mean_frequency == pytest.approx(14, rel=0.02)
    assert not any("folded back" in warning for warning in found.warnings)


def test_a_harmonic_crystal_run_by_md_shows_its_frequency(tmp_path: Path) -> None:
    """Argon atoms on springs of 1 eV/Å²: sqrt(k/m)/2π = 2.4735 THz, less (ω dt)²/24 of Verlet's phase."""
    from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField

    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    springs = HarmonicForceField(atoms, np.eye(12), ref_energy=0.0)
    options: dict[str, Any] = {"ensemble": "nve", "temperature": "50", "steps": 4000, "timestep": 4.0}
    md(atoms, HarmonicCalculator(springs), out=tmp_path / "run", every=5, rdf_cutoff=0, **options)
    exact = 1000 * units.fs * np.sqrt(1 / 39.948) / (2 * np.pi)
    found = vdos(tmp_path / "run", correlation_time=4.0)
    assert found.peak_frequency == pytest.approx(exact, rel=0.01)
    assert found.interval == pytest.approx(20)
    assert found.states == pytest.approx(12, rel=1e-9)


def test_the_autocorrelation_is_the_mean_of_all_pairs_of_frames() -> None:
    series = np.random.default_rng(0).normal(size=(50, 7))
    direct = [sum((series[: 50 - lag] * series[lag:]).sum(axis=1)) / (50 - lag) for lag in range(20)]
    assert autocorrelation(series, 20) == pytest.approx(np.array(direct))


def test_the_integral_is_the_correlation_at_zero_whatever_follows() -> None:
    noise = np.random.default_rng(1).normal(size=33)
    for window in ("hann", "gaussian", "none"):
        frequencies, density = spectrum(noise, 2.0, window)
        assert np.trapezoid(density, frequencies) == pytest.approx(noise[0])
        assert frequencies[-1] == pytest.approx(250)


def test_lines_beyond_the_axis_are_warned_of() -> None:
    found = vdos(oscillators(400, 20.0, (24.5,)), correlation_time=1.0)
    assert any("folded back" in warning for warning in found.warnings)


def test_wrapped_atoms_are_followed() -> None:
    generator = np.random.default_rng(3)
    steps = generator.normal(scale=0.4, size=(200, 5, 3))
    cell = np.array([[5.0, 0, 0], [2.0, 5.5, 0], [0.5, 0.3, 6.0]])
    walk = np.cumsum(steps, axis=0)
    frames = []
    for positions in walk:
        frame = Atoms("Li5", positions, cell=cell, pbc=[True, True, False])
        frame.wrap()
        frames.append(frame)
    followed = read_trajectory(frames).positions
    assert followed - followed[0] == pytest.approx(walk - walk[0], abs=1e-9)
    assert np.abs(walk[-1] - walk[0]).max() > 3  # the law was put to the test


def test_commands_write_the_folder_and_refuse_what_they_cannot_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    md(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), out="run", steps=60, every=5, rdf_cutoff=0)
    assert main(["rdf", "run", "--cutoff", "5", "--dry-run"]) == 0
    assert not Path("rdf-run").exists()
    assert main(["rdf", "run", "--cutoff", "5"]) == 0
    assert "neighbours" in capsys.readouterr().out
    assert main(["vdos", "run/trajectory.extxyz", "--skip", "2", "--quiet"]) == 0
    assert main(["vdos", "--config", "vdos-run/config.yaml", "--overwrite", "--quiet"]) == 0
    summary = json.loads(Path("vdos-run/summary.json").read_text())
    assert summary["units"]["peak_frequency_THz"] == "THz"
    assert summary["results"]["states"] == pytest.approx(12)
    assert summary["model"] is None
    rows = list(csv.DictReader(Path("vdos-run/vdos.csv").read_text().splitlines()))
    assert list(rows[0]) == ["frequency_THz", "all_states_per_THz"]
    assert "Vibrational density of states" in Path("vdos-run/report.html").read_text()
    assert "Neighbours within a distance" in Path("rdf-run/report.html").read_text()
    assert json.loads(Path("rdf-run/summary.json").read_text())["results"]["pairs"][0]["pair"] == "all"
    write("still.extxyz", [bulk("Cu"), bulk("Cu")])
    for words in (
        ["vdos", "still.extxyz"],
        ["vdos"],
        ["rdf", "nothing.xyz"],
        ["rdf", "."],
        ["rdf", "run@99:"],
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_trajectories_that_are_none_are_refused() -> None:
    frames = oscillators(12, 4.0, (7.0,))
    with pytest.raises(StructureError, match="frame 3 has other atoms"):
        rdf([*frames[:3], frames[3][:-1]])
    with pytest.raises(StructureError, match="not periodic"):
        rdf([Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])])
    with pytest.raises(StructureError, match="no velocities"):
        vdos(gas(8, [18] * 3, 9.0, 0))
    uneven = [*frames[:5], *frames[6:]]
    with pytest.raises(InputError, match="frame 5 does not follow"):
        vdos(uneven)
    for frame in frames:
        del frame.info["time_fs"]
    with pytest.raises(InputError, match="--interval"):
        vdos(frames)
    with pytest.raises(OptionError, match="correlation-time"):
        vdos(frames, interval=4.0, correlation_time=1.0)
    with pytest.raises(StructureError, match="skip fewer"):
        vdos(frames, skip=12)
    with pytest.raises(FileFormatError):
        rdf("no-such-folder")

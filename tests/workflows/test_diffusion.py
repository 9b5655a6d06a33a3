"""Diffusion against closed answers: random walks, free flight, Langevin's friction, Arrhenius' law."""

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
from ase.io import write

from atomml.cli.main import main
from atomml.errors import OptionError, StructureError
from atomml.workflows import diffusion, md
from atomml.workflows.dynamics.arrhenius import fit_arrhenius, nernst_einstein
from atomml.workflows.dynamics.mean_squared_displacement import estimate, squared_displacement

KB = 8.617333262e-5
SETTINGS: dict[str, Any] = {"fit": (0.1, 0.5), "blocks": 5, "hop": 2.5, "label": "walk"}


def walk(diffusivity: float, seed: int, n_frames: int = 1000, n_atoms: int = 20, step: float = 0.1) -> Any:
    """``(n_frames, n, 3)`` Å: independent walkers with D in Å²/ps, a frame each ``step`` ps."""
    generator = np.random.default_rng(seed)
    moves = generator.normal(scale=np.sqrt(2 * diffusivity * step), size=(n_frames, n_atoms, 3))
    return np.cumsum(moves, axis=0)


def test_random_walks_have_their_coefficient_within_honest_errors() -> None:
    """Of 40 walks the deviations in units of the error have a spread near 1: with 5 blocks Student's, 1.4."""
    deviations = []
    for seed in range(40):
        found = estimate(walk(0.7, seed), 0.1, **SETTINGS)
        assert found.why_not == ""
        assert found.diffusivity == pytest.approx(0.7, rel=0.5)
        deviations.append((found.diffusivity - 0.7) / found.error)
    # the mean of 40 numbers of spread 1.4 is 0 within 0.22: 3 of these
    assert abs(np.mean(deviations)) < 0.7
    assert 0.8 < np.std(deviations) < 2.2


def test_the_squared_displacement_is_the_mean_over_all_pairs_of_frames() -> None:
    x = walk(0.5, 3, n_frames=60, n_atoms=4)
    direct = [((x[lag:] - x[: len(x) - lag]) ** 2).sum(axis=2).mean() for lag in range(30)]
    assert squared_displacement(x, 30) == pytest.approx(np.array(direct), abs=1e-9)


def test_free_flight_is_no_diffusion_and_neither_is_rattling() -> None:
    generator = np.random.default_rng(0)
    times = np.arange(500)[:, None, None] * 0.1
    flight = estimate(generator.normal(size=(1, 10, 3)) * times, 0.1, **SETTINGS)
    assert flight.exponent == pytest.approx(2, abs=1e-6)
    assert "fly" in flight.why_not
    rattling = estimate(generator.normal(scale=0.2, size=(500, 10, 3)), 0.1, **SETTINGS)
    assert "less than a hop" in rattling.why_not
    loose = estimate(generator.normal(scale=3.0, size=(500, 10, 3)), 0.1, **SETTINGS)
    assert "rattle" in loose.why_not
    few = estimate(walk(0.001, 1, n_frames=500), 0.1, **SETTINGS)
    assert "less than a hop" in few.why_not


def test_arrhenius_law_comes_back_and_its_interval_covers_it() -> None:
    """Of 200 fits to points with errors of 10 %, 95 % hold the truth; 90 % is four deviations below that."""
    temperatures = np.array([600.0, 700.0, 800.0, 1000.0])
    exact = 3e-3 * np.exp(-0.31 / (KB * temperatures))
    fit = fit_arrhenius(temperatures.tolist(), exact.tolist(), (0.1 * exact).tolist())
    assert fit.energy == pytest.approx(0.31)
    assert np.exp(fit.log_prefactor) == pytest.approx(3e-3)
    assert fit.at(300.0)[0] == pytest.approx(3e-3 * np.exp(-0.31 / (KB * 300)))
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        noisy = exact * np.exp(generator.normal(scale=0.1, size=4))
        low, high = fit_arrhenius(temperatures.tolist(), noisy.tolist(), (0.1 * noisy).tolist()).interval
        held += low < 0.31 < high
    assert held >= 180
    with pytest.raises(OptionError):
        fit_arrhenius([300.0, 300.0], [1.0, 2.0], [0.1, 0.1])


def test_the_conductivity_of_a_textbook_ion() -> None:
    """One ion in 100 Å³, D = 1e-6 cm²/s, 300 K: 1e28 (1.602e-19)² 1e-10 / 4.142e-21 = 6.197 S/m."""
    assert nernst_einstein(1e-6, 0.01, 1.0, 300.0) == pytest.approx(0.06197, rel=1e-3)
    assert nernst_einstein(1e-6, 0.01, -2.0, 300.0) == pytest.approx(4 * 0.06197, rel=1e-3)


def conductor(diffusivity: float, seed: int, drift: float = 0.0, wrap: bool = False) -> list[Atoms]:
    """Lithium that walks between heavy iodine that rests, all of it drifting along x, in Å per frame."""
    sites = bulk("LiI", "rocksalt", a=6.0, cubic=True) * (2, 2, 2)
    lithium = sites.numbers == 3
    paths = np.zeros((600, len(sites), 3))
    paths[:, lithium] = walk(diffusivity, seed, n_frames=600, n_atoms=int(lithium.sum()))
    frames = []
    for number in range(600):
        frame = sites.copy()
        frame.positions += paths[number] + [drift * number, 0, 0]
        if wrap:
            frame.wrap()
        frame.info["time_fs"] = 100.0 * number
        frames.append(frame)
    return frames


def test_trajectories_give_activation_energy_conductivity_and_the_drift(tmp_path: Path) -> None:
    """D = 40 exp(-0.2 eV / kT) Å²/ps, wrapped and drifting by 0.02 Å a frame.

    Lithium is 5 % of the mass, so the centre of mass hides 2·5 % of D between them; 32 walkers over 600
    frames leave an error of 7 %: at three temperatures 15 meV in the energy.
    """
    temperatures = (600.0, 800.0, 1000.0)
    exact = [40 * np.exp(-0.2 / (KB * t)) for t in temperatures]
    runs = [conductor(d, n, drift=0.02, wrap=True) for n, d in enumerate(exact)]
    found = diffusion(runs, temperatures=temperatures, out=tmp_path / "run")
    assert found.converged
    assert found.element == "Li"
    assert found.charge == 1
    assert found.hop == pytest.approx(6 / np.sqrt(2), abs=1.0)
    for row, d in zip(found.rows, exact, strict=True):
        assert row["drift_A"] == pytest.approx(0.02 * 599, abs=1.5)
        assert row["diffusivity_cm2_per_s"] == pytest.approx(1e-4 * d, rel=0.35)
        assert row["loglog_slope"] == pytest.approx(1, abs=0.2)
    assert found.activation_energy == pytest.approx(0.2, abs=0.06)
    assert found.activation_energy_low is not None
    assert found.activation_energy_high is not None
    assert found.activation_energy_low < 0.2 < found.activation_energy_high
    assert found.conductivity is not None
    assert found.diffusivity is not None
    density = 32 / 12.0**3
    assert found.conductivity == pytest.approx(nernst_einstein(found.diffusivity, density, 1, 300), rel=1e-9)
    assert "Haven ratio of 1" in found.assumption
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["units"]["activation_energy_eV"] == "eV"
    assert summary["units"]["conductivity_S_per_cm"] == "S/cm"
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(word in page for word in ("Mean squared displacement of Li", "Arrhenius plot", "Haven"))
    elements = list(csv.DictReader((tmp_path / "run" / "elements.csv").read_text().splitlines()))
    assert {row["element"] for row in elements} == {"Li", "I"}


def test_the_drift_alone_is_no_diffusion() -> None:
    found = diffusion(conductor(1e-9, 0, drift=0.1), temperatures=(300.0,), element="Li")
    assert not found.converged
    assert found.rows[0]["msd_A2"] < 1e-3
    assert found.rows[0]["drift_A"] == pytest.approx(59.9)
    assert any("too short" in warning for warning in found.warnings)


class Nothing(Calculator):  # type: ignore[misc]
    """No forces: what moves, moves by the thermostat alone."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def test_langevin_dynamics_of_free_atoms_has_einsteins_coefficient(tmp_path: Path) -> None:
    """D = kT / (m γ) (1 - 1/N) with the centre of mass held: 1 eV/amu is 9648.5 Å²/ps², γ is 5/ps.

    8 atoms over 60 ps, whose velocities forget in 0.2 ps: each block's slope is known to some 25 %, the
    mean of 5 to 11 %; three of these.
    """
    atoms = Atoms("Li8", [[30 * i, 30 * j, 30 * k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    atoms.set_cell([60, 60, 60])
    atoms.pbc = True
    options: dict[str, Any] = {"ensemble": "nvt-langevin", "timestep": 10.0, "every": 10, "equilibrate": 200}
    found = diffusion(atoms, Nothing(), temperatures=(500.0,), steps=6000, seed=4, **options)
    expected = 9648.53 * KB * 500 / 6.94 / 5 * (1 - 1 / 8)
    row = found.rows[0]
    assert row["diffusivity_cm2_per_s"] == pytest.approx(1e-4 * expected, rel=0.35)
    assert row["temperature_K"] == 500
    assert row["length_ps"] == pytest.approx(60)
    assert row["drift_A"] < 1e-3


def test_the_command_runs_dynamics_or_reads_it_and_says_3_when_too_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write("cu.extxyz", bulk("Cu", "fcc", a=3.6, cubic=True))
    words = ["diffusion", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--steps", "400"]
    words += ["--equilibrate", "20", "--every", "4", "--temperatures", "300,500"]
    assert main([*words, "--dry-run"]) == 0
    assert main(words) == 3
    captured = capsys.readouterr()
    assert "less than a hop" in captured.err
    assert "temperature_K" in captured.out
    results = json.loads(Path("diffusion-cu/summary.json").read_text())["results"]
    assert "activation_energy_eV" not in results
    assert [row["temperature_K"] for row in results["rows"]] == [300, 500]
    assert results["rows"][0]["length_ps"] == pytest.approx(0.8)
    again = ["diffusion", "diffusion-cu/300K", "diffusion-cu/500K", "--out", "again", "--quiet"]
    assert main(again) == 3
    rows = json.loads(Path("again/summary.json").read_text())["results"]["rows"]
    assert rows[0]["temperature_K"] == pytest.approx(300, abs=100)  # as the run itself measured it
    assert rows[0]["drift_A"] < 1e-6


def test_a_run_that_was_too_short_goes_on_from_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longer run begins with the bytes of the shorter one."""
    monkeypatch.chdir(tmp_path)
    write("cu.extxyz", bulk("Cu", "fcc", a=3.6, cubic=True))
    words = ["diffusion", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--quiet", "--every", "4"]
    words += ["--equilibrate", "0", "--temperatures", "300"]
    assert main([*words, "--steps", "400"]) == 3
    before = Path("diffusion-cu/300K/trajectory.extxyz").read_bytes()
    assert main([*words, "--steps", "600", "--resume", "--blocks", "4"]) == 3
    after = Path("diffusion-cu/300K/trajectory.extxyz").read_bytes()
    assert after.startswith(before)
    rows = json.loads(Path("diffusion-cu/summary.json").read_text())["results"]["rows"]
    assert rows[0]["length_ps"] == pytest.approx(1.2)


@pytest.mark.slow
def test_chgnet_runs_it_by_command(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too short by far for lithium cobalt oxide, and said to be; cobalt has an oxidation state meanwhile."""
    monkeypatch.chdir(tmp_path)
    words = ["diffusion", str(root / "examples" / "LiCoO2.cif"), "--temperatures", "900", "--steps", "120"]
    assert main([*words, "--equilibrate", "0", "--every", "1", "--element", "Li", "--quiet"]) == 3
    results = json.loads(Path("diffusion-LiCoO2/summary.json").read_text())["results"]
    assert results["element"] == "Li"
    assert results["charge"] == 1
    assert results["rows"][0]["msd_A2"] > 0
    assert results["rows"][0]["why_not"]
    ions = json.loads(Path("diffusion-LiCoO2/900K/summary.json").read_text())["results"]["ions"]
    assert ions["Li+"] == 3


def test_what_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "needs temperatures"),
        ({"temperatures": (300.0, 300.0)}, "named twice"),
        ({"temperatures": (300.0,), "element": "Li"}, "holds no Li"),
        ({"temperatures": (300.0,), "steps": 1000}, "make 50 frames"),
        ({"temperatures": (300.0,), "fit": (0.5, 0.1)}, "later end"),
    ]
    for options, sentence in wrong:
        with pytest.raises(OptionError, match=sentence):
            diffusion(copper, EMT(), out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
    frames = conductor(0.1, 0)
    with pytest.raises(OptionError, match="does not say its temperature"):
        diffusion(frames)
    with pytest.raises(OptionError, match="2 temperatures for 1"):
        diffusion(frames, temperatures=(300.0, 400.0))
    with pytest.raises(StructureError, match="30 frames"):
        diffusion(frames[:30], temperatures=(300.0,))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(
    killable: Callable[..., Callable[..., int]],
) -> None:
    """Killed in the first temperature, then in the second."""
    write("cu.extxyz", bulk("Cu", "fcc", a=3.6, cubic=True))
    words = ("--steps", "1200", "--equilibrate", "20", "--every", "10", "--temperatures", "300,500")
    run = killable("diffusion", "cu.extxyz", *words)
    assert run("whole", 1 << 30) == 3
    assert run("killed", 700) == -signal.SIGKILL
    assert run("killed", 1600, "--resume") == -signal.SIGKILL
    assert run("killed", 1 << 30, "--resume") == 3
    whole, killed = (json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    # not the trajectory's energies: EMT's last bits depend on when its neighbour list was made
    for name in ("results.csv", "msd-300K.csv", "msd-500K.csv"):
        assert Path("whole", name).read_bytes() == Path("killed", name).read_bytes()


def test_a_run_folder_of_md_says_its_own_temperature(tmp_path: Path) -> None:
    run = md(
        bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), out=tmp_path / "run", steps=700, every=5, rdf_cutoff=0
    )
    found = diffusion(tmp_path / "run")
    assert found.rows[0]["temperature_K"] == pytest.approx(run.temperature)

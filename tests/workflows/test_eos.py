"""The equation of state against closed answers: lattice sums, a known curve, runs that stop on the way."""

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
from ase.calculators.lj import LennardJones

from atomml.cli.main import main
from atomml.errors import InputError, OptionError, RunFailedError, StructureError
from atomml.run import read_events
from atomml.workflows import compare, eos
from atomml.workflows.crystals.eos_curve import birch_murnaghan_pressure, fit_eos

# Sums of (nearest distance / distance)^n over the fcc lattice for n = 12 and 6, as in C. Kittel,
# Introduction to Solid State Physics, chapter 3.
A12, A6 = 12.13188, 14.45392
GPA = 160.21766208
EPSILON, SIGMA = 0.0104, 3.40


def lj_energy(volume: Any) -> Any:
    """Energy of one atom of an infinite Lennard-Jones fcc crystal, eV; volume of an atom in Å³."""
    x = SIGMA / (np.sqrt(2) * np.asarray(volume)) ** (1 / 3)
    return 2 * EPSILON * (A12 * x**12 - A6 * x**6)


LJ_VOLUME = SIGMA**3 * np.sqrt(2 * A12 / A6) / np.sqrt(2)
# B = V E''(V) at the minimum (N. W. Ashcroft and N. D. Mermin, Solid State Physics, chapter 20).
LJ_BULK = 4 * EPSILON / SIGMA**3 * A12 * (A6 / A12) ** 2.5


@pytest.mark.parametrize("kind", ["birch_murnaghan", "vinet"])
def test_lattice_sums_give_volume_and_bulk_modulus(kind: str) -> None:
    """``E = a V⁻⁴ - b V⁻²`` has B0' = 8 exactly. The missing fourth order costs B less than 0.1 % at ±2 %."""
    volumes = LJ_VOLUME * np.linspace(0.98, 1.02, 9)
    fit = fit_eos(volumes, lj_energy(volumes), kind)
    assert fit.volume == pytest.approx(LJ_VOLUME, rel=1e-5)
    assert fit.energy == pytest.approx(-EPSILON * A6**2 / (2 * A12), rel=1e-6)
    assert fit.bulk_modulus == pytest.approx(LJ_BULK, rel=1e-3)
    assert fit.derivative == pytest.approx(8, abs=0.01)


def test_a_lennard_jones_crystal_has_the_volume_and_modulus_of_the_sums() -> None:
    """Cut at 8 σ, the sum over r⁻⁶ misses 1 part in 1000, and the shift to zero takes as much again."""
    model = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=8 * SIGMA)
    found = eos(bulk("Ar", "fcc", a=5.3), model, volume_range=0.03, smax=1e-4, fmax=1e-4)
    assert found.converged
    assert found.volume == pytest.approx(LJ_VOLUME, rel=2e-3)
    assert found.bulk_modulus == pytest.approx(LJ_BULK * GPA, rel=1e-2)
    assert found.bulk_modulus_derivative == pytest.approx(8, abs=0.1)
    assert found.fits_differ_percent < 1


class Curve(Calculator):  # type: ignore[misc]
    """A crystal whose energy is a third-order Birch-Murnaghan curve of its volume, its stress the slope."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]
    volume, modulus, derivative, energy = 40.3, 0.6, 4.5, -3000.0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        x = (self.volume / self.atoms.cell.volume) ** (2 / 3)
        strain = (x - 1) / 2
        energy = self.energy + 4.5 * self.volume * self.modulus * strain**2 * (
            1 + (self.derivative - 4) * strain
        )
        slope = 4.5 * self.volume * self.modulus * (2 * strain + 3 * (self.derivative - 4) * strain**2)
        pressure = slope * x / (3 * self.atoms.cell.volume)  # dstrain/dV = -x / 3V
        stress = [-pressure] * 3 + [0.0] * 3
        self.results = {
            "energy": energy,
            "forces": np.zeros((len(self.atoms), 3)),
            "stress": np.array(stress),
        }


def test_a_known_curve_comes_back() -> None:
    """float64 resolves 3000 eV to 5e-13 eV, the curve's height of 0.1 eV to 5e-12."""
    found = eos(bulk("Cu", "fcc", a=3.6, cubic=True), Curve(), start="given", volume_range=0.2)
    assert found.volume == pytest.approx(40.3, rel=1e-7)
    assert found.bulk_modulus == pytest.approx(0.6 * GPA, rel=1e-6)
    assert found.bulk_modulus_derivative == pytest.approx(4.5, rel=1e-5)
    assert found.energy == pytest.approx(-3000, abs=1e-8)
    assert found.rms < 1e-6
    assert found.vinet_rms > 10 * found.rms
    assert found.pressure_mismatch is not None
    assert found.pressure_mismatch < 1e-5


def test_the_fitted_pressure_is_the_slope_of_the_fitted_energy() -> None:
    volumes = np.linspace(36.0, 44.0, 9)
    fit = fit_eos(volumes, (volumes - 40) ** 2 / 100 - (volumes - 40) ** 3 / 3000, "birch_murnaghan")
    h = 1e-3
    slope = -(fit.curve(volumes + h) - fit.curve(volumes - h)) / (2 * h)
    assert np.allclose(birch_murnaghan_pressure(volumes, fit), slope, rtol=0, atol=1e-8)


def test_a_stress_that_is_not_the_energys_slope_is_seen() -> None:
    class Wrong(Curve):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            super().calculate(*args, **kwargs)
            self.results["stress"] = self.results["stress"] * 0.9

    found = eos(bulk("Cu", "fcc", a=3.6, cubic=True), Wrong(), start="given", volume_range=0.2)
    assert found.pressure_mismatch is not None
    assert found.pressure_mismatch > 1


@pytest.mark.parametrize(("length", "end"), [(3.2, "largest"), (3.9, "smallest")])
def test_a_minimum_that_is_not_bracketed_is_refused(
    length: float,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    crystal = bulk("Cu", "fcc", a=length)
    with pytest.raises(StructureError, match=f"still falls at the {end} volume"):
        eos(crystal, EMT(), start="given", volume_range=0.03, out=tmp_path / "run")
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 12  # the points are kept
    monkeypatch.chdir(tmp_path)
    crystal.write("cu.extxyz")
    words = ["eos", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--start", "given", "--quiet"]
    assert main([*words, "--volume-range", "0.03"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*words, "--start", "relaxed", "--overwrite"]) == 0


def test_points_without_a_curve_are_a_failure() -> None:
    volumes = np.linspace(36.0, 44.0, 9)
    with pytest.raises(RunFailedError):
        fit_eos(volumes, -((volumes - 40) ** 2), "birch_murnaghan")


def test_relaxed_ions_lie_below_clamped_ones_and_on_the_crystals_own_curve() -> None:
    """Copper rattled within its cell relaxes to fcc at each volume; clamped, it stays above."""
    perfect = bulk("Cu", "fcc", a=3.6, cubic=True)
    rattled = perfect.copy()
    rattled.rattle(0.05, seed=3)
    settings: dict[str, Any] = {"start": "given", "points": 5, "fmax": 1e-3}
    reference = eos(perfect, EMT(), relax="none", **settings)
    clamped = eos(rattled, EMT(), relax="none", **settings)
    relaxed = eos(rattled, EMT(), relax="ions", **settings)
    assert (np.array(clamped.energies) > np.array(relaxed.energies) + 0.005).all()
    # A force of 1e-3 eV/Å left on an atom whose force constant is some 3 eV/Å² costs 2e-7 eV.
    assert np.allclose(relaxed.energies, reference.energies, atol=1e-5)


@pytest.mark.slow
def test_a_relaxed_shape_follows_the_volume() -> None:
    """A strained fcc cell springs back at constant volume, to the energies of the cubic one."""
    strained = bulk("Cu", "fcc", a=3.6, cubic=True)
    strained.set_cell(strained.cell.array * [1.03, 1.0, 1 / 1.03], scale_atoms=True)
    settings: dict[str, Any] = {"start": "given", "points": 5, "smax": 1e-3}
    cubic = eos(bulk("Cu", "fcc", a=3.6, cubic=True), EMT(), **settings)
    fixed = eos(strained, EMT(), relax="ions", **settings)
    free = eos(strained, EMT(), relax="shape", **settings)
    assert np.allclose(free.volumes, cubic.volumes, rtol=1e-9)
    assert (np.array(fixed.energies) > np.array(cubic.energies) + 0.01).all()
    assert np.allclose(free.energies, cubic.energies, atol=1e-5)


def test_our_own_model_is_asked_in_batches_and_answers_as_one_at_a_time() -> None:
    from atomml import AtomMLCalculator, load_model

    model = load_model("lj-argon", dtype="float64", device="cpu")
    asked: list[int] = []
    plain = model.energies

    def counting(graph: Any) -> Any:
        asked.append(graph.n_graphs)
        return plain(graph)

    model.energies = counting  # type: ignore[method-assign]
    crystal = bulk("Ar", "fcc", a=5.25)
    ours = eos(crystal, model, start="given")
    assert max(asked) == 11
    theirs = eos(crystal, AtomMLCalculator(load_model("lj-argon", dtype="float64")), start="given")
    assert np.allclose(ours.energies, theirs.energies, rtol=1e-12)


def test_the_folder_holds_what_the_contract_says(here: Path) -> None:
    assert (
        main(["eos", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--out", "run", "--quiet"]) == 0
    )
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["units"]["bulk_modulus_GPa"] == "GPa"
    assert summary["units"]["volume_per_atom_A3"] == "Å^3/atom"
    rows = list(csv.DictReader(Path("run/log.csv").read_text().splitlines()))
    assert len(rows) == summary["results"]["n_points"] == 11
    page = Path("run/report.html").read_text()
    assert all(
        word in page for word in ("Energy against volume", "Birch–Murnaghan", "Vinet", "Pressure against")
    )
    before = page
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == before


def test_wrong_options_and_structures_are_refused() -> None:
    copper = bulk("Cu", "fcc", a=3.6)
    for wrong in ({"points": 4}, {"volume_range": 0.6}, {"relax": "all"}):
        with pytest.raises(OptionError):
            eos(copper, EMT(), **wrong)
    with pytest.raises(StructureError, match="not periodic"):
        eos(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]]), EMT())
    with pytest.raises(InputError, match="No EMT"):
        eos(bulk("Si"), EMT(), start="given", relax="none")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(
    here: Path, killable: Callable[..., Callable[..., int]]
) -> None:
    """Killed within the relaxation of a volume."""
    run = killable("eos", "cu.extxyz", "--start", "given", "--points", "5", "--fmax", "1e-3")
    assert run("whole", 1 << 30) == 0
    assert run("killed", 20) == -signal.SIGKILL
    assert Path("killed/restart.safetensors").exists()
    assert run("killed", 1 << 30, "--resume") == 0
    whole, killed = (json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    for name in ("log.csv", "curves.csv", "structures.extxyz"):
        assert Path("whole", name).read_bytes() == Path("killed", name).read_bytes()
    relaxed = [event["step"] for event in read_events("killed") if event["event"] == "relaxed"]
    assert relaxed == [1, 2, 3, 4, 5]  # none of them twice


def test_two_models_are_compared_by_one_table() -> None:
    """The same potential twice, ours and ASE's, cut differently beyond 2 σ: moduli within a tenth."""
    theirs = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=8.5, ro=7.0, smooth=True)
    both = compare("eos", bulk("Ar", "fcc", a=5.25), ["lj-argon", theirs], points=5, volume_range=0.04)
    (row,) = (row for row in both.rows if row["quantity"] == "bulk_modulus_GPa")
    assert row["unit"] == "GPa"
    assert 0 < row["spread"] < 0.1 * both.by_model["lj-argon"]["bulk_modulus_GPa"]

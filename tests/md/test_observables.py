"""What is measured has closed answers: series, displacements, pair distributions, ramps."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from atomml.errors import OptionError
from atomml.md.averages import BlockAverage, Mean
from atomml.md.observables import MeanSquaredDisplacement, Observables, pressure_in_gpa
from atomml.md.rdf import RadialDistribution
from atomml.md.schedule import Ramp
from atomml.md.state import System
from atomml.md.tables import averages_csv, conserved_drift, curves_csv


def average(series: np.ndarray) -> Mean:
    blocks = BlockAverage(1)
    for value in series:
        blocks.add(np.array([value]))
    return blocks.mean(0)


def autoregressive(n: int, rho: float, seed: int) -> np.ndarray:
    """AR(1) of unit variance, started from its stationary distribution."""
    noise = np.random.default_rng(seed).standard_normal(n)
    series = np.empty(n)
    series[0] = noise[0]
    for i in range(1, n):
        series[i] = rho * series[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return series


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_block_error_of_an_autoregressive_series(rho: float) -> None:
    """The variance of its mean is (1 + ρ)/(1 - ρ)/n up to terms in 1/n²."""
    n = 1 << 14
    found = [average(autoregressive(n, rho, seed)) for seed in range(6)]
    exact = np.sqrt((1 + rho) / (1 - rho) / n)
    errors = np.array([mean.error for mean in found])
    # an error from B-blocks scatters by sqrt(B / 2n): at most 10 % for each of the six here, and cutting
    # off correlations beyond a block takes up to 10 % away
    assert 0.85 < errors.mean() / exact < 1.12
    assert all(mean.reliable for mean in found)
    expected = (1 + rho) / (1 - rho)
    assert np.isclose(np.mean([m.inefficiency for m in found]), expected, rtol=0.25)
    # naive errors would be too small by sqrt(19) at ρ = 0.9
    assert all(abs(mean.value) < 4.5 * mean.error for mean in found)


def test_short_or_constant_series_say_so() -> None:
    assert np.isnan(average(np.empty(0)).value)
    few = average(np.arange(5.0))
    assert few.value == 2.0
    assert np.isnan(few.error)
    assert not few.reliable
    constant = average(np.full(64, 3.0))
    assert (constant.value, constant.error, constant.reliable) == (3.0, 0.0, True)
    # 64 samples that never decorrelate: the blocks become too few first
    assert not average(np.linspace(0.0, 1.0, 64)).reliable


def test_streaming_mean_and_variance_are_those_of_numpy() -> None:
    series = np.random.default_rng(0).standard_normal(1000) + 1e6
    found = average(series)
    assert found.value == pytest.approx(series.mean(), rel=1e-14)
    # deviations of 1 on top of 1e6 keep 10 digits
    assert found.variance == pytest.approx(series.var(ddof=1), rel=1e-9)


def test_block_state_is_all_in_its_arrays() -> None:
    series = autoregressive(777, 0.5, 1)
    whole, first = BlockAverage(1), BlockAverage(1)
    for value in series:
        whole.add(np.array([value]))
    for value in series[:300]:
        first.add(np.array([value]))
    second = BlockAverage(1)
    second.load_arrays(first.arrays())
    for value in series[300:]:
        second.add(np.array([value]))
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])


def test_displacement_of_ballistic_flight_without_its_drift() -> None:
    """Two opposite velocities on top of a drift: MSD = (v t)²; the drift and the walls do not count."""
    atoms = Atoms("Ar2", [[1, 1, 1], [4, 4, 4]], cell=[5, 5, 5], pbc=True)
    system = System.from_atoms(atoms)
    msd = MeanSquaredDisplacement(system)
    velocity, drift = np.array([[0.1, 0, 0], [-0.1, 0, 0]]), np.array([0.03, -0.2, 0.5])
    for time in (1.0, 10.0, 1000.0):  # many cells away
        system.positions = atoms.positions + time * (velocity + drift)
        assert msd.mean(system) == pytest.approx((0.1 * time) ** 2, rel=1e-9)
    msd.restart(system)
    assert msd.mean(system) == 0.0


def test_displacement_ignores_a_cell_that_breathes() -> None:
    atoms = bulk("Cu", cubic=True)
    system = System.from_atoms(atoms)
    msd = MeanSquaredDisplacement(system)
    system.cell, system.positions = 1.1 * system.cell, 1.1 * system.positions
    assert msd.mean(system) < 1e-25
    system.positions = system.positions + np.array([[0.3, 0, 0], [-0.3, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert msd.mean(system) == pytest.approx(2 * 0.09 / 4)


def test_displacement_with_fixed_atoms_keeps_their_frame() -> None:
    """Nothing is subtracted where atoms are held: the others may truly go somewhere together."""
    from ase.constraints import FixAtoms

    atoms = Atoms("Ar2", [[1, 1, 1], [4, 4, 4]], cell=[9, 9, 9], pbc=True, constraint=FixAtoms([0]))
    system = System.from_atoms(atoms)
    msd = MeanSquaredDisplacement(system)
    system.positions = system.positions + np.array([[0, 0, 0], [0.5, 0, 0]])
    assert msd.mean(system) == pytest.approx(0.125)


def test_pair_distribution_of_an_ideal_gas_is_one() -> None:
    """For every pair of elements; N atoms of a kind see N - 1 others: g = 1 - 1/N for like pairs."""
    generator = np.random.default_rng(3)
    numbers = np.array([18] * 60 + [36] * 40)
    cell = np.array([[11.0, 0, 0], [2.0, 10, 0], [0, -1.0, -12]])  # skewed and left-handed
    system = System.from_atoms(Atoms(numbers, cell=cell, pbc=True, positions=np.zeros((100, 3))))
    rdf = RadialDistribution(system.numbers, 5.0, 10)
    n_frames = 150
    for _ in range(n_frames):
        system.positions = generator.uniform(-1, 2, (100, 3)) @ cell  # outside the cell too
        rdf.add(system)
    curves = rdf.curves()
    assert list(curves) == ["Ar-Ar", "Ar-Kr", "Kr-Kr"]
    counts = {"Ar-Ar": 60 * 59 / 2, "Ar-Kr": 2400, "Kr-Kr": 40 * 39 / 2}
    like = {"Ar-Ar": 59 / 60, "Ar-Kr": 1.0, "Kr-Kr": 39 / 40}
    edges = np.linspace(0, 5, 11)
    shells = 4 / 3 * np.pi * np.diff(edges**3) / abs(np.linalg.det(cell))
    for name, curve in curves.items():
        pairs = counts[name] * shells * n_frames  # Poisson, an own image now and then aside
        assert np.all(np.abs(curve - like[name]) < 4.5 / np.sqrt(pairs) + 1e-12)


def test_pair_distribution_of_fcc_has_its_shells() -> None:
    """12, 6 and 24 neighbours at a/√2, a and a sqrt(3/2), however the cell changes size meanwhile."""
    atoms = bulk("Cu", cubic=True)
    system = System.from_atoms(atoms)
    rdf = RadialDistribution(system.numbers, 5.0, 500)
    rdf.add(system)
    width = 5.0 / 500
    shells = 4 / 3 * np.pi * np.diff(np.linspace(0, 5.0, 501) ** 3)
    coordination = np.cumsum(rdf.curves()["Cu-Cu"] * shells * 4 / system.volume)
    for radius, count in [(3.61 / np.sqrt(2), 12), (3.61, 18), (3.61 * np.sqrt(1.5), 42)]:
        bin_after = int((radius + 2 * width) / width)
        assert coordination[bin_after] == pytest.approx(count, abs=1e-9)
    assert rdf.radii[0] == pytest.approx(width / 2)
    twin = RadialDistribution(system.numbers, 5.0, 500)
    twin.load_arrays(rdf.arrays())
    assert twin.n_frames == 1
    np.testing.assert_array_equal(twin.curves()["Cu-Cu"], rdf.curves()["Cu-Cu"])


def test_pressure_of_an_ideal_gas() -> None:
    """P V = 2 K / 3, with the stress of no interaction; NaN where nothing says what the stress is."""
    atoms = Atoms("Ar10", np.zeros((10, 3)), cell=[20, 20, 20], pbc=True)
    atoms.set_momenta(np.random.default_rng(0).standard_normal((10, 3)))
    system = System.from_atoms(atoms)
    assert np.isnan(pressure_in_gpa(system))
    system.stress = np.zeros((3, 3))
    assert pressure_in_gpa(system) == pytest.approx(2 * atoms.get_kinetic_energy() / 3 / 8000 / units.GPa)
    system.stress = 0.01 * np.eye(3)  # tension pulls the pressure down
    assert pressure_in_gpa(system) == pytest.approx(
        (2 * atoms.get_kinetic_energy() / 3 / 8000 - 0.01) / units.GPa
    )


def test_every_averaged_column_is_in_the_log() -> None:
    for changes in (True, False):
        system = System.from_atoms(bulk("Cu", cubic=True))
        system.forces = np.zeros((4, 3))
        observables = Observables(system, cell_changes=changes, rdf_cutoff=0.0)
        row = observables.measure(system, 0.0, None)
        assert set(observables.averaged) <= set(observables.columns)
        own = {"step", "time_fs", "target_temperature_K", "target_pressure_GPa"}
        assert set(observables.columns) - own <= set(row)
        assert observables.rdf is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("300", (300.0, 300.0)), (300, (300.0, 300.0)), ("300:1200", (300.0, 1200.0)), ("1e3:0", (1e3, 0.0))],
)
def test_ramp_is_linear_and_stays_at_its_end(text: str, expected: tuple[float, float]) -> None:
    ramp = Ramp.parse(text, "temperature", 100)
    assert (ramp.start, ramp.end) == expected
    assert ramp.at(0) == expected[0]
    assert ramp.at(25) == pytest.approx(0.75 * expected[0] + 0.25 * expected[1])
    assert ramp.at(100) == ramp.at(10_000) == expected[1]
    assert ramp.highest == max(expected)


@pytest.mark.parametrize("text", ["", "a", "300:", "1:2:3", "nan", "300:inf", "300-400"])
def test_ramp_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="temperature"):
        Ramp.parse(text, "temperature", 100)


def test_tables_keep_every_digit(tmp_path: object) -> None:
    means = {"temperature_K": Mean(1 / 3, float("nan"), 4.0, 3, float("nan"), False)}
    assert averages_csv(means).splitlines()[1] == f"temperature_K,{1 / 3!r},,2.0,3,"
    assert curves_csv({"r_A": np.array([0.1]), "Cu-Cu": np.array([1 / 3])}) == f"r_A,Cu-Cu\n0.1,{1 / 3!r}\n"


def test_drift_is_the_slope_of_the_log(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    log = tmp_path / "log.csv"
    rows = "".join(f"{i},{i * 2.0},{5.0 + 0.01 * i}\n" for i in range(11))
    log.write_text("step,time_fs,conserved_eV\n" + rows)
    assert conserved_drift(log, 0) == pytest.approx(0.1)
    assert conserved_drift(log, 6) == pytest.approx(0.04)
    assert conserved_drift(log, 10) == 0.0

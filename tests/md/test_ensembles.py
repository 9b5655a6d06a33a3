"""Each integrator conserves what it must and samples the ensemble that it is named after."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian

from atomml.errors import OptionError
from atomml.md.averages import BlockAverage, Mean
from atomml.md.barostat import MTK
from atomml.md.chain import NoseHooverChain
from atomml.md.ensembles import NVE, Bussi, Conditions, Integrator, Langevin, NoseHoover
from atomml.md.forces import ForceField
from atomml.md.schedule import Ramp
from atomml.md.settings import ENSEMBLES, MDSettings, build_integrator
from atomml.md.state import System
from atomml.md.velocities import degrees_of_freedom, maxwell_boltzmann, remove_rotation

THERMOSTATS = ("nvt-langevin", "nvt-bussi", "nvt-nhc")
BAROSTATS = ("npt-iso", "npt-mtk")


def mean_of(series: np.ndarray) -> Mean:
    average = BlockAverage(1)
    for value in series:
        average.add(np.array([value]))
    return average.mean(0)


def start(
    atoms: Atoms, name: str, temperature: float, *, drift_removed: bool = False, seed: int = 0, **more: Any
) -> tuple[System, Integrator]:
    generator = np.random.default_rng(seed)
    system = System.from_atoms(atoms)
    system.drift_removed = drift_removed
    system.n_dof = degrees_of_freedom(system, drift_removed=drift_removed, rotation_removed=False)
    maxwell_boltzmann(system, temperature, generator)
    settings = MDSettings(ensemble=name, n_steps=1, temperature=Ramp(temperature, temperature), **more)
    return system, build_integrator(settings, system.n_dof, generator)


def evaluator(calculator: Any, atoms: Atoms) -> Callable[[System], None]:
    """Evaluate directly where the potential can, through ASE elsewhere."""
    if hasattr(calculator, "evaluate"):
        return calculator.evaluate
    forces = ForceField(atoms, calculator)
    return lambda system: forces(system, stress=True)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_error_of_conserved_quantity_is_second_order(
    name: str, solid: Any, trace: Any, conditions: Any
) -> None:
    """Halving the step quarters the fluctuation of what exact dynamics conserves, baths included."""
    spread = []
    for timestep in (4.0, 2.0, 1.0):
        atoms, calculator = solid(stiffness=0.5)
        system, integrator = start(atoms, name, 400.0, thermostat_time_fs=60, barostat_time_fs=150)
        target = conditions(timestep, 300.0, 0.02)
        found = trace(system, integrator, evaluator(calculator, atoms), target, int(400 / timestep))
        spread.append(float(np.std(found["conserved"])))
    # the noise of Langevin and Bussi differs between the three runs: their ratio only scatters about 4
    low, high = (2.0, 8.0) if name in ("nvt-langevin", "nvt-bussi") else (3.5, 4.6)
    for coarse, fine in pairwise(spread):
        assert low < coarse / fine < high
    assert spread[-1] < 2e-3 * units.kB * 300 * system.n_dof


def test_langevin_without_friction_is_constant_energy(solid: Any, trace: Any, conditions: Any) -> None:
    """No friction, no noise: the same kicks and drifts as velocity Verlet, the drift cut in half."""
    ends = []
    for integrator in (NVE(), Langevin(0.0, np.random.default_rng(1))):
        atoms, calculator = solid()
        system, _ = start(atoms, "nve", 300.0)
        trace(system, integrator, evaluator(calculator, atoms), conditions(2.0), 200)
        ends.append(system.positions)
    # rounding of 1e-15 Å per step; bound motion does not amplify it
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-11)


def replicas(solid: Any, trace: Any, target: Conditions, name: str, count: int) -> dict[str, np.ndarray]:
    """Means over many short runs that start from the canonical distribution, ``(count, 2)`` each.

    The modes of a harmonic solid never exchange energy under a thermostat that scales all
    momenta alike, so one run is not ergodic. Positions, momenta and chain velocities are
    drawn from the ensemble; the integrator has to leave it as it is. The scatter of the
    runs gives the standard error. The two columns are the mean and the mean square about
    300 K (about the mean of all for the others).
    """
    series: dict[str, list[np.ndarray]] = {}
    for seed in range(count):
        atoms, calculator = solid()
        generator = np.random.default_rng(1000 + seed)
        width = np.sqrt(target.thermal_energy / calculator.constants)
        atoms.positions += width * generator.standard_normal(atoms.positions.shape)
        system, integrator = start(atoms, name, 300.0, seed=seed, thermostat_time_fs=30, friction_per_ps=20.0)
        if isinstance(integrator, NoseHoover):
            masses = np.array(integrator._chain.masses)
            rates = np.sqrt(target.thermal_energy / masses) * generator.standard_normal(len(masses))
            integrator.load_arrays({"thermostat": np.append(rates, 0.0)})
        for key, values in trace(system, integrator, calculator.evaluate, target, 100).items():
            series.setdefault(key, []).append(values)
    moments = {}
    for key, runs in series.items():
        centre = 300.0 if key == "temperature" else np.mean(runs)
        moments[key] = np.array([(run.mean(), ((run - centre) ** 2).mean()) for run in runs])
    return moments


def agrees(samples: np.ndarray, exact: float, bias: float = 0.0) -> bool:
    """Whether independent samples have this mean, within three standard errors and a known bias."""
    error = float(np.std(samples, ddof=1)) / np.sqrt(len(samples))
    return abs(float(np.mean(samples)) - exact) < 3 * error + bias


def error_of(samples: np.ndarray) -> float:
    return float(np.std(samples, ddof=1)) / np.sqrt(len(samples))


@pytest.mark.parametrize("name", THERMOSTATS)
def test_canonical_averages_and_fluctuations(name: str, solid: Any, trace: Any, conditions: Any) -> None:
    """<T>, var T = 2 T² / n_dof, <U> = 3N kT / 2 and var U = 3N (kT)² / 2 on a harmonic solid."""
    found = replicas(solid, trace, conditions(2.0), name, count=200)
    n_dof, kT = 48, units.kB * 300.0
    exact_variance = 2 * 300.0**2 / n_dof
    # kicks of velocity Verlet leave momenta too cold by (ω dt)²/4 < 0.5 % for ω dt = 0.13
    assert agrees(found["temperature"][:, 0], 300.0, 1.5)
    assert agrees(found["temperature"][:, 1], exact_variance, 0.01 * exact_variance)
    assert agrees(found["potential"][:, 0], 0.5 * n_dof * kT, 0.0025 * n_dof * kT)
    assert agrees(found["potential"][:, 1], 0.5 * n_dof * kT**2, 0.01 * n_dof * kT**2)
    # and the errors are small enough for that to mean something
    assert error_of(found["temperature"][:, 0]) < 5.0
    assert error_of(found["temperature"][:, 1]) < 0.12 * exact_variance


def test_baoab_samples_positions_without_time_step_error(solid: Any, trace: Any, conditions: Any) -> None:
    """At steps where momenta are 5 to 15 % too cold the positions of a harmonic solid are exact."""
    atoms, calculator = solid()
    system, integrator = start(atoms, "nvt-langevin", 300.0, friction_per_ps=50.0, seed=3)
    found = trace(system, integrator, evaluator(calculator, atoms), conditions(12.0), 15_000)
    exact = 0.5 * units.kB * 300.0 * 3 * len(atoms)
    potential, temperature = mean_of(found["potential"][200:]), mean_of(found["temperature"][200:])
    assert abs(potential.value - exact) < 3 * potential.error
    assert potential.error < 0.02 * exact
    omega_dt = np.sqrt(calculator.constants / system.masses) * 12.0 * units.fs
    # half-kicked momenta of a harmonic oscillator: <p²/m> = kT (1 - (ω dt)²/4)
    expected = 300.0 * float(np.mean(1 - omega_dt**2 / 4))
    assert abs(temperature.value - expected) < 3 * temperature.error
    assert expected < 290.0


@pytest.mark.slow
@pytest.mark.parametrize("name", BAROSTATS)
def test_pressure_and_volume_of_a_harmonic_crystal(
    name: str, solid: Any, trace: Any, conditions: Any
) -> None:
    """<P> is the target; the isotropic cell's volume has the moments of its known distribution."""
    pressure, stiffness = 0.01, 0.15
    atoms, calculator = solid(stiffness, quartic=200.0)
    system, integrator = start(atoms, name, 300.0, thermostat_time_fs=20, barostat_time_fs=200, seed=12)
    target = conditions(2.0, 300.0, pressure)
    found = trace(system, integrator, calculator.evaluate, target, 8_000)
    measured, temperature = mean_of(found["pressure"][1000:]), mean_of(found["temperature"][1000:])
    assert abs(measured.value - pressure) < 3 * measured.error + 0.01 * pressure
    assert measured.error < 0.2 * pressure
    assert abs(temperature.value - 300.0) < 3 * temperature.error + 1.5
    if name == "npt-iso":
        centre, width = _isotropic_volume(atoms.cell.volume, stiffness, pressure)
        volume = found["volume"][1000:]
        mean, spread = mean_of(volume), mean_of((volume - centre) ** 2)
        assert abs(mean.value - centre) < 3 * mean.error
        assert abs(spread.value - width**2) < 3 * spread.error
        assert spread.error < 0.3 * width**2


def _isotropic_volume(volume0: float, stiffness: float, pressure: float) -> tuple[float, float]:
    """Mean and width of ``p(V) ~ exp(-[P V + 3/2 C V0 (f - 1)²]/kT)``, ``f = (V/V0)^(1/3)``."""
    volumes = np.linspace(0.5, 1.6, 20_001) * volume0
    stretch = (volumes / volume0) ** (1 / 3)
    energy = pressure * volumes + 1.5 * stiffness * volume0 * (stretch - 1) ** 2
    weight = np.exp(-(energy - energy.min()) / (300.0 * units.kB))
    mean = float((weight * volumes).sum() / weight.sum())
    return mean, float(np.sqrt((weight * (volumes - mean) ** 2).sum() / weight.sum()))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_cell"), [("npt-iso", 1), ("npt-mtk", 6)])
def test_barostat_carries_its_degrees_of_freedom(
    name: str, n_cell: int, solid: Any, trace: Any, conditions: Any
) -> None:
    """The cell's kinetic energy is half kT for each of 1 or 6 degrees of freedom: none is a rotation."""
    atoms, calculator = solid(stiffness=0.15, quartic=200.0)
    system, integrator = start(atoms, name, 300.0, thermostat_time_fs=20, barostat_time_fs=200, seed=12)
    assert isinstance(integrator, MTK)
    kinetic = integrator._cell_kinetic_energy
    found = trace(
        system,
        integrator,
        evaluator(calculator, atoms),
        conditions(2.0),
        6_000,
        lambda _: kinetic(),
    )
    mean = mean_of(found["extra"][1000:])
    exact = 0.5 * n_cell * units.kB * 300.0
    assert abs(mean.value - exact) < 3 * mean.error + 0.01 * exact
    assert mean.error < 0.15 * exact
    # a symmetric rate of a cell that starts as a box never turns it: h0⁻¹h keeps its polar rotation near 1
    assert np.allclose(integrator._rate, integrator._rate.T, atol=1e-14)


def test_isotropic_cell_keeps_its_shape(argon: Any, trace: Any, conditions: Any) -> None:
    atoms, calculator = argon(1)
    skewed = atoms.cell.array @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0, 0, -1.1]])  # left-handed too
    atoms.set_cell(skewed, scale_atoms=True)
    system, integrator = start(atoms, "npt-iso", 40.0, drift_removed=True, barostat_time_fs=100)
    trace(system, integrator, evaluator(calculator, atoms), conditions(4.0, 40.0), 50)
    ratio = system.cell / np.where(skewed == 0, 1, skewed)
    kept = ratio[np.abs(skewed) > 1e-9]
    assert abs(kept.mean() - 1) > 1e-4  # it did change
    np.testing.assert_allclose(kept, kept.mean(), rtol=1e-12)


def test_chain_conserves_its_energy_alone() -> None:
    """A chain coupled to a single momentum, and nothing else, conserves p²/2m plus its own energy."""
    errors = []
    for interval in (0.2, 0.1):
        chain = NoseHooverChain.with_time_constant(3, 0.025, 5.0)
        kinetic = 0.2
        for _ in range(int(100 / interval)):
            kinetic *= chain.advance(kinetic, 0.025, interval) ** 2
        errors.append(abs(kinetic + chain.energy() - 0.2))
    assert errors[1] < 1e-7
    # Suzuki and Yoshida's factorisation is of fourth order: a factor of 16, at least 8
    assert errors[0] / errors[1] > 8


def test_bussi_relaxes_the_kinetic_energy_at_the_given_rate() -> None:
    """Free particles: <K> approaches its target as exp(-t / tau) (eq. 7 of the paper)."""
    atoms = Atoms("Ar64", positions=np.zeros((64, 3)))
    tau, kT = 50.0, 0.025
    finals = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        system, _ = start(atoms, "nve", 0.0, seed=seed)
        system.momenta = np.sqrt(4 * kT * system.masses) * generator.choice([-1.0, 1.0], (64, 3))
        system.forces = np.zeros((64, 3))
        integrator = Bussi(tau, generator)
        for _ in range(10):
            integrator.step(system, lambda _: None, Conditions(5.0, kT))
        finals.append(system.kinetic_energy())
    target, begin = 0.5 * kT * 192, 0.5 * 4 * kT * 192
    expected = target + (begin - target) * np.exp(-50.0 / tau)
    error = np.std(finals) / np.sqrt(len(finals))
    assert abs(np.mean(finals) - expected) < 3.5 * error
    assert error < 0.01 * expected


def test_total_momentum_stays_zero_under_noise(argon: Any, trace: Any, conditions: Any) -> None:
    """With the drift removed the noise is projected; the temperature counts 3 N - 3."""
    atoms, calculator = argon(1)
    system, integrator = start(atoms, "nvt-langevin", 40.0, drift_removed=True, friction_per_ps=50.0)
    assert system.n_dof == 3 * len(atoms) - 3
    trace(system, integrator, evaluator(calculator, atoms), conditions(5.0, 40.0), 40)
    assert np.abs(system.momenta.sum(axis=0)).max() < 1e-11


def test_projected_noise_has_the_target_temperature() -> None:
    """Maxwell-Boltzmann on the subspace: <K> = (3N - 3) kT / 2, with very unequal masses too."""
    atoms = Atoms("H3U2", positions=np.zeros((5, 3)))
    generator = np.random.default_rng(0)
    system = System.from_atoms(atoms)
    system.drift_removed = True
    energies = []
    for _ in range(4000):
        maxwell_boltzmann(system, 500.0, generator)
        energies.append(system.kinetic_energy())
    exact = 0.5 * 12 * units.kB * 500.0
    # n_dof = 12 normals squared: the relative error of the mean is sqrt(2 / 12 / 4000) = 0.65 %
    assert abs(np.mean(energies) / exact - 1) < 3 * 0.0065


@pytest.mark.parametrize(
    ("atoms", "axes"),
    [
        (Atoms("O"), 0),
        (Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]]), 2),
        (Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]), 3),
    ],
)
def test_molecule_starts_at_rest_in_every_way(atoms: Atoms, axes: int) -> None:
    """No angular momentum, and one degree of freedom less for each axis that there is."""
    system = System.from_atoms(atoms)
    system.drift_removed = len(atoms) > 1
    n_dof = degrees_of_freedom(system, drift_removed=True, rotation_removed=True)
    assert n_dof == max(3 * len(atoms) - 3 - axes, 1)
    maxwell_boltzmann(system, 300.0, np.random.default_rng(7))
    remove_rotation(system)
    centre = (system.masses * system.positions).sum(axis=0) / system.masses.sum()
    angular = np.cross(system.positions - centre, system.momenta).sum(axis=0)
    assert np.abs(angular).max() < 1e-12
    assert np.abs(system.momenta.sum(axis=0)).max() < 1e-12 or len(atoms) == 1


def test_fixed_components_never_move_and_are_not_counted(argon: Any, trace: Any, conditions: Any) -> None:
    atoms, calculator = argon(1)
    atoms = atoms.repeat((2, 1, 1))
    atoms.set_constraint([FixAtoms([0, 1]), FixCartesian([2], mask=(True, False, False))])
    for name in ("nve", *THERMOSTATS):
        system, integrator = start(atoms, name, 40.0, friction_per_ps=50.0)
        assert system.n_dof == 3 * len(atoms) - 7
        before = system.positions
        trace(system, integrator, evaluator(calculator, atoms), conditions(5.0, 40.0), 15)
        moved = system.positions != before
        np.testing.assert_array_equal(moved, system.mobile)


def test_constraint_that_is_not_kept_is_refused() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], constraint=FixBondLengths([(0, 1)]))
    with pytest.raises(OptionError, match="FixBondLengths"):
        System.from_atoms(atoms)
    atoms.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(OptionError, match="Every atom is fixed"):
        System.from_atoms(atoms)


@pytest.mark.parametrize("name", ["berendsen", "nvt-berendsen", "NPT-Berendsen"])
def test_berendsen_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(OptionError, match="samples no known ensemble"):
        build_integrator(MDSettings(ensemble=name, n_steps=1), 3, np.random.default_rng(0))
    with pytest.raises(OptionError, match="nvt-bussi"):
        build_integrator(MDSettings(ensemble="nvt-andersen", n_steps=1), 3, np.random.default_rng(0))


def test_ramp_conserves_with_the_work_that_it_does(solid: Any) -> None:
    """Heating and compressing at once: the bath's energy keeps account, to second order in the step."""
    drift = []
    for timestep in (2.0, 1.0):
        atoms, calculator = solid(stiffness=0.5)
        system, integrator = start(atoms, "npt-mtk", 300.0, thermostat_time_fs=50, barostat_time_fs=100)
        assert isinstance(integrator, MTK)
        evaluate = evaluator(calculator, atoms)
        evaluate(system)
        n_steps = int(400 / timestep)
        energies = []
        for step in range(n_steps):
            share = (step + 1) / n_steps
            target = Conditions(timestep * units.fs, (300 + 300 * share) * units.kB, 0.05 * share)
            integrator.step(system, evaluate, target)
            energies.append(system.energy + system.kinetic_energy() + integrator.bath_energy(system, 0.0))
        drift.append(np.ptp(energies))
    assert drift[1] < 1e-2  # of some 1.5 eV of heat that came in
    assert drift[0] / drift[1] > 3


def test_nose_hoover_state_is_all_in_its_arrays(solid: Any, conditions: Any) -> None:
    """A second integrator that loads the arrays takes the same step to the bit."""
    atoms, calculator = solid(stiffness=0.5)
    system, integrator = start(atoms, "npt-mtk", 300.0, barostat_time_fs=100)
    evaluate = evaluator(calculator, atoms)
    evaluate(system)
    for _ in range(5):
        integrator.step(system, evaluate, conditions(2.0))
    _, twin = start(atoms, "npt-mtk", 300.0, barostat_time_fs=100)
    twin.load_arrays(integrator.arrays())
    copies = []
    for each in (integrator, twin):
        copy = System(**vars(system))
        each.step(copy, evaluate, conditions(2.0))
        copies.append(copy)
    np.testing.assert_array_equal(copies[0].positions, copies[1].positions)
    np.testing.assert_array_equal(copies[0].cell, copies[1].cell)
    assert isinstance(NoseHoover(NoseHooverChain.with_time_constant(3, 1.0, 1.0)).arrays(), dict)

"""A run that leaves physics stops at a named step and atom with its last good state whole, or goes back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from atomml.checkpoint import load_state
from atomml.errors import OptionError, RunFailedError
from atomml.md.driver import Driver, Hooks
from atomml.md.guard import BlowUpError, Guard, Limits
from atomml.md.schedule import Ramp
from atomml.md.settings import MDSettings
from atomml.md.simulation import Simulation
from atomml.md.state import System

FILES = ("trajectory.extxyz", "log.csv", "restart.safetensors")


class Wall(Calculator):
    """Argon atoms on springs along x, and a stiff wall at x = 5 Å that long steps cannot resolve.

    Args:
        wall: Force constant behind the wall, eV/Å².
        broken_from: Evaluation from which the force on atom 1 is NaN; 0 for never.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, wall: float = 0.0, broken_from: int = 0) -> None:
        super().__init__()
        self.wall, self.broken_from, self.calls = wall, broken_from, 0

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        x = self.atoms.positions[:, 0]
        depth = np.maximum(x - 5.0, 0.0)
        forces = np.zeros((len(x), 3))
        forces[:, 0] = -self.wall * depth
        if self.broken_from and self.calls >= self.broken_from:
            forces[1] = np.nan
        self.results = {"energy": 0.5 * self.wall * float((depth**2).sum()), "forces": forces}


def flight(speed: float = 0.02) -> Atoms:
    """Three atoms far apart, of which atom 2 flies towards the wall at ``speed`` Å/fs."""
    atoms = Atoms("Ar3", [[0, 0, 0], [0, 8, 0], [4, 16, 0]])
    velocities = np.zeros((3, 3))
    velocities[2, 0] = speed / units.fs
    atoms.set_velocities(velocities)
    return atoms


def told(**changes: Any) -> MDSettings:
    base = MDSettings(
        ensemble="nve",
        n_steps=100,
        temperature=Ramp(300.0, 300.0),
        every=5,
        restart_every=20,
        remove_drift=False,
        keep_velocities=True,
        timestep_fs=2.0,
    )
    return replace(base, **changes)


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES]


def test_not_a_number_stops_with_step_and_atom(tmp_path: Path) -> None:
    """The restart file of the last good step loads, and a sound model goes on from it."""
    events: list[dict[str, Any]] = []
    hooks = Hooks(event=lambda kind, **data: events.append({"kind": kind, **data}))
    driver = Driver(flight(), Wall(broken_from=34), told(), tmp_path, hooks=hooks)
    # evaluation 1 is that of step 0, so evaluation 34 belongs to step 33
    with pytest.raises(RunFailedError, match=r"step 33: the force on atom 1 \(Ar\) is not finite") as caught:
        driver.run()
    assert caught.value.exit_code == 1
    blow_up = next(event for event in events if event["kind"] == "blow-up")
    assert (blow_up["step"], blow_up["atom"]) == (33, 1)
    header = load_state(tmp_path / FILES[2]).header
    assert header["progress"]["step"] == 20
    simulation = Driver(flight(), Wall(), told(), tmp_path).run(resume=True)
    assert simulation.progress.step == 100


def test_stiff_wall_stops_a_long_step_and_rollback_passes_it(tmp_path: Path) -> None:
    """ω dt = 2 fs sqrt(300 eV/Å² / 40 amu) = 0.54 jumps at the wall; finer steps go through."""
    wall = Wall(wall=300.0)
    limits = Limits(max_energy_jump=0.001)
    with pytest.raises(RunFailedError, match=r"step \d+: the conserved energy jumped .* atom 2 \(Ar\)"):
        Driver(flight(), wall, told(limits=limits), tmp_path).run()
    warned: list[str] = []
    again = told(limits=limits, on_blowup="rollback")
    driver = Driver(flight(), Wall(wall=300.0), again, tmp_path, hooks=Hooks(warn=warned.append))
    simulation = driver.run(resume=True)
    records = simulation.progress.rollbacks
    assert records
    assert len(warned) == len(records)
    assert records[0]["back_to"] == 20
    assert [record["substeps"] for record in records] == [2 ** (i + 1) for i in range(len(records))]
    # it bounced, and nothing was lost or written twice
    assert simulation.system.momenta[2, 0] < 0
    steps = [int(line.split(",")[0]) for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert steps == list(range(0, 101, 5))
    energy = simulation.system.kinetic_energy()
    assert energy == pytest.approx(flight().get_kinetic_energy(), rel=0.01)


def test_rollback_gives_the_same_bits_after_a_stop(tmp_path: Path) -> None:
    """Killed before, amid or after the way back, the run ends with the bits of one that was not."""
    settings = told(limits=Limits(max_energy_jump=0.001), on_blowup="rollback", every=1)

    def run(folder: Path, die_at: int = 0, resume: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        driver = Driver(flight(), Wall(wall=300.0), settings, folder)
        advance, calls = driver.simulation.advance, 0

        def dying() -> None:
            nonlocal calls
            calls += 1
            if calls == die_at:
                raise MemoryError
            advance()

        driver.simulation.advance = dying  # type: ignore[method-assign]
        driver.run(resume=resume)

    run(tmp_path / "whole")
    for die_at in (15, 24, 29, 33, 60):
        folder = tmp_path / f"broken{die_at}"
        with pytest.raises(MemoryError):
            run(folder, die_at)
        run(folder, resume=True)
        assert digests(folder) == digests(tmp_path / "whole")


def test_rollback_after_an_interruption_goes_back_as_far_as_without(tmp_path: Path) -> None:
    """A restart file that a signal had written off schedule does not move the point of return."""
    settings = told(limits=Limits(max_energy_jump=0.001), on_blowup="rollback", every=1)
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    Driver(flight(), Wall(wall=300.0), settings, tmp_path / "whole").run()
    # steps = 23 ends a first part off schedule, as a signal at step 23 would
    Driver(flight(), Wall(wall=300.0), replace(settings, n_steps=23), tmp_path / "broken").run()
    assert (tmp_path / "broken" / "rollback.safetensors").exists()
    simulation = Driver(flight(), Wall(wall=300.0), settings, tmp_path / "broken").run(resume=True)
    assert simulation.progress.rollbacks[0]["back_to"] == 20
    for name in FILES[:2]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_rollback_gives_up(tmp_path: Path) -> None:
    """A model that fails whatever the step: as many tries as allowed, then a failed run."""
    settings = told(on_blowup="rollback", max_rollbacks=3)
    with pytest.raises(RunFailedError, match="after 3 rollbacks"):
        Driver(flight(), Wall(broken_from=34), settings, tmp_path).run()
    assert load_state(tmp_path / FILES[2]).header["progress"]["step"] == 20


def test_atoms_that_come_too_close_are_named(tmp_path: Path) -> None:
    """Half the sum of covalent radii (1.06 Å for argon) by default, another distance if asked for."""
    atoms = Atoms("Ar3", [[0, 8, 0], [0, 0, 0], [3.0, 0, 0]], cell=[4.5, 20, 20], pbc=(True, False, False))
    velocities = np.zeros((3, 3))
    velocities[2, 0] = 0.02 / units.fs  # it comes to atom 1's image at 4.5 Å, through the boundary
    atoms.set_velocities(velocities)
    for limit, expected in ((None, 1.06), (1.3, 1.3)):
        (tmp_path / str(limit)).mkdir()
        settings = told(limits=Limits(min_distance=limit))
        with pytest.raises(RunFailedError, match=r"atom 1 \(Ar\) and atom 2 \(Ar\) came within") as caught:
            Driver(atoms, Wall(), settings, tmp_path / str(limit)).run()
        # 0.04 Å a step: the first step with 1.5 - 0.04 n below the limit
        step = int(np.floor((1.5 - expected) / 0.04)) + 1
        assert f"step {step}:" in str(caught.value)
    (tmp_path / "off").mkdir()
    off = told(limits=Limits(min_distance=0.0))
    assert Driver(atoms, Wall(), off, tmp_path / "off").run().progress.step == 100


def test_pair_list_of_the_guard_misses_nothing() -> None:
    """Random walks in a small periodic cell: the kept list and a fresh one see the same pairs."""
    generator = np.random.default_rng(0)
    atoms = Atoms("Ar6", generator.uniform(0, 6, (6, 3)), cell=[6, 6, 6], pbc=True)
    system = System.from_atoms(atoms)
    system.n_dof = 18
    limits = Limits(min_distance=1.5)
    kept = Guard(system, limits, 300.0)._close
    found = 0
    for _ in range(300):
        system.positions = system.positions + generator.normal(0, 0.06, (6, 3))
        system.cell = system.cell * (1 + generator.normal(0, 1e-3))
        fresh = Guard(system, limits, 300.0)._close
        verdicts = []
        for pairs in (kept, fresh):
            try:
                pairs.check(system)
                verdicts.append("")
            except BlowUpError as error:
                verdicts.append(error.reason)
        assert bool(verdicts[0]) == bool(verdicts[1])
        found += bool(verdicts[0])
    assert 10 < found < 290  # both answers occur


def test_heat_stops_the_run(tmp_path: Path) -> None:
    settings = told(limits=Limits(max_temperature=50.0))
    with pytest.raises(RunFailedError, match="temperature reached"):
        Driver(flight(), Wall(), settings, tmp_path).run()


def test_derived_limits_leave_sound_runs_alone(solid: Any) -> None:
    """A limit of ten times the target, wider for few atoms, whose temperature fluctuates."""
    atoms, _ = solid()
    many, few = System.from_atoms(atoms), System.from_atoms(flight())
    many.n_dof, few.n_dof = 1000, 3
    assert Guard(many, Limits(), 1000.0).max_temperature == pytest.approx(10_000 * (1 + 5 * np.sqrt(0.002)))
    assert Guard(few, Limits(), 10.0).max_temperature == pytest.approx(3000 * (1 + 5 * np.sqrt(2 / 3)))


def test_atom_that_flies_off_is_caught_before_the_model_sees_it() -> None:
    system = System.from_atoms(flight())
    system.n_dof = 9
    guard = Guard(system, Limits(), 300.0)
    before = system.positions
    for far in (1e6, np.nan, np.inf):
        system.positions = before + np.array([[0, 0, 0], [0, far, 0], [0, 0, 0]])
        with pytest.raises(BlowUpError, match=r"atom 1 \(Ar\) moved by"):
            guard.check_move(system, before, 0.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pressure": Ramp(1.0, 1.0)}, "no effect at constant volume"),
        ({"ensemble": "npt-mtk"}, "periodic in all three"),
        ({"temperature": Ramp(-5.0, 300.0)}, "negative"),
        ({"ensemble": "nvt-nhc", "temperature": Ramp(0.0, 0.0)}, "above 0 K"),
        ({"ensemble": "npt-berendsen"}, "no known ensemble"),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        Simulation(flight(), Wall(), told(**changes))


def test_constant_pressure_wants_a_free_periodic_structure_and_a_stress(solid: Any) -> None:
    from ase.constraints import FixAtoms

    atoms, calculator = solid()
    with pytest.raises(OptionError, match="gives a stress"):
        Simulation(atoms, Wall(), told(ensemble="npt-iso", keep_velocities=False))
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(OptionError, match="none can be fixed"):
        Simulation(atoms, calculator, told(ensemble="npt-iso", keep_velocities=False))
    with pytest.raises(OptionError, match="no velocities to keep"):
        Simulation(atoms, calculator, told())

"""A run that was stopped at any moment ends with the bits of one that was not."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from atomml.checkpoint import load_state
from atomml.errors import CheckpointError, RunFailedError
from atomml.md.driver import Driver, Hooks, parse_duration
from atomml.md.recorder import GrowingFile
from atomml.md.schedule import Ramp
from atomml.md.settings import ENSEMBLES, MDSettings

FILES = ("trajectory.extxyz", "log.csv", "restart.safetensors")
Make = Callable[[], tuple[Atoms, Any]]


class PulledPlug(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


def settings(ensemble: str = "nvt-bussi", **changes: Any) -> MDSettings:
    base = MDSettings(
        ensemble=ensemble,
        n_steps=40,
        temperature=Ramp(300.0, 300.0) if ensemble == "nve" else Ramp(300.0, 500.0),
        pressure=Ramp(0.0, 2.0) if ensemble.startswith("npt") else Ramp(0.0, 0.0),
        every=3,
        restart_every=10,
        equilibrate=5,
        thermostat_time_fs=30.0,
        barostat_time_fs=100.0,
    )
    return replace(base, **changes)


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def unplug(driver: Driver, at_call: int) -> None:
    """Let the run die in its ``at_call``-th force evaluation, in the middle of a step."""
    calculator = driver.simulation._forces._calculator
    calculate, calls = calculator.calculate, 0

    def dying(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise PulledPlug
        calculate(*args, **kwargs)

    calculator.calculate = dying


def new_run(make: Make, told: MDSettings, folder: Path) -> Driver:
    folder.mkdir(exist_ok=True)
    return Driver(*make(), told, folder)


def crystal(solid: Any) -> Make:
    return lambda: solid(stiffness=0.5)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("at_call", [1, 4, 11, 18])
def test_same_bits_after_any_stop(ensemble: str, at_call: int, solid: Any, tmp_path: Path) -> None:
    """Stopped in the first evaluation, before the first scheduled restart, right after one, and later."""
    make = crystal(solid)
    new_run(make, settings(ensemble), tmp_path / "whole").run()
    broken = new_run(make, settings(ensemble), tmp_path / "broken")
    unplug(broken, at_call)
    with pytest.raises(PulledPlug):
        broken.run()
    new_run(make, settings(ensemble), tmp_path / "broken").run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")


@pytest.mark.parametrize("ensemble", ["nvt-langevin", "npt-mtk"])
def test_same_bits_with_a_neighbour_list(ensemble: str, argon: Any, tmp_path: Path) -> None:
    """A list that was built at another step, and on another side of a Verlet skin, changes no bit."""
    told = settings(ensemble, temperature=Ramp(40.0, 80.0), timestep_fs=5.0, barostat_time_fs=500.0)
    if told.constant_pressure:
        told = replace(told, pressure=Ramp(0.0, 0.02))
    new_run(lambda: argon(1), told, tmp_path / "whole").run()
    broken = new_run(lambda: argon(1), told, tmp_path / "broken")
    unplug(broken, 27)
    with pytest.raises(PulledPlug):
        broken.run()
    new_run(lambda: argon(1), told, tmp_path / "broken").run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")


def test_same_bits_with_fixed_atoms_and_a_slab(solid: Any, tmp_path: Path) -> None:
    from ase.constraints import FixAtoms

    def make() -> tuple[Atoms, Any]:
        atoms, calculator = solid()
        atoms.pbc = (True, True, False)
        atoms.set_constraint(FixAtoms([0, 3]))
        return atoms, calculator

    new_run(make, settings(), tmp_path / "whole").run()
    broken = new_run(make, settings(), tmp_path / "broken")
    unplug(broken, 15)
    with pytest.raises(PulledPlug):
        broken.run()
    simulation = new_run(make, settings(), tmp_path / "broken").run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")
    np.testing.assert_array_equal(simulation.system.positions[[0, 3]], make()[0].positions[[0, 3]])


def test_torn_tail_is_cut_off(solid: Any, tmp_path: Path) -> None:
    """Half a frame and half a line behind the last restart file vanish."""
    make = crystal(solid)
    new_run(make, settings(), tmp_path / "whole").run()
    new_run(make, settings(n_steps=20), tmp_path / "broken").run()
    for name in FILES[:2]:
        with (tmp_path / "broken" / name).open("ab") as stream:
            stream.write(b"16\nLattice=torn, 1.2345")
    new_run(make, settings(n_steps=20), tmp_path / "broken").run(resume=True)
    new_run(make, settings(n_steps=20), tmp_path / "plain").run()
    assert digests(tmp_path / "plain") == digests(tmp_path / "broken")


def test_steps_is_a_target(solid: Any, tmp_path: Path) -> None:
    """Resuming a finished run changes nothing; a larger target goes on as if it had been the first."""
    make = crystal(solid)
    told = settings(temperature=Ramp(300.0, 300.0))
    new_run(make, replace(told, n_steps=60), tmp_path / "long").run()
    driver = new_run(make, told, tmp_path / "short")
    driver.run()
    before = digests(tmp_path / "short")
    again = new_run(make, told, tmp_path / "short")
    again.run(resume=True)
    assert again.steps_done == 0
    assert digests(tmp_path / "short") == before
    further = new_run(make, replace(told, n_steps=60), tmp_path / "short")
    further.run(resume=True)
    assert further.steps_done == 20
    for name in FILES[:2]:
        assert digests(tmp_path / "short")[name] == digests(tmp_path / "long")[name]


def test_ramp_goes_on_where_it_was(solid: Any, tmp_path: Path) -> None:
    """The target of each line of the log is on one straight line, across the stop."""
    broken = new_run(crystal(solid), settings(), tmp_path / "run")
    unplug(broken, 25)
    with pytest.raises(PulledPlug):
        broken.run()
    new_run(crystal(solid), settings(), tmp_path / "run").run(resume=True)
    lines = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    column = lines[0].index("target_temperature_K")
    steps, targets = zip(*((float(line[0]), float(line[column])) for line in lines[1:]), strict=True)
    np.testing.assert_allclose(targets, 300.0 + 200.0 * np.array(steps) / 40)
    assert steps == tuple(range(0, 41, 3))


def test_trajectory_reads_back(argon: Any, tmp_path: Path) -> None:
    """Every frame by our strict reader: energy, forces and positions of the step that it names."""
    from atomml.data.structures import read_structures

    simulation = new_run(
        lambda: argon(1), settings(n_steps=9, temperature=Ramp(40, 40)), tmp_path / "run"
    ).run()
    frames = list(read_structures(tmp_path / "run" / "trajectory.extxyz"))
    assert [frame.atoms.info["step"] for frame in frames] == [0, 3, 6, 9]
    last = frames[-1].atoms
    np.testing.assert_allclose(last.positions, simulation.system.positions, atol=5e-9)  # eight decimals
    np.testing.assert_allclose(last.get_momenta(), simulation.system.momenta, atol=5e-9)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_restart_file_of_that_step(number: int, solid: Any, tmp_path: Path) -> None:
    """The step is finished, the state written, the signal takes effect; resuming gives the same bits."""
    make = crystal(solid)
    new_run(make, settings(), tmp_path / "whole").run()
    heard: list[int] = []
    before = signal.signal(number, lambda n, _: heard.append(n))
    try:
        driver = new_run(make, settings(), tmp_path / "broken")
        calculator = driver.simulation._forces._calculator
        calculate, calls = calculator.calculate, 0

        def signalled(*args: Any, **kwargs: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 14:
                os.kill(os.getpid(), number)
            calculate(*args, **kwargs)

        calculator.calculate = signalled
        with pytest.raises(KeyboardInterrupt):
            driver.run()
    finally:
        signal.signal(number, before)
    assert heard == [number]
    assert load_state(tmp_path / "broken" / FILES[2]).header["progress"]["step"] == 13
    new_run(make, settings(), tmp_path / "broken").run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")
    assert not (tmp_path / "broken" / "rollback.safetensors").exists()


def test_restart_file_of_another_run_is_refused(solid: Any, tmp_path: Path) -> None:
    make = crystal(solid)
    new_run(make, settings(), tmp_path / "run").run()
    with pytest.raises(CheckpointError, match="ensemble"):
        new_run(make, settings("nvt-nhc"), tmp_path / "run").run(resume=True)

    def other() -> tuple[Atoms, Any]:
        atoms, calculator = solid(stiffness=0.5)
        atoms.numbers[3] = 19
        return atoms, calculator

    with pytest.raises(CheckpointError, match="numbers"):
        new_run(other, settings(), tmp_path / "run").run(resume=True)
    with (tmp_path / "run" / "log.csv").open("r+b") as stream:
        stream.truncate(10)
    with pytest.raises(CheckpointError, match=r"log\.csv has 10 bytes"):
        new_run(make, settings(), tmp_path / "run").run(resume=True)
    restart = tmp_path / "run" / "restart.safetensors"
    restart.write_bytes(restart.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        new_run(make, settings(), tmp_path / "run").run(resume=True)


def test_restart_file_holds_no_clock_host_or_path(solid: Any, tmp_path: Path) -> None:
    """Two runs at other times in other folders write the same file; it names neither."""
    for name in ("one", "two"):
        new_run(crystal(solid), settings(), tmp_path / name).run()
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    content = (tmp_path / "one" / FILES[2]).read_bytes()
    for word in (str(tmp_path), os.uname().nodename, 'time"'):
        assert word.encode() not in content


def test_time_limit_becomes_a_number_of_steps_once(solid: Any, tmp_path: Path) -> None:
    """Timed before the start and taken back: the run's bits are those of a run of that many steps."""
    said: list[dict[str, Any]] = []
    make, told = crystal(solid), settings(n_steps=10_000, temperature=Ramp(300, 300), restart_every=50)
    hooks = Hooks(event=lambda kind, **data: said.append({"kind": kind, **data}))
    (tmp_path / "limited").mkdir()
    limited = Driver(*make(), told, tmp_path / "limited", max_time_s=0.05, hooks=hooks)
    simulation = limited.run()
    limit = next(event["n_steps"] for event in said if event["kind"] == "steps limited")
    assert 1 <= limit < 10_000
    assert simulation.progress.step == limited.steps_done == limit
    new_run(make, replace(told, n_steps=limit), tmp_path / "plain").run()
    for name in FILES[:2]:
        assert digests(tmp_path / "plain")[name] == digests(tmp_path / "limited")[name]
    again = Driver(*make(), told, tmp_path / "limited", max_time_s=0.05)
    again.run(resume=True)
    assert again.steps_done == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129600)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1s", "0", "1w", "nan", "inf"])
def test_length_of_time_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        parse_duration(text)


def test_difference_of_versions_is_warned_of(solid: Any, tmp_path: Path) -> None:
    warned: list[str] = []
    (tmp_path / "run").mkdir()
    told = settings()
    Driver(*solid(), told, tmp_path / "run", identity={"torch": "2.12", "threads": "1"}).run()
    hooks = Hooks(warn=warned.append)
    now = {"torch": "2.13", "threads": "1"}
    Driver(*solid(), told, tmp_path / "run", identity=now, hooks=hooks).run(resume=True)
    assert len(warned) == 1
    assert "torch was 2.12 and is 2.13" in warned[0]


def test_growing_file_is_cut_to_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with GrowingFile(path) as file:
        file.append("äbc\n")
        size = file.size
        file.append("torn")
    with GrowingFile(path, size) as file:
        assert path.read_text() == "äbc\n"
        file.append("d\n")
    assert path.read_text() == "äbc\nd\n"
    with pytest.raises(CheckpointError, match="7 bytes"):
        GrowingFile(path, 8)


@pytest.mark.slow
def test_sigkill_at_random_and_at_the_worst_moments(root: Path, tmp_path: Path) -> None:
    """Real processes, really killed: at random instants, before and after renames, inside appends."""
    command = [sys.executable, str(root / "benchmarks" / "md_resume.py"), "--kills", "6", "--steps", "60"]
    command += ["--ensembles", "nvt-langevin", "npt-mtk", "--folder", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("6 of 6") == 2


def test_model_that_cannot_start_is_a_failed_run(solid: Any, tmp_path: Path) -> None:
    def make() -> tuple[Atoms, Any]:
        atoms, calculator = solid()
        calculator.constants = calculator.constants * np.nan
        return atoms, calculator

    with pytest.raises(RunFailedError, match=r"cannot start: the force on atom 0 \(Na\) is not finite"):
        new_run(make, settings(), tmp_path / "run").run()

"""A model behind i-PI's socket: the answers, the end of the work, and servers that get lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketIOCalculator, SocketServer
from ase.io import write
from ase.optimize import BFGS

from atomml.cli.main import main
from atomml.errors import OptionError, RunFailedError, StructureError
from atomml.run import read_events
from atomml.workflows import serve

EMT_MODEL = ["--model", "ase:ase.calculators.emt:EMT"]


@pytest.fixture
def name() -> str:
    """Of a socket that no other test has."""
    return f"atomml-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.fixture
def client(tmp_path: Path, copper: Atoms, root: Path) -> Iterator[Any]:
    """Starts ``atomml serve`` as a process; what is left of it goes at the end."""
    write(tmp_path / "cu.extxyz", copper)
    started: list[subprocess.Popen[str]] = []

    def start(address: str, *more: str, model: tuple[str, ...] = tuple(EMT_MODEL)) -> subprocess.Popen[str]:
        words = ["serve", "cu.extxyz", "--ipi", address, "--out", "run", "--quiet", *model, *more]
        call = [sys.executable, "-m", "atomml.cli.main", *words]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        process = subprocess.Popen(call, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_ases_server_relaxes_with_it_as_with_the_model_itself(
    name: str, copper: Atoms, client: Any, tmp_path: Path
) -> None:
    """Bohr and hartree and back cost some 1e-16 of each number; 1e-9 is asked for."""
    direct = copper.copy()
    direct.calc = EMT()
    remote = copper.copy()
    process = client(f"unix:{name}", "--end", "close")
    with SocketIOCalculator(unixsocket=name, timeout=60) as remote.calc:
        assert remote.get_potential_energy() == pytest.approx(direct.get_potential_energy(), abs=1e-9)
        assert remote.get_forces() == pytest.approx(direct.get_forces(), abs=1e-9)
        assert remote.get_stress() == pytest.approx(direct.get_stress(), abs=1e-9)
        BFGS(remote, logfile=None).run(fmax=0.01)
        BFGS(direct, logfile=None).run(fmax=0.01)
    assert remote.positions == pytest.approx(direct.positions, abs=1e-7)
    process.wait(timeout=60)
    assert process.returncode == 0, process.stderr.read()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["results"]["n_evaluations"] >= 3
    assert summary["results"]["last_energy_eV"] == pytest.approx(direct.get_potential_energy(), abs=1e-6)
    assert (tmp_path / "run" / "report.html").exists()


class Server:
    """i-PI's side of the protocol, one answer at a time."""

    def __init__(self, name: str) -> None:
        self.server = SocketServer(unixsocket=name, timeout=60)

    def ask(self, atoms: Atoms) -> dict[str, Any]:
        return self.server.calculate(atoms)

    def send_exit(self) -> None:
        self.server.protocol.end()


def _in_thread(work: Any) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    return thread, failures


def test_exit_ends_the_work_and_a_cell_that_changes_is_followed(name: str, copper: Atoms) -> None:
    server = Server(name)
    found: list[Any] = []
    thread, failures = _in_thread(lambda: found.append(serve(copper, EMT(), ipi=f"unix:{name}")))
    for scale in (1.0, 1.02):
        wanted = copper.copy()
        wanted.set_cell(copper.cell * scale, scale_atoms=True)
        answer = server.ask(wanted)
        wanted.calc = EMT()
        assert answer["energy"] == pytest.approx(wanted.get_potential_energy(), abs=1e-9)
        virial = -wanted.get_volume() * wanted.get_stress(voigt=False)
        assert answer["virial"] == pytest.approx(virial, abs=1e-8)
    server.send_exit()
    thread.join(60)
    server.server.close()
    assert failures == []
    assert found[0].n_evaluations == 2
    assert found[0].converged


def test_the_suites_own_model_answers_too(name: str) -> None:
    argon = bulk("Ar", "fcc", a=5.2, cubic=True)
    server = Server(name)
    thread, failures = _in_thread(lambda: serve(argon, "lj-argon", ipi=f"unix:{name}", dtype="float64"))
    answer = server.ask(argon)
    server.send_exit()
    thread.join(60)
    server.server.close()
    assert failures == []
    from atomml import AtomMLCalculator, load_model

    argon.calc = AtomMLCalculator(load_model("lj-argon", dtype="float64"))
    assert answer["energy"] == pytest.approx(argon.get_potential_energy(), abs=1e-9)


@pytest.mark.slow
def test_chgnet_answers_by_command(name: str, copper: Atoms, client: Any) -> None:
    """Float32 weights: energies per atom to 1e-5 eV, forces to 1e-4 eV/Å."""
    from atomml import AtomMLCalculator, load_model

    process = client(f"unix:{name}", "--threads", "1", model=("--model", "chgnet-0.3.0"))
    server = Server(name)
    answer = server.ask(copper)
    server.send_exit()
    process.communicate(timeout=60)
    server.server.close()
    assert process.returncode == 0
    copper.calc = AtomMLCalculator(load_model("chgnet-0.3.0", device="cpu"))
    assert answer["energy"] == pytest.approx(copper.get_potential_energy(), abs=4e-5)
    assert answer["forces"] == pytest.approx(copper.get_forces(), abs=1e-4)


def test_another_number_of_atoms_is_refused(name: str, copper: Atoms) -> None:
    server = Server(name)
    thread, failures = _in_thread(lambda: serve(copper[:3], EMT(), ipi=f"unix:{name}"))
    with pytest.raises(OSError):  # noqa: PT011 (which one depends on how far it got)
        server.ask(copper)
    thread.join(60)
    server.server.close()
    assert isinstance(failures[0], StructureError)
    assert "sends 4 atoms" in str(failures[0])


def test_numbers_that_are_not_finite_are_one_sentence(name: str, copper: Atoms) -> None:
    server = Server(name)
    thread, failures = _in_thread(lambda: serve(copper, EMT(), ipi=f"unix:{name}"))
    broken = copper.copy()
    broken.positions[0, 0] = np.nan
    with pytest.raises(OSError):  # noqa: PT011
        server.ask(broken)
    thread.join(60)
    server.server.close()
    assert isinstance(failures[0], RunFailedError)
    assert "not finite" in str(failures[0])


def test_a_lost_server_is_1_and_one_sentence(name: str, copper: Atoms, client: Any, tmp_path: Path) -> None:
    process = client(f"unix:{name}")
    server = Server(name)
    server.ask(copper)
    server.server.close()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "lost after 1 evaluations" in err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["converged"] is False


def test_sigterm_is_143_and_leaves_whole_files(name: str, copper: Atoms, client: Any, tmp_path: Path) -> None:
    process = client(f"unix:{name}")
    server = Server(name)
    server.ask(copper)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    server.server.close()
    assert process.returncode == 143
    assert "Traceback" not in err
    assert [event["event"] for event in read_events(tmp_path / "run")][-1] == "stopped"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["results"]["n_evaluations"] == 1


def test_ports_work_as_well(copper: Atoms) -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    server = SocketServer(port=port, timeout=60)
    thread, failures = _in_thread(lambda: serve(copper, EMT(), ipi=f"localhost:{port}"))
    answer = server.calculate(copper)
    server.protocol.end()
    thread.join(60)
    server.close()
    assert failures == []
    copper.calc = EMT()
    assert answer["forces"] == pytest.approx(copper.get_forces(), abs=1e-9)


def test_no_server_and_no_address(
    name: str, copper: Atoms, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    with pytest.raises(RunFailedError, match="No server listens"):
        serve(copper, EMT(), ipi=f"unix:{name}", wait=0.3)
    for address in ("", "unix:", "unix:a/b", "host", "host:", "host:99999", ":31415"):
        with pytest.raises(OptionError, match="ipi is"):
            serve(copper, EMT(), ipi=address)
    monkeypatch.chdir(tmp_path)
    write("cu.extxyz", copper)
    assert main(["serve", "cu.extxyz", *EMT_MODEL]) == 2
    assert not Path("serve-cu").exists()
    assert main(["serve", "cu.extxyz", *EMT_MODEL, "--ipi", f"unix:{name}", "--wait", "0", "--quiet"]) == 1
    assert "start i-PI first" in capsys.readouterr().err

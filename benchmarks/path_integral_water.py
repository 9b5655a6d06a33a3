"""Path-integral molecular dynamics of water: i-PI moves the beads, ``atomml serve`` answers.

    python benchmarks/path_integral_water.py --ipi /path/to/i-pi [--beads 4] [--clients 1] [--steps 20]

i-PI (pip install ipi) goes into an environment of its own. The script writes a box of eight molecules and
i-PI's input, starts the server and the clients, and checks what must hold: everybody ends with code 0, every
bead was answered for at every step, and the conserved quantity stays where it is. It then kills a server in
the middle of a second run, and looks for exit code 1 and one sentence of the client.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write

INPUT = """<simulation verbosity='medium'>
  <output prefix='water'>
    <properties stride='1' filename='out'>
      [ step, time{{femtosecond}}, conserved{{electronvolt}}, temperature{{kelvin}},
        kinetic_cv{{electronvolt}}, potential{{electronvolt}} ]
    </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>31415</seed></prng>
  <ffsocket mode='unix' name='atomml'><address>{address}</address></ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'>init.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='atomml'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'>0.25</timestep>
        <thermostat mode='pile_l'><tau units='femtosecond'>100</tau></thermostat>
      </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
  </system>
</simulation>
"""


def water_box(n: int = 2, density: float = 0.997) -> Atoms:
    """``n³`` molecules, turned at random, on a cubic grid at a density in g/cm³."""
    generator = np.random.default_rng(1)
    spacing = (18.015 / 6.02214076e23 / density) ** (1 / 3) * 1e8
    box = Atoms(cell=[n * spacing] * 3, pbc=True)
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(float(generator.uniform(0, 360)), generator.normal(size=3), center="COM")
        one.translate((np.array(place) + 0.5) * spacing - one.get_center_of_mass())
        box += one
    return box


def start(
    folder: Path, arguments: argparse.Namespace, address: str
) -> tuple[subprocess.Popen[str], list[subprocess.Popen[str]]]:
    """The server and its clients, in a folder."""
    folder.mkdir()
    box = water_box()
    write(folder / "water.extxyz", box)
    size = " ".join(f"{value:.8f}" for value in box.cell.cellpar())
    lines = [f"{atom.symbol} {atom.x:.8f} {atom.y:.8f} {atom.z:.8f}" for atom in box]
    comment = f"# CELL(abcABC): {size} cell{{angstrom}} positions{{angstrom}}"
    (folder / "init.xyz").write_text("\n".join([str(len(box)), comment, *lines, ""]))
    text = INPUT.format(steps=arguments.steps, beads=arguments.beads, address=address)
    (folder / "input.xml").write_text(text)
    log = (folder / "i-pi.log").open("w")
    server = subprocess.Popen([arguments.ipi, "input.xml"], cwd=folder, stdout=log, stderr=log, text=True)
    call = [
        sys.executable,
        "-m",
        "atomml.cli.main",
        "serve",
        "water.extxyz",
        "--ipi",
        f"unix:{address}",
        "--quiet",
    ]
    call += ["--model", arguments.model, "--wait", "60", "--threads", "1"]
    clients = [
        subprocess.Popen([*call, "--out", f"client-{n}"], cwd=folder, stderr=subprocess.PIPE, text=True)
        for n in range(arguments.clients)
    ]
    return server, clients


def evaluations(folder: Path, clients: int) -> int:
    """Structures that all clients answered for."""
    summaries = [json.loads((folder / f"client-{n}" / "summary.json").read_text()) for n in range(clients)]
    return sum(summary["results"]["n_evaluations"] for summary in summaries)


def main() -> int:
    """Both runs; returns 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ipi", required=True)
    parser.add_argument("--model", default="chgnet-0.3.0")
    parser.add_argument("--beads", type=int, default=4)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    stamp = f"atomml-water-{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as top:
        whole, killed = Path(top, "whole"), Path(top, "killed")
        server, clients = start(whole, arguments, stamp)
        errors = [client.communicate()[1] for client in clients]
        if any(client.returncode for client in clients):
            server.kill()
        codes = [server.wait(), *(client.returncode for client in clients)]
        if any(codes):
            print((whole / "i-pi.log").read_text()[-2000:], *errors)
            return 1
        n = evaluations(whole, arguments.clients)
        table = np.loadtxt(whole / "water.out")
        drift = 1000 * float(np.ptp(table[:, 2])) / 24
        expected = (arguments.steps + 1) * arguments.beads
        print(f"exit codes {codes}; {n} evaluations of {expected}; conserved within {drift:.2f} meV/atom")
        print(f"mean quantum kinetic energy {1000 * table[:, 4].mean() / 24:.1f} meV/atom (38.8 classically)")
        server, clients = start(killed, arguments, f"{stamp}-killed")
        while (
            not (killed / "water.out").exists() or len((killed / "water.out").read_text().splitlines()) < 10
        ):
            time.sleep(0.2)
        server.send_signal(signal.SIGKILL)
        errors = [client.communicate()[1] for client in clients]
        server.wait()
        codes = [client.returncode for client in clients]
        print(f"server killed: exit codes of the clients {codes}: {errors[0]}")
        lost = all(client.returncode == 1 for client in clients) and errors[0].count("\n") == 1
        return 0 if lost and n == expected and drift < 5 else 1


if __name__ == "__main__":
    sys.exit(main())

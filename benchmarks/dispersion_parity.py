"""D3(BJ) of PBE as ``--dispersion`` adds it, against tad-dftd3, an implementation of its own in torch.

    python benchmarks/dispersion_parity.py [--peer-env FOLDER]

Molecules of ASE's g2 set (tad-dftd3 knows no crystals), energies and forces; then what the correction costs
beside CHGNet on crystals. The peer runs in an environment of its own, made by pip if it is not there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads
from peer import interpreter

NAMES = ("CH4", "C6H6", "CH3CH2OH", "C4H4S", "SiH4", "P2", "CH3SH", "C5H5N", "NaCl", "CCl4", "C2F4", "H2O")

PEER = """
import json, sys, torch, tad_dftd3 as d3
torch.set_default_dtype(torch.float64)
param = {k: torch.tensor(v) for k, v in dict(s6=1.0, s8=0.7875, s9=0.0, a1=0.4289, a2=4.4407).items()}
found = []
for one in json.load(sys.stdin):
    positions = torch.tensor(one["positions"], requires_grad=True)
    energy = d3.dftd3(torch.tensor(one["numbers"]), positions, param).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    found.append({"energy": float(energy), "gradient": gradient.tolist()})
json.dump(found, sys.stdout)
"""
"""In Bohr and Hartree; parameters of PBE: Grimme et al., J. Comput. Chem. 32, 1456 (2011)."""


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir(), "tad-dftd3-env"))
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("dftd3", "ase")
    from ase.build import molecule

    from atomml import load_model

    molecules = [molecule(name) for name in NAMES]
    theirs = peer(told.peer_env, molecules)
    energy, force = apart(molecules, theirs, load_model)
    print(f"\n{len(NAMES)} molecules: apart by {energy:.1e} eV and {force:.1e} eV/Å at most")
    cost(load_model)


def peer(folder: Path, molecules: list[Any]) -> list[dict[str, Any]]:
    """What tad-dftd3 says, Hartree and Bohr."""
    from ase.units import Bohr

    python = interpreter(folder, ["tad-dftd3==0.7.0"])
    given = [{"numbers": a.numbers.tolist(), "positions": (a.positions / Bohr).tolist()} for a in molecules]
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", PEER],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def apart(molecules: list[Any], theirs: list[dict[str, Any]], load_model: Any) -> tuple[float, float]:
    """Largest differences of energies, eV, and of force components, eV/Å."""
    import numpy as np
    from ase.units import Bohr, Hartree

    from atomml.graph import build_graph

    without, both = (load_model(f"chgnet-0.3.0{more}", "float64") for more in ("", "+d3bj:pbe"))
    energies, forces = [], []
    for atoms, other in zip(molecules, theirs, strict=True):
        graph = build_graph(atoms, without.info.cutoff, without.info.bond_cutoff)
        one, two = without.predict(graph), both.predict(graph)
        energies.append(abs(float(two.energy - one.energy) - other["energy"] * Hartree))
        wanted = -np.array(other["gradient"]) * Hartree / Bohr
        forces.append(np.abs((two.forces - one.forces).numpy() - wanted).max())
    return max(energies), max(forces)


def cost(load_model: Any) -> None:
    """Milliseconds of energy, forces and stress with and without, float32."""
    from crystals import named

    from atomml import AtomMLCalculator

    print("\n| | CHGNet, ms | with D3(BJ), ms |\n|---|---|---|")
    for name, atoms in named().items():
        spent = []
        for model in ("chgnet-0.3.0", "chgnet-0.3.0+d3bj:pbe"):
            calculator = AtomMLCalculator(load_model(model))
            times = []
            for seed in range(4):
                moved = atoms.copy()
                moved.rattle(0.01, seed=seed)
                start = time.perf_counter()
                calculator.calculate(moved, ["energy", "forces", "stress"])
                times.append(time.perf_counter() - start)
            spent.append(1e3 * min(times[1:]))
        print(f"| {name} | {spent[0]:.0f} | {spent[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()

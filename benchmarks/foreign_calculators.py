"""Other codes' own ASE calculators through ``--model ase:MODULE:CLASS``, each in an environment of its own.

    python benchmarks/foreign_calculators.py [--calculators sevennet mace]

SevenNet-0 with the weights that its package brings, and mace-torch with random weights of MACE-MP-0's small
shape (its published weights come in no package). Pip makes each environment and puts this suite into it.
Prints, for each command, what it ended with, and how far ``predict`` is from the calculator called directly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from machine import describe
from peer import interpreter

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("pymatgen", "spglib", "vesin", "lmdb", "numba", "safetensors", "rich", "pyyaml", "phonopy")
"""What the commands import beside torch and ase; nothing is resolved, since mace-torch pins another e3nn."""

PACKAGES = {
    "sevennet": ("sevenn==0.13.0", "torch>=2.10,<2.14", "phonopy>=4.10,<5"),
    "mace": ("mace-torch==0.3.16", "torch>=2.10,<2.14"),
}
CLASSES = {
    "sevennet": ("sevenn.calculator:SevenNetCalculator", {"model": "7net-0", "device": "cpu"}),
    "mace": ("mace.calculators:MACECalculator", {"device": "cpu", "default_dtype": "float64"}),
}
COMMANDS = (
    ("relax", "Si.cif", "--cell", "free"),
    ("elastic", "Si.cif"),
    ("eos", "NaCl.cif"),
    ("phonons", "Si.cif", "--min-length", "10"),
    ("md", "LiCoO2.cif", "--steps", "50", "--ensemble", "nvt-langevin"),
)
DIRECT = """
import importlib, json, sys
from ase.io import read
module, _, name = sys.argv[1].partition(":")
atoms = read(sys.argv[3])
atoms.calc = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
print("DIRECT", json.dumps([atoms.get_potential_energy() / len(atoms), atoms.get_forces().tolist()]))
"""
QUIET = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "2"}


def main() -> None:
    """Parse, try each calculator, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calculators", nargs="*", default=list(PACKAGES), choices=list(PACKAGES))
    parser.add_argument("--envs", type=Path, default=Path(tempfile.gettempdir()))
    told = parser.parse_args()
    describe()
    print("| calculator | command | exit code | result |")
    print("|---|---|---|---|")
    for name in told.calculators:
        python = environment(name, told.envs)
        with tempfile.TemporaryDirectory() as folder:
            attempt(name, python, Path(folder))


def environment(name: str, envs: Path) -> Path:
    """The interpreter of an environment that has the calculator and this suite."""
    python = interpreter(envs / f"{name}-env", PACKAGES[name])
    for packages in (("--no-deps", str(ROOT)), NEEDED):
        command = [str(python), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return python


def attempt(name: str, python: Path, folder: Path) -> None:
    """All commands with one calculator; a line of the table for each."""
    target, keywords = CLASSES[name]
    if name == "mace":
        keywords = keywords | {"model_paths": str(folder / "small.model")}
        make = f"import mace_peer; mace_peer.save('128x0e', {keywords['model_paths']!r})"
        run(python, ["-c", make], Path(__file__).parent)
    settings = [f"--set=calculator.{key}={value}" for key, value in keywords.items()]
    for command, structure, *options in COMMANDS:
        file = str(ROOT / "examples" / structure)
        told = ["-m", "atomml.cli.main", command, file, "--model", f"ase:{target}", *settings, *options]
        done = run(python, [*told, "--out", f"{command}-run", "--quiet"], folder)
        print(
            f"| {name} | {command} {structure} | {done.returncode} | {said(done, folder, command)} |",
            flush=True,
        )
    print(f"| {name} | predict LiCoO2.cif | {agreement(python, folder, target, keywords, settings)} |")


def run(python: Path, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of that environment."""
    return subprocess.run(
        [str(python), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **QUIET},
    )


def said(done: subprocess.CompletedProcess[str], folder: Path, command: str) -> str:
    """A few numbers of the summary, or the sentence on the error stream."""
    file = folder / f"{command}-run" / "summary.json"
    if not file.exists():
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "nothing was written"
    summary = json.loads(file.read_text(encoding="utf-8"))
    numbers = {k: v for k, v in summary["results"].items() if isinstance(v, float)}
    return ", ".join(f"{key} {value:.5g}" for key, value in list(numbers.items())[:3])


def agreement(python: Path, folder: Path, target: str, keywords: dict[str, str], settings: list[str]) -> str:
    """Exit code, and the distance of ``predict`` from the calculator called directly."""
    file = str(ROOT / "examples" / "LiCoO2.cif")
    told = ["-m", "atomml.cli.main", "predict", file, "--model", f"ase:{target}", *settings]
    done = run(python, [*told, "--out", "predict-run", "--quiet"], folder)
    direct = run(python, ["-c", DIRECT, target, json.dumps(keywords), file], folder)
    answer = next((x for x in direct.stdout.splitlines() if x.startswith("DIRECT ")), "")
    if done.returncode or not answer:
        return f"{done.returncode} | {(done.stderr or direct.stderr).strip().splitlines()[-1]}"
    energy, forces = json.loads(answer[len("DIRECT ") :])
    results = json.loads((folder / "predict-run" / "summary.json").read_text(encoding="utf-8"))["results"]
    apart = abs(results["energy_per_atom_eV"] - energy)
    largest = max(sum(x * x for x in force) ** 0.5 for force in forces)
    force = abs(results["max_force_eV_per_A"] - largest)
    return f"{done.returncode} | apart {apart:.1e} eV/atom, largest force {force:.1e} eV/Å"


if __name__ == "__main__":
    main()

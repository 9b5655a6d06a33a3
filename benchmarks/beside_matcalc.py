"""Four workflows on 20 crystals each with CHGNet 0.3.0, beside matcalc 0.7 with the chgnet package.

    python benchmarks/beside_matcalc.py ../shared/data --threads 2 --out rows.jsonl

Moduli (clamped ions), heat capacities at 300 K, formation energies, vacancies of elements. Both sides start
from the same structures with the same settings: strains, displacement, supercell length, references of
the elements, and tight criteria, so that what is left is the way to each minimum. matcalc runs in an
environment of its own (``--peer-env``, made by pip if it is not there). Wall and CPU seconds of every
structure are taken on either side after one that is not counted. Our rows are appended to ``--out`` as they
are done, and a run that is repeated goes on there; the peer's are kept beside them by kind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crystals_dft import FILES, STRAIN, append_row, choose, read_rows
from machine import describe, limit_threads
from peer import interpreter

PACKAGES = ("matcalc==0.7.0", "chgnet==0.4.2")
SETTINGS: dict[str, dict[str, Any]] = {
    # Ours are changes of the angle, matcalc's components of the strain tensor, half as large. One strain of
    # either sign: both then take the central difference, whatever curve each would fit to more.
    "moduli": {
        "strains": [-STRAIN, STRAIN],
        "shear_strains": [-STRAIN / 2, STRAIN / 2],
        "fmax": 0.0005,
    },
    "heat": {"displacement": 0.01, "temperature": 300.0, "fmax": 0.0001},
    "formation": {"fmax": 0.005},
    "vacancy": {"fmax": 0.005},
}
DTYPE = {"moduli": "float64", "heat": "float32", "formation": "float32", "vacancy": "float32"}
"""Of our model; the peer's is float32. Moduli are what the workflow gives by default."""

QUANTITIES = {
    "moduli": (("bulk_modulus", "GPa"), ("shear_modulus", "GPa")),
    "heat": (("heat_capacity", "J/K/mol of atoms"),),
    "formation": (("formation_energy", "eV/atom"),),
    "vacancy": (("vacancy_formation_energy", "eV"),),
}
METALS = "Cu Ni Al Ag Au Pd Rh Ir Pt Pb V Nb Ta Cr Mo W Fe Na Ti Mg"
"""Elements of the vacancies: close-packed and body-centred metals, whose supercells leave no choice."""


def main() -> None:
    """Parse, compute what is missing, print the tables and the total."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder with crystals/")
    parser.add_argument("--kinds", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--count", type=int, default=20, help="structures of each kind")
    parser.add_argument("--min-length", type=float, default=10.0, help="of supercells of phonons, Å")
    parser.add_argument("--vacancy-length", type=float, default=8.0, help="of supercells of vacancies, Å")
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir(), "matcalc-env"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("beside-matcalc.jsonl"))
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("ase", "phonopy", "pymatgen")
    SETTINGS["heat"]["min_length"] = told.min_length
    SETTINGS["vacancy"]["min_length"] = told.vacancy_length
    python = interpreter(told.peer_env, [f"torch=={version('torch').partition('+')[0]}", *PACKAGES])
    totals = []
    for kind in told.kinds:
        chosen = structures(kind, told)
        ours = our_rows(kind, chosen, told)
        theirs = peer_rows(python, kind, chosen, ours, told)
        totals.append(table(kind, chosen, ours, theirs))
    names = ("matcalc wall", "atomml wall", "matcalc CPU", "atomml CPU")
    sums = dict(zip(names, map(sum, zip(*totals, strict=True)), strict=True))
    print("\nall: " + ", ".join(f"{name} {value:.0f} s" for name, value in sums.items()))
    print(f"ratios: wall {_ratio(sums, 'wall')}, CPU {_ratio(sums, 'CPU')}")


def _ratio(sums: dict[str, float], kind: str) -> str:
    return f"{sums[f'matcalc {kind}'] / sums[f'atomml {kind}']:.1f}"


def structures(kind: str, told: argparse.Namespace) -> list[Any]:
    """What both sides are given; ``info["id"]`` names each."""
    if kind in FILES:
        return choose(told.data / "crystals" / FILES[kind], told.count, 0)
    if kind == "vacancy":
        from atomml.data.elements import element_structure

        found = [element_structure(symbol).atoms(primitive=False) for symbol in METALS.split()[: told.count]]
        for atoms in found:
            atoms.info["id"] = atoms.info["formula"] = str(atoms.symbols[0])
        return found
    from atomml import load_model
    from atomml.data.elements import element_structure

    covered = set(load_model("chgnet-0.3.0").info.elements)
    found = []
    for atoms in choose(told.data / "crystals" / "wbm_equilibrium.extxyz.gz", 500, 0):
        solid = not any(element_structure(symbol).molecule for symbol in set(atoms.symbols))
        if covered.issuperset(atoms.numbers.tolist()) and solid:
            name = str(atoms.get_chemical_formula())
            atoms.info |= {"id": f"{name}-{len(found)}", "formula": name}
            found.append(atoms)
    return found[: told.count]


def our_rows(kind: str, chosen: Sequence[Any], told: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """A row for each structure, by its name; those of an earlier run come from the file."""
    from atomml import load_model

    key = {"kind": kind, "dtype": DTYPE[kind], "threads": told.threads, "settings": SETTINGS[kind]}
    known = {row["id"]: row for row in read_rows(told.out) if all(row.get(k) == v for k, v in key.items())}
    missing = [atoms for atoms in chosen if atoms.info["id"] not in known]
    if missing:
        compute = COMPUTE[kind]
        model = load_model("chgnet-0.3.0", dtype=DTYPE[kind], device="cpu")
        compute(chosen[0], model)  # not counted: the first call compiles or loads the kernels
        for atoms in missing:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                row = compute(atoms, model)
            except Exception as error:  # one that fails is a row, and the rest goes on
                row = {"error": f"{type(error).__name__}: {error}"}
            row |= {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            if "relaxed" in row:  # outside the time
                row |= _same_strains(atoms, row["relaxed"], model)
            known[atoms.info["id"]] = key | {"id": atoms.info["id"], **row}
            append_row(told.out, known[atoms.info["id"]])
    return known


def our_moduli(atoms: Any, model: Any) -> dict[str, Any]:
    """Hill's averages in GPa, and the relaxed cell."""
    from atomml.workflows import elastic

    fmax = SETTINGS["moduli"]["fmax"]
    found = elastic(atoms, model, strain=STRAIN, ions="clamped", points=2, fmax=fmax)
    relaxed = {"cell": found.atoms.cell.tolist(), "positions": found.atoms.positions.tolist()}
    return {
        "bulk_modulus": found.bulk_modulus,
        "shear_modulus": found.shear_modulus,
        "relaxed": relaxed,
    }


def _same_strains(atoms: Any, relaxed: dict[str, Any], model: Any) -> dict[str, float]:
    """The moduli of a relaxed cell by all six strains, as matcalc strains it."""
    from ase import Atoms

    from atomml.workflows import elastic

    cell = Atoms(atoms.numbers, relaxed["positions"], cell=relaxed["cell"], pbc=True)
    more: dict[str, Any] = {"strain": STRAIN, "ions": "clamped", "points": 2}
    found = elastic(cell, model, start="given", symmetry=False, **more)
    return {"same_bulk_modulus": found.bulk_modulus, "same_shear_modulus": found.shear_modulus}


def our_heat(atoms: Any, model: Any) -> dict[str, Any]:
    """J/K per mole of atoms at 300 K."""
    from atomml.workflows import phonons

    settings = SETTINGS["heat"]
    found = phonons(atoms, model, min_length=settings["min_length"], temperature=300.0, fmax=settings["fmax"])
    return {"heat_capacity": found.heat_capacity}


def our_formation(atoms: Any, model: Any) -> dict[str, Any]:
    """From the elements, relaxed anew for each crystal on either side, eV/atom."""
    from atomml.workflows import formation

    found = formation(atoms, model, fmax=SETTINGS["formation"]["fmax"])
    return {"formation_energy": found.formation_energy_per_atom}


def our_vacancy(atoms: Any, model: Any) -> dict[str, Any]:
    """Relaxed, eV, with the own bulk as the reference."""
    from atomml.workflows import vacancy

    settings = SETTINGS["vacancy"]
    found = vacancy(atoms, model, min_length=settings["min_length"], fmax=settings["fmax"])
    return {"vacancy_formation_energy": found.vacancy_formation_energy, "atoms": found.n_atoms}


COMPUTE: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "moduli": our_moduli,
    "heat": our_heat,
    "formation": our_formation,
    "vacancy": our_vacancy,
}


def peer_rows(
    python: Path, kind: str, chosen: Sequence[Any], ours: dict[str, Any], told: argparse.Namespace
) -> dict[str, Any]:
    """What ``matcalc_peer.py`` finds, in its own interpreter; kept, so that a repetition costs nothing."""
    given = {
        "settings": SETTINGS[kind] | {"references": references(chosen) if kind == "formation" else {}},
        "structures": [
            {"id": str(atoms.info["id"]), **plain(atoms), "relaxed": ours[atoms.info["id"]].get("relaxed")}
            for atoms in chosen
        ],
    }
    mark = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]
    kept = told.out.with_suffix(f".{kind}.{told.threads}.{mark}.matcalc.json")
    if not kept.exists():
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": str(told.threads), "MKL_NUM_THREADS": str(told.threads)}
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "in.json")
            source.write_text(json.dumps(given), encoding="utf-8")
            script = Path(__file__).with_name("matcalc_peer.py")
            command = [str(python), str(script), kind, str(source), str(kept.resolve())]
            subprocess.run(command, check=True, env=environment, cwd=folder)
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def plain(atoms: Any) -> dict[str, Any]:
    """A structure as JSON can hold it."""
    return {
        "cell": atoms.cell.tolist(),
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
    }


def references(chosen: Sequence[Any]) -> dict[str, Any]:
    """Our structures of the elements, for the peer to relax."""
    from atomml.data.elements import element_structure

    symbols = sorted({symbol for atoms in chosen for symbol in atoms.symbols})
    return {symbol: plain(element_structure(symbol).atoms()) for symbol in symbols}


def table(kind: str, chosen: Sequence[Any], ours: dict[str, Any], found: dict[str, Any]) -> list[float]:
    """How far apart, structure by structure and as a whole; wall and CPU seconds, the peer's first."""
    import numpy as np

    print(f"\n{kind}, {SETTINGS[kind]}: " + ", ".join(f"{n} {v}" for n, v in found["versions"].items()))
    theirs = {row["id"]: row for row in found["rows"]}
    both = []
    for atoms in chosen:
        mine, other = ours[atoms.info["id"]], theirs[str(atoms.info["id"])]
        for side, row in (("atomml", mine), ("matcalc", other)):
            if "error" in row:
                print(f"  {side} failed: {atoms.info['formula']}: {row['error'][:160]}")
        if "error" not in mine and "error" not in other:
            both.append((atoms.info["formula"], mine, other))
    print("\n| | structures | median difference | largest | where |\n|---|---|---|---|---|")
    for name, unit in QUANTITIES[kind]:
        for prefix, label in (("", name), ("same_", f"{name} from one cell, by the same six strains")):
            key = prefix + name
            pairs = [(where, abs(mine[key] - other[key])) for where, mine, other in both if key in other]
            if pairs:
                worst, largest = max(pairs, key=lambda pair: pair[1])
                cells = f"{len(pairs)} | {np.median([off for _, off in pairs]):.3g} | {largest:.3g} | {worst}"
                print(f"| {label}, {unit} | {cells} |")
    for where, a, b in both:
        numbers = ", ".join(f"{name} {a[name]:.5g} | {b[name]:.5g}" for name, _ in QUANTITIES[kind])
        print(f"  {where}: {numbers}, CPU {a['cpu']:.1f} | {b['cpu']:.1f} s")
    sums = [sum(pair[side][what] for pair in both) for what in ("seconds", "cpu") for side in (2, 1)]
    print(
        f"{kind}: wall {sums[0]:.1f} and {sums[1]:.1f} s, ratio {sums[0] / sums[1]:.1f}; "
        f"CPU {sums[2]:.1f} and {sums[3]:.1f} s, ratio {sums[2] / sums[3]:.1f}"
    )
    return sums


if __name__ == "__main__":
    main()

"""Grad DFT's study at our scale: trained on experimental dimers, tested on others and on two curves.

Reads ``../shared/data/dissociation``. Its traps, taken care of here: the column called D0 holds CRC's bond
strengths at 298 K (436.0 kJ/mol for H2), so 3/2 RT is taken off; the zero-point energy stands apart and
is added; every hydrogen atom's -0.5 Eh is in the number; multiplicities are 2S + 1. The curves: H2
and H2+. Self-consistent throughout, closed shells restricted.

    python benchmarks/functional_dimers.py --epochs 30 --seeds 3 --options '{"start": "r2scan"}'
    python benchmarks/functional_dimers.py --picture docs/images/functional-curves.png --functionals pbe b3lyp
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "dissociation"
LIGHT = ("H", "Li", "Be", "B", "C", "N", "O", "F")
SPINS = {"H": 1, "Li": 1, "Be": 0, "B": 1, "C": 2, "N": 3, "O": 2, "F": 1}
TESTED = {("O", "C"), ("F", "H"), ("O", "H"), ("F", "Be"), ("F", "C"), ("H", "B")}
"""Held out; no bond between these elements is trained on."""
THERMAL = 1.5 * 298.15 * 3.1668115634556e-6
"""3/2 RT in Hartree."""


def main() -> None:
    """Parse; the picture, or training and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("functional-dimers"))
    parser.add_argument("--basis", default="cc-pvdz")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
    parser.add_argument("--functionals", nargs="*", default=["pbe", "b3lyp", "r2scan"])
    parser.add_argument("--picture", type=Path)
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    if told.picture:
        draw(told)
        return
    told.folder.mkdir(parents=True, exist_ok=True)
    files = {"train": dimers(told, False), "other dimers": dimers(told, True)}
    files |= {name: curve(told, name) for name in ("H2", "H2plus")}
    from atomml.workflows.electronic.functional_training import train_functional

    shared = {"basis": told.basis, "grid": 2}
    print(f"\n{told.basis}, mean absolute errors in kcal/mol (share of species that converge):\n")
    print(f"| functional | {' | '.join(files)} |\n|---|{'---|' * len(files)}")
    for name in told.functionals:
        print(row(name, name, files, shared), flush=True)
    for seed in range(told.seeds):
        out = told.folder / f"seed{seed}"
        how: dict[str, Any] = {"epochs": told.epochs, "seed": seed, **shared, **told.options}
        trained = train_functional(files["train"], out=out, resume=out.exists(), **how)
        print(row(f"learned, seed {seed}", trained.functional, files, shared), flush=True)


def row(title: str, functional: str, files: dict[str, Path], shared: dict[str, Any]) -> str:
    """A line of the table."""
    from atomml.workflows.electronic.functional_evaluation import evaluate_functional

    found = [evaluate_functional(functional, file, **shared) for file in files.values()]
    cells = [f"{one.mae:.2f} ({one.converged_share:.0%})" for one in found]
    return f"| {title} | {' | '.join(cells)} |"


def dimers(told: argparse.Namespace, tested: bool) -> Path:
    """The file of dimers that are trained on, or of those that are tested."""
    with (DATA / "dimers_experiment.csv").open(newline="", encoding="utf-8") as stream:
        rows = [
            one for one in csv.reader(stream) if one[0] in LIGHT and one[1] in LIGHT and one[2] and one[8]
        ]
    species, reactions = {}, []
    for a, b, energy, distance, multiplicity, _, source, _, zero_point in rows:
        if ((a, b) in TESTED) != tested:
            continue
        thermal = THERMAL if "CRC" in source else 0.0
        bound = float(energy) + 0.5 * (a, b).count("H") + thermal
        reactions.append(
            entry(species, f"{a}{b}", (a, b), float(distance), 0, int(float(multiplicity)) - 1, bound)
            | {"zero_point": float(zero_point)}
        )
    name = "dimers-test.yaml" if tested else "dimers-train.yaml"
    return written(told.folder / name, species, reactions, "D0")


def curve(told: argparse.Namespace, name: str) -> Path:
    """The file of a curve of H2 or H2+, from 0.5 to 3 Å, against its own free atoms."""
    charge = int(name == "H2plus")
    species, reactions = {}, []
    for distance, energy in points(name, told.basis):
        atoms = -0.499278403419583 if told.basis == "cc-pvdz" else -0.5  # of the hydrogen atom in the basis
        bound = energy - atoms * (1 if charge else 2)
        key = f"{name} {distance:g}"
        reactions.append(entry(species, key, ("H", "H"), distance, charge, charge, bound))
    return written(told.folder / f"{name}-{told.basis}.yaml", species, reactions, "De")


def points(name: str, basis: str) -> list[tuple[float, float]]:
    """Distance in Å and total energy in Hartree."""
    with (DATA / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    column = next(key for key in rows[0] if key.lower() == basis)
    found = [(float(one["distance_angstrom"]), float(one[column])) for one in rows]
    return [pair for pair in found if 0.5 <= pair[0] <= 3.0]


def entry(
    species: dict[str, Any],
    key: str,
    pair: tuple[str, str],
    distance: float,
    charge: int,
    spin: int,
    energy: float,
) -> dict[str, Any]:
    """A reaction from free atoms; the species that it needs are added. A proton has no energy."""
    places = [[pair[0], 0.0, 0.0, 0.0], [pair[1], 0.0, 0.0, distance]]
    species[key] = {"atoms": places, "charge": charge, "spin": spin}
    parts: dict[str, float] = {key: 1.0}
    for symbol in pair[: 2 - charge]:
        species[f"{symbol} atom"] = {"atoms": [[symbol, 0.0, 0.0, 0.0]], "spin": SPINS[symbol]}
        parts[f"{symbol} atom"] = parts.get(f"{symbol} atom", 0.0) - 1.0
    return {"name": key, "species": parts, "energy": energy}


def written(path: Path, species: dict[str, Any], reactions: list[dict[str, Any]], bound: str) -> Path:
    """The file."""
    import yaml

    tree = {"unit": "Eh", "bound": bound, "species": species, "reactions": reactions}
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def draw(told: argparse.Namespace) -> None:
    """H2's curve by some functionals, restricted, beside full interaction; kcal/mol from free atoms."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from ase import Atoms

    from atomml.electronic.mean_field import MeanFieldLevel, quiet
    from atomml.electronic.scf_settings import ScfSettings
    from atomml.potentials.xc.files import load_functional

    known = points("H2", told.basis)[::2]
    distances = [d for d, _ in known]
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    atom = 2 * 0.499278403419583
    axes.plot(distances, [627.5095 * (e + atom) for _, e in known], "k-", lw=2, label="full interaction")
    for name in told.functionals:
        level = MeanFieldLevel(load_functional(name), told.basis, ScfSettings(grid=2))
        values = []
        hydrogen = Atoms("H", info={"charge": 0, "spin": 1})
        with quiet():
            zero = 2 * level.converge(level.mean_field(hydrogen))[0].e_tot
            for distance in distances:
                atoms = Atoms("H2", [[0, 0, 0], [0, 0, distance]], info={"charge": 0, "spin": 0})
                values.append(627.5095 * (level.converge(level.mean_field(atoms))[0].e_tot - zero))
        axes.plot(distances, values, "o-", ms=3, lw=1, label=Path(name).stem)
    axes.axhline(0, color="0.7", lw=0.8)
    axes.set(
        xlabel="distance, Å", ylabel="kcal/mol above two free atoms", title=f"H2, {told.basis}, restricted"
    )
    axes.legend(frameon=False)
    figure.tight_layout()
    told.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(told.picture, dpi=110)


if __name__ == "__main__":
    main()

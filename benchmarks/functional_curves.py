"""A functional trained on dissociation curves made here, tested on geometries and molecules it never saw.

References by PySCF in the basis of the training: FCI of two and four electrons, CCSD(T) elsewhere (N2 up to
1.5 times its bond length). Energies are restricted and self-consistent; zero is the free atoms, which keep
their spins. Writes the reaction files and everything else into ``--folder``.

    python benchmarks/functional_curves.py --epochs 40 --seeds 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

CURVES = {
    "H2": (("H", "H"), 0, 0, (0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)),
    "H2+": (("H", "H"), 1, 1, (0.7, 0.9, 1.1, 1.4, 1.8, 2.2, 2.6, 3.0)),
    "LiH": (("Li", "H"), 0, 0, (1.2, 1.4, 1.6, 1.8, 2.1, 2.5, 3.0)),
    "N2": (("N", "N"), 0, 0, (0.95, 1.05, 1.1, 1.2, 1.35, 1.5, 1.65)),
}
UNSEEN = {"BH": (("B", "H"), 0, 0, (1.0, 1.23, 1.5, 1.9)), "HF": (("H", "F"), 0, 0, (0.8, 0.92, 1.1, 1.4))}
ATOMS = {"H": 1, "Li": 1, "N": 3, "B": 1, "F": 1}


def main() -> None:
    """Parse, make the references, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("functional-curves"))
    parser.add_argument("--basis", default="cc-pvdz")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    told.folder.mkdir(parents=True, exist_ok=True)
    files = written(told)
    from atomml.workflows.electronic.functional_evaluation import evaluate_functional
    from atomml.workflows.electronic.functional_training import train_functional

    shared = {"basis": told.basis, "grid": 2}
    print(f"\n{told.basis}, mean absolute errors in kcal/mol (share of species that converge):\n")
    print("| functional | trained curves | held-out geometries | unseen molecules |\n|---|---|---|---|")
    for name in ("pbe", "b3lyp", "r2scan"):
        print(row(name, [evaluate_functional(name, file, **shared) for file in files.values()]), flush=True)
    for seed in range(told.seeds):
        out = told.folder / f"seed{seed}"
        trained = train_functional(
            files["train"],
            files["held-out"],
            out=out,
            resume=out.exists(),
            epochs=told.epochs,
            seed=seed,
            **shared,
            **told.options,
        )
        found = [evaluate_functional(trained.functional, file, **shared) for file in files.values()]
        print(row(f"learned, seed {seed}", found), flush=True)


def row(name: str, found: list[Any]) -> str:
    """A line of the table."""
    cells = [f"{one.mae:.2f} ({one.converged_share:.0%})" for one in found]
    return f"| {name} | {' | '.join(cells)} |"


def written(told: argparse.Namespace) -> dict[str, Path]:
    """Files of reactions: every second geometry of the curves, the others, and other molecules."""
    import yaml

    files = {}
    for what in ("train", "held-out", "unseen"):
        file = told.folder / f"{what}-{told.basis}.yaml"
        files[what] = file
        if file.exists():
            continue
        species: dict[str, Any] = {}
        reactions = []
        for name, (pair, charge, spin, distances) in (UNSEEN if what == "unseen" else CURVES).items():
            for number, distance in enumerate(distances):
                if what != "unseen" and (number % 2 == 1) != (what == "held-out"):
                    continue
                key = f"{name} {distance:g}"
                atoms = [[pair[0], 0.0, 0.0, 0.0], [pair[1], 0.0, 0.0, float(distance)]]
                species[key] = {"atoms": atoms, "charge": charge, "spin": spin}
                coefficients = {key: 1.0}
                energy = reference(species[key], told.basis)
                for number_of, symbol in enumerate(pair):
                    if charge and number_of == 1:
                        continue  # a proton has no energy
                    atom = {"atoms": [[symbol, 0.0, 0.0, 0.0]], "charge": 0, "spin": ATOMS[symbol]}
                    species[f"atom {symbol}"] = atom
                    coefficients[f"atom {symbol}"] = coefficients.get(f"atom {symbol}", 0.0) - 1.0
                    energy -= reference(atom, told.basis)
                reactions.append({"name": key, "species": coefficients, "energy": float(energy)})
        tree = {"unit": "Eh", "species": species, "reactions": reactions}
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return files


def reference(species: dict[str, Any], basis: str) -> float:
    """Hartree: FCI of up to four electrons, else CCSD(T), all electrons correlated."""
    from pyscf import cc, fci, gto, scf

    atoms = [(row[0], row[1:]) for row in species["atoms"]]
    molecule = gto.M(atom=atoms, basis=basis, charge=species["charge"], spin=species["spin"], verbose=0)
    field = (scf.ROHF if species["spin"] else scf.RHF)(molecule).run(conv_tol=1e-12)
    if molecule.nelectron == 1:
        return float(field.e_tot)
    if molecule.nelectron <= 4 and molecule.nao <= 24:
        return float(fci.FCI(field).kernel()[0])
    correlated = cc.CCSD(field).run(conv_tol=1e-9, max_cycle=200)
    return float(correlated.e_tot + correlated.ccsd_t())


if __name__ == "__main__":
    main()

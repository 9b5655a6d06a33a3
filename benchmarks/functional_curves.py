"""A functional trained on dissociation curves made here, tested on geometries and molecules it never saw.

References by PySCF in the basis of the training: FCI of two and four electrons, CCSD(T) elsewhere (N2 up to
1.5 times its bond length). Energies are restricted and self-consistent; zero is the free atoms, which keep
their spins. No test chooses anything: the weights of least training error are judged. Writes the
reaction files, the trainings and every error into ``--folder``.

    python benchmarks/functional_curves.py --epochs 40 --seeds 3
    python benchmarks/functional_curves.py --epochs 12 --options '{"start": "r2scan"}' --picture learned.svg
"""

from __future__ import annotations

import argparse
import json
import time
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
MOLECULES = {
    "H2O": (("O", 0, 0, 0.119), ("H", 0, 0.763, -0.477), ("H", 0, -0.763, -0.477)),
    "NH3": (
        ("N", 0, 0, 0.116),
        *[
            ("H", 0.940 * c, 0.940 * s, -0.272)
            for c, s in ((1.0, 0.0), (-0.5, 0.8660254), (-0.5, -0.8660254))
        ],
    ),
    "CH4": (("C", 0, 0, 0), *[("H", 0.629 * a, 0.629 * b, 0.629 * a * b) for a in (1, -1) for b in (1, -1)]),
}
"""Trained on beside the curves, each near its equilibrium, Å."""
UNSEEN_MOLECULES = {
    "BF": (("B", 0, 0, 0), ("F", 0, 0, 1.263)),
    "F2": (("F", 0, 0, 0), ("F", 0, 0, 1.412)),
    "BeH2": (("Be", 0, 0, 0), ("H", 0, 0, 1.326), ("H", 0, 0, -1.326)),
    "BH3": (
        ("B", 0, 0, 0),
        *[("H", 1.19 * c, 1.19 * s, 0) for c, s in ((1.0, 0.0), (-0.5, 0.8660254), (-0.5, -0.8660254))],
    ),
}
"""Elements and bonds that no training holds."""
ATOMS = {"H": 1, "Li": 1, "Be": 0, "B": 1, "C": 2, "N": 3, "O": 2, "F": 1}
SETS = ("train", "held-out", "unseen", "unseen-molecules")


def main() -> None:
    """Parse, make the references, train, print the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("functional-curves"))
    parser.add_argument("--basis", default="cc-pvdz")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
    parser.add_argument("--picture", type=Path, help="draw the curves, the first seed's among them")
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    told.folder.mkdir(parents=True, exist_ok=True)
    files = written(told)
    from atomml.workflows.electronic.functional_training import train_functional

    shared = {"basis": told.basis, "grid": 2}
    print(f"\n{told.basis}, mean absolute errors in kcal/mol (share of species that converge):\n")
    print(f"| functional | {' | '.join(SETS)} | CPU minutes |\n|---|{'---|' * (len(SETS) + 1)}")
    start = told.options.get("start", "pbe")
    for seed in range(told.seeds):
        out = told.folder / f"{start}-seed{seed}"
        how = {"resume": out.exists(), "epochs": told.epochs, "seed": seed, **shared, **told.options}
        began = time.process_time()
        trained = train_functional(files["train"], out=out, **how)
        spent = (time.process_time() - began) / 60
        title = f"from {start}, seed {seed}"
        print(row(title, judged(title, trained.functional, files, told), spent), flush=True)
    for name in ("pbe", "b3lyp", "r2scan"):
        print(row(name, judged(name, name, files, told), None), flush=True)
    if told.picture:
        drawn = {"PBE": "pbe", "B3LYP": "b3lyp", "r2SCAN": "r2scan", "learned": f"from {start}, seed 0"}
        draw(told, drawn)


def judged(title: str, functional: str, files: dict[str, Path], told: argparse.Namespace) -> dict[str, Any]:
    """Errors on every set, which are written down by title; what is written down is not computed again."""
    from atomml.workflows.electronic.functional_evaluation import evaluate_functional

    known = told.folder / f"{title.replace(', ', '-').replace(' ', '-')}-{told.basis}.json"
    if known.exists():
        return dict(json.loads(known.read_text()))
    found = {}
    for what, file in files.items():
        one = evaluate_functional(functional, file, basis=told.basis, grid=2)
        found[what] = {"mae": one.mae, "share": one.converged_share, "rows": one.rows}
    known.write_text(json.dumps(found))
    return found


def row(name: str, found: dict[str, Any], minutes: float | None) -> str:
    """A line of the table."""
    cells = [f"{one['mae']:.2f} ({one['share']:.0%})" for one in found.values()]
    return f"| {name} | {' | '.join(cells)} | {'' if minutes is None else f'{minutes:.1f}'} |"


def draw(told: argparse.Namespace, functionals: dict[str, str]) -> None:
    """The four curves by the reference and the functionals; open circles were not trained on."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(8, 6.2))
    for axes, name in zip(panels.flat, CURVES, strict=True):
        for label, title in functionals.items():
            known = judged(title, "", {}, told)
            points = sorted(
                (float(one["reaction"].split()[1]), one["reference_kcal_per_mol"], one["error_kcal_per_mol"])
                for what in ("train", "held-out")
                for one in known[what]["rows"]
                if one["reaction"].startswith(f"{name} ")
            )
            distances = [point[0] for point in points]
            if label == "PBE":
                axes.plot(distances, [point[1] for point in points], "k-", lw=2.2, label="FCI or CCSD(T)")
            line = axes.plot(distances, [a + b for _, a, b in points], lw=1.2, label=label)[0]
            tested = [(d, a + b) for d, a, b in points if CURVES[name][3].index(d) % 2]
            if label == "learned":
                line.set_linewidth(2.0)
                axes.plot(*zip(*tested, strict=True), "o", ms=4, mfc="white", color=line.get_color())
        axes.axhline(0, color="0.8", lw=0.8, zorder=0)
        axes.set_title(name)
    for axes in panels[1]:
        axes.set_xlabel("distance, Å")
    for axes in panels[:, 0]:
        axes.set_ylabel("kcal/mol above free atoms")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    told.picture.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(
            told.picture, dpi=80, metadata={"Date": None} if told.picture.suffix == ".svg" else None
        )


def written(told: argparse.Namespace) -> dict[str, Path]:
    """Files of reactions: every second geometry of the curves and some molecules, the others, and others."""
    import yaml

    files = {}
    for what in SETS:
        file = told.folder / f"{what}-{told.basis}.yaml"
        files[what] = file
        if file.exists():
            continue
        species: dict[str, Any] = {}
        reactions = []
        for key, places, charge, spin in geometries(what):
            species[key] = {"atoms": [list(place) for place in places], "charge": charge, "spin": spin}
            coefficients = {key: 1.0}
            energy = reference(species[key], told.basis)
            symbols = [place[0] for place in places]
            for symbol in symbols[: len(symbols) - charge]:  # a proton has no energy
                atom = {"atoms": [[symbol, 0.0, 0.0, 0.0]], "charge": 0, "spin": ATOMS[symbol]}
                species[f"atom {symbol}"] = atom
                coefficients[f"atom {symbol}"] = coefficients.get(f"atom {symbol}", 0.0) - 1.0
                energy -= reference(atom, told.basis)
            reactions.append({"name": key, "species": coefficients, "energy": float(energy)})
        tree = {"unit": "Eh", "species": species, "reactions": reactions}
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return files


def geometries(what: str) -> list[tuple[str, Any, int, int]]:
    """Name, atoms with places, charge and spin of what belongs to a set."""
    if what == "unseen-molecules":
        return [(name, places, 0, 0) for name, places in UNSEEN_MOLECULES.items()]
    found: list[tuple[str, Any, int, int]] = []
    for name, (pair, charge, spin, distances) in (UNSEEN if what == "unseen" else CURVES).items():
        for number, distance in enumerate(distances):
            if what != "unseen" and (number % 2 == 1) != (what == "held-out"):
                continue
            places = ((pair[0], 0.0, 0.0, 0.0), (pair[1], 0.0, 0.0, float(distance)))
            found.append((f"{name} {distance:g}", places, charge, spin))
    if what == "train":
        found += [(name, places, 0, 0) for name, places in MOLECULES.items()]
    return found


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

"""What a Hamiltonian predictor learns here: water, ethanol, malonaldehyde, or many small molecules.

Makes geometries by GFN2-xTB dynamics at 300 K (extra gfn2), labels them by PySCF (PBE/def2-SVP), trains, and
prints errors beside the prior's and the nearest training geometry's, then SCF cycles and Fock builds from
predictions and from PySCF's guess. Each stage is kept in ``--folder`` and resumed. ``molecules`` is tested on
molecules that it never saw, whose rings are none of the training's; ``--more`` adds others with one geometry.

    python benchmarks/hamiltonian_learning.py water --train 500 --max-time 2h
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hamiltonian_molecules import TEST, TRAIN, grown
from machine import describe, limit_threads

SMILES = {"water": "O", "ethanol": "CCO", "malonaldehyde": "OC=CC=O"}
LEVEL = "pbe/def2-svp"


def main() -> None:
    """Parse, and go through the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=(*SMILES, "molecules"))
    parser.add_argument("--train", type=int, default=500, help="training geometries; of molecules, of each")
    parser.add_argument("--test", type=int, default=200, help="test geometries; of molecules, of each")
    parser.add_argument(
        "--more", type=int, default=0, help="further molecules to train on, one geometry each"
    )
    parser.add_argument("--max-time", default="1h", help="of the training")
    parser.add_argument("--model", type=json.loads, default={}, help="hyperparameters as JSON")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the training as JSON")
    parser.add_argument("--scf", type=int, default=20, help="molecules to converge from predictions")
    parser.add_argument("--folder", type=Path, default=Path("hamiltonian-learning"))
    parser.add_argument("--workers", type=int, default=2, help="processes that label")
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="", help="of the training's folder, where options differ")
    parser.add_argument("--stage", choices=("label", "all"), default="all")
    told = parser.parse_args()
    limit_threads(told.threads)
    warnings.simplefilter("ignore")
    told.folder.mkdir(parents=True, exist_ok=True)
    sets = labelled(told)
    if told.stage == "label":
        return
    describe()
    report(told, sets)


def labelled(told: argparse.Namespace) -> dict[str, Path]:
    """Stores for training, validation and test; made where they are missing."""
    from atomml.workflows import label_data

    sets = {}
    for part in ("train", "valid", "test"):
        store = told.folder / f"{told.what}-{part}-{told.train}-{told.test}.lmdb"
        if told.more and part == "train":
            store = store.with_stem(f"{store.stem}-{told.more}-more")
        sets[part] = store
        if store.exists():
            continue
        frames = geometries(told, part)
        label_data(
            frames,
            to=store,
            out=told.folder / f"label-{store.stem}",
            resume=(told.folder / f"label-{store.stem}").exists(),
            method=LEVEL,
            hamiltonian=True,
            workers=told.workers,
            on_error="skip",
        )
    return sets


def geometries(told: argparse.Namespace, part: str) -> list[Any]:
    """Frames of one dynamics for each molecule; the parts of one molecule follow each other in time."""
    from ase.calculators.calculator import CalculationFailed

    n_valid = max(told.train // 5, 1)
    if told.what != "molecules":
        frames = dynamics(SMILES[told.what], told.train + n_valid + told.test, told.seed)
        order = shuffled(len(frames), told.seed)
        bounds = {"train": (0, told.train), "valid": (told.train, told.train + n_valid)}
        begin, end = bounds.get(part, (told.train + n_valid, len(frames)))
        return [frames[i] for i in order[begin:end]]
    if part == "test":
        return [frame for smiles in TEST for frame in dynamics(smiles, told.test, told.seed)]
    found = []
    for smiles in TRAIN:
        frames = dynamics(smiles, told.train + 1, told.seed)
        found += frames[:-1] if part == "train" else frames[-1:]
    if part == "train":
        for smiles in grown(told.more, heavy=5):
            with suppress(CalculationFailed):
                found += dynamics(smiles, 1, told.seed, 400)
    return found


def shuffled(n: int, seed: int) -> Sequence[int]:
    """Numbers below ``n`` in a random order."""
    import numpy as np

    return [int(i) for i in np.random.default_rng(seed).permutation(n)]


def dynamics(smiles: str, n: int, seed: int, warm: int = 1000) -> list[Any]:
    """``n`` frames, 20 fs apart, of Langevin dynamics by GFN2-xTB at 300 K; none where RDKit gives up."""
    import numpy as np
    from ase import Atoms, units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import thermalize_momenta
    from rdkit import Chem
    from rdkit.Chem import AllChem
    from tblite.ase import TBLite

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=seed + 1) != 0:
        return []
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    atoms = Atoms(symbols, molecule.GetConformer().GetPositions())
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    random = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=300, rng=random)
    run = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.02 / units.fs, rng=random)
    run.run(warm)
    frames = []
    for _ in range(n):
        run.run(40)
        frame = Atoms(symbols, atoms.positions - atoms.get_center_of_mass())
        frame.info["smiles"] = smiles
        frames.append(frame)
    return frames


def report(told: argparse.Namespace, sets: dict[str, Path]) -> None:
    """Train, evaluate and converge; print the tables."""
    from atomml.data.dataset import open_dataset
    from atomml.workflows.electronic.hamiltonian_evaluation import evaluate_hamiltonian
    from atomml.workflows.electronic.hamiltonian_scf import scf_hamiltonian
    from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian

    more = f"-{told.more}-more" if told.more else ""
    out = told.folder / f"{told.what}-{told.train}{more}-{told.name}seed{told.seed}"
    trained = train_hamiltonian(
        str(sets["train"]),
        str(sets["valid"]),
        test=str(sets["test"]),
        model={"family": "sphnet-small", **told.model},
        out=out,
        resume=out.exists(),
        **{"max_time": told.max_time, "epochs": 100_000, "seed": told.seed, **told.options},
    )
    print(f"\n{told.what}: {trained.molecules}, {trained.n_weights:,} weights, {trained.steps} steps")
    near = () if told.what == "molecules" else (str(sets["train"]),)
    found = evaluate_hamiltonian(trained.model, str(sets["test"]), train=near)
    print("\n| | H | occupied levels | HOMO | LUMO | gap | dipole (D) | energy | similarity |")
    print("|---|---|---|---|---|---|---|---|---|")
    names = ("hamiltonian", "occupied", "homo", "lumo", "gap", "dipole", "energy", "similarity")
    for source, errors in found.errors.items():
        cells = [
            f"{errors[n][0]:.4g} ({errors[n][1]:.4g} to {errors[n][2]:.4g})" if n in errors else ""
            for n in names
        ]
        print(f"| {source} | {' | '.join(cells)} |")
    entries = list(open_dataset(str(sets["test"]), unlabelled=True))
    stride = max(len(entries) // told.scf, 1)
    scf = scf_hamiltonian([entry.atoms for entry in entries[::stride][: told.scf]], trained.model)
    print(
        f"\n{scf.n_molecules} SCFs: {scf.mean_cycles:.2f} cycles against {scf.mean_default_cycles:.2f} "
        f"({scf.cycle_ratio:.2f}), {scf.mean_builds:.2f} Fock builds against {scf.mean_default_builds:.2f} "
        f"({scf.build_ratio:.2f}), time {scf.time_ratio:.2f}; energies apart by {scf.largest_difference:.1e} "
        f"Eh at most; {scf.n_dropped} guesses dropped, {scf.n_other_states} other states"
    )
    for row in scf.rows if told.what == "molecules" else ():
        print(f"  {row['formula']}: {row['cycles']} | {row['default_cycles']} cycles, {row['guess']}")


if __name__ == "__main__":
    main()

"""Fine-tuning across chemistries and theories: errors on the new and on the old.

    python benchmarks/cross_model.py --acac ../shared/data/acac [--part methods|heads] [--seeds 0]

``methods``: a small MACE is trained on GFN2-xTB labels of displaced molecules with C, H and O, then taught
acetylacetone at 300 K as the DFT of Kovács et al. (J. Chem. Theory Comput. 17, 7696, 2021) sees it, from
20, 100 or 500 frames, by each --method; replay with a head of its own beside the old one, which replays
half of the old training set. New: the published test frames of that DFT. Old: molecules that were held out.
``heads``: the same frames' labels by both theories, many of GFN2 and few of DFT, as two heads of one model
(MACE) or two data sets of one encoding (DPA3), against models trained on each alone with as many steps.
Energies per atom, after a constant for each element; MAE and RMSE of force components. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

SMILES = (
    "CCO",
    "CC(C)=O",
    "C=CC=O",
    "CC(C)O",
    "COC",
    "CC=O",
    "CC(=O)O",
    "C1CCOC1",
    "CCC",
    "C=CC",
    "CC(=O)CC",
    "OCC=O",
)
MACE = {
    "family": "mace", "hidden": "32x0e+32x1o", "max_degree": 2, "cutoff": 5.0, "n_radial": 8,
    "radial_widths": [32, 32], "correlations": [3, 3],
}  # fmt: skip
DPA3 = {
    "family": "dpa3", "nlayers": 3, "n_dim": 32, "e_dim": 16, "a_dim": 8, "e_rcut": 5.0, "e_rcut_smth": 4.5,
    "a_rcut": 3.5, "a_rcut_smth": 3.0, "neuron": [64, 64], "dim_case_embd": 2,
}  # fmt: skip
LOOP = {
    "batch_size": 8,
    "device": "cpu",
    "forces_weight": "10",
    "energy_weight": "1:40@0.7",
    "learning_rate": 3e-3,
}


def main() -> None:
    """Parse, make data, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--acac", type=Path, default=Path("../shared/data/acac"))
    parser.add_argument("--part", choices=("methods", "heads"), nargs="*", default=("methods", "heads"))
    parser.add_argument("--sizes", type=int, nargs="*", default=(20, 100, 500))
    parser.add_argument("--parent-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="*", default=(0,))
    parser.add_argument("--folder", type=Path, help="where to keep runs; a temporary one if not given")
    told = parser.parse_args()
    limit_threads(1)
    import torch

    torch.set_num_threads(1)
    describe("tblite", "rdkit")
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = files(folder, told.acac)
        if "methods" in told.part:
            methods(folder, data, told)
        if "heads" in told.part:
            heads(folder, data, told)


def files(folder: Path, acac: Path) -> dict[str, Path]:
    """Old molecules by GFN2, new frames by DFT and by GFN2; written once."""
    import ase.io

    found = {name: folder / f"{name}.extxyz" for name in ("old", "old-test", "gfn2", "gfn2-test")}
    if not all(path.exists() for path in found.values()):
        old = molecules(40)
        label(old[::5], found["old-test"])
        label([atoms for k, atoms in enumerate(old) if k % 5], found["old"])
        new = [bare(a) for a in ase.io.read(acac / "train_300K.xyz", ":")]
        label(new[1::2], found["gfn2"])
        label([bare(a) for a in ase.io.read(acac / "test_MD_300K.xyz", "::5")], found["gfn2-test"])
    frames = ase.io.read(acac / "train_300K.xyz", ":")
    for n in (20, 50, 100, 500):
        found[f"new-{n}"] = folder / f"new-{n}.extxyz"
        ase.io.write(found[f"new-{n}"], [frames[i * len(frames) // n] for i in range(n)])
    found["new-test"] = folder / "new-test.extxyz"
    ase.io.write(found["new-test"], ase.io.read(acac / "test_MD_300K.xyz", "::5"))
    return found


def bare(atoms: Any) -> Any:
    """A molecule without cell and labels."""
    from ase import Atoms

    return Atoms(atoms.numbers, atoms.positions)


def molecules(each: int) -> list[Any]:
    """Conformers of each molecule, displaced by 0.02 to 0.1 Å."""
    import numpy as np
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    made = []
    random = np.random.default_rng(0)
    for smiles in SMILES:
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMultipleConfs(molecule, each, randomSeed=7)
        AllChem.MMFFOptimizeMoleculeConfs(molecule)
        numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
        for conformer in molecule.GetConformers():
            positions = conformer.GetPositions()
            size = random.uniform(0.02, 0.1)
            made.append(Atoms(numbers, positions + size * random.standard_normal(positions.shape)))
    return made


def label(structures: Sequence[Any], file: Path) -> None:
    """By GFN2-xTB."""
    from atomml.workflows import label_data

    label_data(list(structures), method="gfn2", to=file, workers=1, overwrite=True)


def methods(folder: Path, data: dict[str, Path], told: argparse.Namespace) -> None:
    """A row for each method, size and seed."""
    from atomml.workflows import finetune, train

    parent = folder / "parent"
    if not (parent / "summary.json").exists():
        train(MACE, data["old"], out=parent, resume=parent.exists(), **steps(told.parent_steps, data["old"]))
    model = parent / "model.safetensors"
    print(
        "\n| frames | method | seed | new: E, meV/atom | new: F MAE / RMSE, meV/Å | old: E, meV/atom "
        "| old: F MAE, meV/Å | drift of the old head, meV/atom, meV/Å | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    show("0", "parent", "", errors(model, data["new-test"]), errors(model, data["old-test"]), "", 0.0)
    for seed in told.seeds:
        for n in told.sizes:
            for method in ("full", "frozen", "lora", "replay"):
                out = folder / f"{method}-{n}-{seed}"
                own = dict(steps(told.steps, data[f"new-{n}"]), seed=seed, method=method, out=out)
                own |= {"resume": out.exists()}
                started = time.perf_counter()
                if method == "replay":
                    own |= {"replay": (str(data["old"]),), "drift_energy": 5.0, "drift_forces": 50.0}
                    done = finetune(f"{model}@default", {"dft": data[f"new-{n}"]}, **own)
                    old, drift = f"{done.model}@default", done.drift
                    said = f"{drift['energy_meV_per_atom']:.1f}, {drift['forces_meV_per_A']:.0f}"
                    said += "" if done.converged else " (exceeded)"
                else:
                    done, said = finetune(model, data[f"new-{n}"], **own), ""
                    old = done.model
                seconds = time.perf_counter() - started
                new = f"{done.model}@dft" if method == "replay" else done.model
                found = errors(new, data["new-test"]), errors(old, data["old-test"])
                show(str(n), method, str(seed), *found, said, seconds)


def show(n: str, method: str, seed: str, new: Any, old: Any, drift: str, seconds: float) -> None:
    """A row."""
    print(
        f"| {n} | {method} | {seed} | {new[0]:.2f} | {new[1]:.0f} / {new[2]:.0f} | {old[0]:.2f} "
        f"| {old[1]:.0f} | {drift} | {seconds:.0f} |",
        flush=True,
    )


def heads(folder: Path, data: dict[str, Path], told: argparse.Namespace) -> None:
    """Few DFT and many GFN2 labels: alone, and together."""
    from atomml.workflows import train

    print(
        "\n| model | trained on | seed | DFT: E, meV/atom | DFT: F MAE / RMSE, meV/Å | GFN2: E "
        "| GFN2: F MAE / RMSE | s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    sets = {
        "DFT alone": {"dft": data["new-50"]},
        "GFN2 alone": {"gfn2": data["gfn2"]},
        "both": {"dft": data["new-50"], "gfn2": data["gfn2"]},
    }
    for seed in told.seeds:
        for family, shape in (("mace", MACE), ("dpa3", DPA3)):
            for name, chosen in sets.items():
                out = folder / f"{family}-{name.replace(' ', '-')}-{seed}"
                own = dict(steps(told.steps, data["gfn2" if "gfn2" in chosen else "new-50"]), seed=seed)
                own |= {
                    "resume": out.exists(),
                    "head_shares": ("dft=1", "gfn2=1") if len(chosen) == 2 else (),
                }
                started = time.perf_counter()
                done = train(shape, chosen, out=out, **own)
                seconds = time.perf_counter() - started
                cells = []
                for head, test in (("dft", "new-test"), ("gfn2", "gfn2-test")):
                    if head in chosen:
                        e, f, r = errors(f"{done.model}@{head}", data[test])
                        cells += [f"{e:.2f}", f"{f:.0f} / {r:.0f}"]
                    else:
                        cells += ["", ""]
                print(f"| {family} | {name} | {seed} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def steps(n: int, file: Path) -> dict[str, Any]:
    """Options of a training of so many steps, validated ten times."""
    import ase.io

    batches = max(1, -(-9 * len(ase.io.read(file, ":")) // 10 // LOOP["batch_size"]))
    epochs = -(-n // batches)
    return {**LOOP, "max_steps": n, "epochs": epochs, "valid_every": max(1, epochs // 10)}


def errors(model: Any, file: Path) -> tuple[float, float, float]:
    """Shifted energies per atom (MAE, meV), force components (MAE and RMSE, meV/Å)."""
    from atomml.workflows import evaluate

    found = evaluate(file, str(model), device="cpu")
    return found.mae_shifted_energy, found.mae_forces, found.rmse_forces


if __name__ == "__main__":
    main()

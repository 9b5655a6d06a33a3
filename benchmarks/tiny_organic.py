"""A small molecular model on molecules that it never saw: conformer energies, forces, whether MD stays whole.

    python benchmarks/tiny_organic.py conformers --models mace-tiny-organic gfn2 mmff94s --rows rows.jsonl
    python benchmarks/tiny_organic.py pairs pairs.extxyz --models mace-tiny-organic gfn2
    python benchmarks/tiny_organic.py speed --molecules 12
    python benchmarks/tiny_organic.py wells --model mace-tiny-organic --molecules 50
    python benchmarks/tiny_organic.py dynamics --model mace-tiny-organic --molecules 50 --picoseconds 100

``conformers``: up to ``--conformers`` of each drug of ``examples/mace-tiny-organic/held_out.smi`` with
few atoms (none of them was trained on), embedded by ETKDGv3 and relaxed by MMFF94s, so that no geometry
is a minimum of what is tested but of MMFF94s itself. The reference is B3LYP-D3BJ/def2-SVP with density
fitting by PySCF, with forces; its rows are kept in ``--rows``, and a repeated run goes on there. Energies
are compared after the mean over a molecule's conformers is taken out. ``pairs``: energies between two
labelled frames that follow each other, such as relaxed conformer and pose of the recipe. ``wells``: a
conformer of MMFF94s and two poses with every torsion turned, of molecules made as in the recipe but from
another seed, are relaxed by the model; where it puts a pose far below what GFN2-xTB says of the same two
geometries, it has a well that no molecule has. ``dynamics``: Langevin at 300 K, 1 fs, all molecules in one
system, 40 Å apart, in ``--folder``, where a repeated run goes on; a molecule is whole while its bonds are the
pairs of atoms that are near enough to be bonded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, limit_threads

RECIPE = Path(__file__).parent.parent / "examples" / "mace-tiny-organic"
DRUGS = RECIPE / "held_out.smi"
REFERENCE = "b3lyp-d3bj/def2-svp"
KCAL = 23.060548


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("conformers", "pairs", "wells", "dynamics", "speed"))
    parser.add_argument("files", nargs="*", type=Path, help="of pairs")
    parser.add_argument("--models", nargs="*", default=["mace-tiny-organic", "gfn2", "mmff94s"])
    parser.add_argument("--model", default="mace-tiny-organic")
    parser.add_argument("--rows", type=Path, default=Path("conformers.jsonl"))
    parser.add_argument("--known", action="store_true", help="only molecules with reference rows")
    parser.add_argument("--max-atoms", type=int, default=26)
    parser.add_argument("--molecules", type=int, default=50)
    parser.add_argument("--conformers", type=int, default=5)
    parser.add_argument("--picoseconds", type=float, default=100.0)
    parser.add_argument("--folder", type=Path, help="of the run of dynamics")
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("pyscf", "tblite", "rdkit")
    parts = {"conformers": conformers, "pairs": pairs_of_files}
    (parts | {"wells": wells, "dynamics": dynamics, "speed": speed})[told.what](told)


def molecules(told: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """SMILES and RDKit molecule with hydrogens, its conformers relaxed by MMFF94s."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    for smiles in DRUGS.read_text(encoding="utf-8").split()[: told.molecules]:
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if molecule.GetNumAtoms() > told.max_atoms:
            continue
        settings = AllChem.ETKDGv3()
        settings.randomSeed, settings.pruneRmsThresh = 7, 0.5
        AllChem.EmbedMultipleConfs(molecule, told.conformers, settings)
        AllChem.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000, mmffVariant="MMFF94s")
        yield smiles, molecule


def frames(molecule: Any) -> list[Any]:
    """Its conformers as structures of ASE."""
    from ase import Atoms

    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    return [Atoms(symbols, conformer.GetPositions()) for conformer in molecule.GetConformers()]


def conformers(told: argparse.Namespace) -> None:
    """Reference rows where they are missing, then a table of errors."""
    kept = {}
    if told.rows.exists():
        for line in told.rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            kept[row["smiles"]] = row
    pairs = [(smiles, molecule) for smiles, molecule in molecules(told) if molecule.GetNumConformers() > 1]
    pairs = [pair for pair in pairs if not told.known or pair[0] in kept]
    for smiles, molecule in pairs:
        if smiles not in kept:
            kept[smiles] = {"smiles": smiles, **labelled(frames(molecule), REFERENCE)}
            with told.rows.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(kept[smiles]) + "\n")
            sys.stderr.write(f"{smiles} {len(kept[smiles]['energy'])} conformers\n")
    print(f"{len(pairs)} molecules, {sum(len(kept[s]['energy']) for s, _ in pairs)} conformers")
    print(
        "| | conformer energies, MAE | 95% interval | RMSE kcal/mol | forces, MAE meV/Å | rank correlation |"
    )
    print("|---|---|---|---|---|---|")
    for model in told.models:
        print(f"| {model} | {errors(model, pairs, kept)} |", flush=True)


def errors(model: str, pairs: list[tuple[str, Any]], kept: dict[str, Any]) -> str:
    """A line of the table; the interval is a bootstrap over molecules."""
    from scipy.stats import spearmanr

    apart, forces, ranks = [], [], []
    for smiles, molecule in pairs:
        found = labelled_by_mmff(molecule) if model == "mmff94s" else labelled(frames(molecule), model)
        ours, theirs = np.array(found["energy"]), np.array(kept[smiles]["energy"])
        apart.append(KCAL * np.abs((ours - ours.mean()) - (theirs - theirs.mean())))
        ranks.append(spearmanr(ours, theirs).statistic if len(ours) > 2 else np.nan)
        if found["forces"]:
            forces.append(np.abs(np.array(found["forces"]) - np.array(kept[smiles]["forces"])).mean())
    random = np.random.default_rng(0)
    drawn = [random.integers(len(apart), size=len(apart)) for _ in range(2000)]
    means = [np.concatenate([apart[i] for i in chosen]).mean() for chosen in drawn]
    whole = np.concatenate(apart)
    low, high = np.percentile(means, [2.5, 97.5])
    force = f"{1000 * np.mean(forces):.0f}" if forces else ""
    spread = f"{whole.mean():.2f} | {low:.2f} to {high:.2f} | {np.sqrt((whole**2).mean()):.2f}"
    return f"{spread} | {force} | {np.nanmean(ranks):.2f}"


def pairs_of_files(told: argparse.Namespace) -> None:
    """Errors of energies between two frames that follow each other in a labelled file, kcal/mol."""
    import ase.io

    for file in told.files:
        atoms = ase.io.read(file, ":")
        true = np.array([frame.get_potential_energy() for frame in atoms])
        print(f"\n{file.name}: {len(atoms) // 2} pairs\n")
        print("| | MAE | median | bias | most |\n|---|---|---|---|---|")
        for model in told.models:
            found = np.array(labelled(atoms, model)["energy"])
            off = KCAL * (np.diff(found)[::2] - np.diff(true)[::2])
            size = np.abs(off)
            cells = f"{size.mean():.2f} | {np.median(size):.2f} | {off.mean():+.2f} | {size.max():.1f}"
            print(f"| {model} | {cells} |", flush=True)


def labelled(atoms: list[Any], method: str) -> dict[str, Any]:
    """Energies, eV, and forces, eV/Å, by a method of the labelling engine or a model of the suite."""
    from atomml.data.label import LabelSettings, engine_of

    engine = engine_of(method, LabelSettings(density_fit=True))
    found = [engine.label(frame) for frame in atoms]
    return {
        "energy": [float(one.labels.energy) for one in found],
        "forces": [one.labels.forces.tolist() for one in found],
        "method": found[0].method,
    }


def labelled_by_mmff(molecule: Any) -> dict[str, Any]:
    """Energies by RDKit's MMFF94s; its forces are not compared, since these geometries are its minima."""
    from rdkit.Chem import AllChem

    properties = AllChem.MMFFGetMoleculeProperties(molecule, mmffVariant="MMFF94s")
    numbers = [conformer.GetId() for conformer in molecule.GetConformers()]
    fields = [AllChem.MMFFGetMoleculeForceField(molecule, properties, confId=n) for n in numbers]
    return {"energy": [field.CalcEnergy() / KCAL for field in fields], "forces": []}


def dynamics(told: argparse.Namespace) -> None:
    """Langevin dynamics of all molecules, 40 Å apart in one system; how many stay whole."""
    import ase.io
    from ase import Atoms

    from atomml.workflows import md

    found = list(molecules(told))
    side = int(np.ceil(len(found) ** (1 / 3)))
    together = Atoms()
    for number, (_, molecule) in enumerate(found):
        atoms = frames(molecule)[0]
        atoms.positions -= atoms.positions.mean(axis=0)
        atoms.translate(40.0 * np.array(np.unravel_index(number, (side, side, side))))
        together += atoms
    out = told.folder or Path("tiny-organic-dynamics")
    md(
        together, told.model, out=out, resume=out.exists(), ensemble="nvt-langevin", friction=10.0,
        temperature="300", timestep=1.0, steps=int(1000 * told.picoseconds), every=500, restart_every=2000,
    )  # fmt: skip
    first_broken: dict[str, float] = {}
    n_frames = 0
    for n_frames, frame in enumerate(ase.io.iread(out / "trajectory.extxyz", ":"), start=1):
        place = 0
        for smiles, molecule in found:
            part = frame[place : place + molecule.GetNumAtoms()]
            place += len(part)
            if smiles not in first_broken and not is_whole(part, molecule):
                first_broken[smiles] = 0.5 * (n_frames - 1)
    for smiles, when in first_broken.items():
        print(f"{smiles} broken at {when:g} ps", flush=True)
    n_whole, ran = len(found) - len(first_broken), 0.5 * (n_frames - 1)
    print(f"{n_whole} of {len(found)} molecules ({len(together)} atoms) stayed whole for {ran:g} ps at 300 K")


def is_whole(atoms: Any, molecule: Any) -> bool:
    """Whether bonds are below 1.4 times the sum of covalent radii, and no others below 1.2 times it."""
    from ase.data import covalent_radii
    from rdkit.Chem import GetDistanceMatrix

    radii = covalent_radii[atoms.numbers]
    apart = atoms.get_all_distances() / (radii[:, None] + radii)
    bonds = GetDistanceMatrix(molecule)
    return bool((apart[bonds == 1] < 1.4).all() and (apart[bonds > 2] > 1.2).all())


def wells(told: argparse.Namespace) -> None:
    """Energy of relaxed poses over a relaxed conformer, by the model less by GFN2-xTB, kcal/mol."""
    sys.path.insert(0, str(RECIPE))
    import displaced
    from geometries import left_out
    from rdkit.rdBase import BlockLogs
    from tblite.ase import TBLite

    from atomml import AtomMLCalculator, load_model

    block = BlockLogs()
    random = np.random.default_rng(99)
    model, xtb = AtomMLCalculator(load_model(told.model)), TBLite(method="GFN2-xTB", verbosity=0)
    found: list[float] = []
    kinds = (displaced.chain, displaced.assembled)
    for smiles in displaced.build(told.molecules, 11, left_out(DRUGS), random, kinds):
        ends = [displaced.relaxed(atoms, model, 120)[-1] for atoms in displaced.starts(smiles, 2, random)]
        own, other = ([energy(atoms, by) for atoms in ends] for by in (model, xtb))
        for number in range(1, len(ends)):
            found.append((own[number] - own[0]) - (other[number] - other[0]))
            if abs(found[-1]) > 5:
                print(f"{smiles}: {found[-1]:.1f}", flush=True)
    errors = np.abs(found)
    print(
        f"{len(errors)} poses: mean {errors.mean():.2f}, median {np.median(errors):.2f}, "
        f"most {errors.max():.1f} kcal/mol; {np.sum(np.array(found) < -15)} wells of 15 and more"
    )
    del block


def energy(atoms: Any, calculator: Any) -> float:
    """kcal/mol."""
    asked = atoms.copy()
    asked.calc = calculator
    return float(asked.get_potential_energy()) * KCAL


def speed(told: argparse.Namespace) -> None:
    """CPU milliseconds of energy and forces of each molecule by the model and by GFN2-xTB, in turn."""
    import time

    from tblite.ase import TBLite

    from atomml import AtomMLCalculator, load_model

    calculators = (AtomMLCalculator(load_model(told.model)), TBLite(method="GFN2-xTB", verbosity=0))
    print(f"| | atoms | {told.model}, ms | GFN2-xTB, ms |")
    print("|---|---|---|---|")
    for smiles, molecule in molecules(told):
        first, random = frames(molecule)[0], np.random.default_rng(0)
        spent: list[list[float]] = [[], []]
        for _ in range(20):
            moved = first.copy()
            moved.positions += random.normal(0, 0.02, first.positions.shape)
            for calculator, times in zip(calculators, spent, strict=True):
                moved.calc = calculator
                started = time.process_time()
                moved.get_forces()
                times.append(1e3 * (time.process_time() - started))
        ours, theirs = (np.median(times) for times in spent)
        print(f"| {smiles} | {len(first)} | {ours:.1f} | {theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()

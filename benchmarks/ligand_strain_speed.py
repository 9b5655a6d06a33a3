"""How long ligand strain takes: conformers in batches against one at a time; whole ligands, by model.

    python benchmarks/ligand_strain_speed.py batches [--model chgnet-0.3.0] [--conformers 20] [--threads 2]
    python benchmarks/ligand_strain_speed.py ligands [--models mmff94s,gfn2] [--conformers 20] [--threads 2]
    python benchmarks/ligand_strain_speed.py files [--models mmff94s] [FILE ...]
    python benchmarks/ligand_strain_speed.py library [--models mmff94s] [--ligands 1000] [--conformers 5]

``batches``: the distinct MMFF94s minima of a drug, minimised by one model to 0.01 eV/Å: one at a time with
ASE's BFGS and our calculator, against what ``ligand-strain`` does (together, from the Hessian of MMFF94s).
``--steps`` bounds both. ``ligands``: one pose of a drug of 31 heavy atoms, everything included. ``files``:
strain of the poses of a file (../shared/data/ligands without one). ``library``: one pose each of the drugs of
``ligand_strain_dft.py``, or of as many molecules of ``examples/mace-tiny-organic`` as asked for, through the
manifest and a pool of ``--threads`` workers, with the rate and the memory of the process that leads them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from machine import children_seconds, describe, limit_threads

SMALL = "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O"  # ibuprofen, 33 atoms
DRUG = "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1OCCCN1CCOCC1"  # gefitinib, 31 heavy atoms, 55 atoms
POSES = Path(__file__).resolve().parents[1] / "../shared/data/ligands/ligboundconf_example.sdf"


def batches(told: argparse.Namespace) -> None:
    """Minimise conformers both ways and print a table."""
    from ase.optimize import BFGS

    from atomml.workflows.inputs import given_model
    from atomml.workflows.ligands.ligand_chemistry import ligand_of
    from atomml.workflows.ligands.ligand_conformers import find_conformers, guessed_hessian
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    ligand = ligand_of(_canonical(told.smiles))
    found = find_conformers(ligand, told.conformers, searches=1)
    starts = [ligand.atoms(x) for x in found.geometries]
    model = given_model(told.model)
    list(relax_batched(starts[:2], model, fmax=0.01, steps=2, guess=guessed_hessian()))
    rows: list[list[Any]] = []
    started = _clocks()
    ended = sorted(
        relax_batched(starts, model, fmax=0.01, steps=told.steps, guess=guessed_hessian()),
        key=lambda one: one.index,
    )
    good = [one.result for one in ended if one.result is not None]
    rows.append(["together, from MMFF94s's Hessian", _since(started), good])
    if told.plain:
        started = _clocks()
        plain = list(relax_batched(starts, model, fmax=0.01, steps=told.steps, optimizer="bfgs"))
        took = _since(started)
        rows.append(["together, ASE's BFGS", took, [one.result for one in plain if one.result is not None]])
    started = _clocks()
    alone = []
    for atoms in starts:
        atoms.calc = model.calculator()
        optimizer = BFGS(atoms, logfile=None)
        converged = optimizer.run(fmax=0.01, steps=told.steps)
        alone.append((float(atoms.get_potential_energy()), optimizer.nsteps, bool(converged)))
    alone_took = _since(started)
    print(f"\n{told.model}: {len(starts)} conformers of {len(starts[0])} atoms, {told.threads} threads\n")
    print("| how | s | CPU s | steps | converged | times as fast | by CPU |\n|---|---|---|---|---|---|---|")
    steps, done = sum(one[1] for one in alone), sum(one[2] for one in alone)
    wall, cpu = alone_took
    print(f"| one at a time, ASE's BFGS | {wall:.1f} | {cpu:.1f} | {steps} | {done} | 1 | 1 |")
    for how, took, results in rows:
        steps, done = sum(one.n_steps for one in results), sum(one.converged for one in results)
        times = f"{wall / took[0]:.1f} | {cpu / took[1]:.1f}"
        print(f"| {how} | {took[0]:.1f} | {took[1]:.1f} | {steps} | {done} | {times} |")
    apart = [one.energy - other[0] for one, other in zip(good, alone, strict=True)]
    print(f"\nenergies less those of ASE's BFGS: {min(apart):.4f} to {max(apart):.4f} eV")


def ligands(told: argparse.Namespace) -> None:
    """One pose of a drug with 31 heavy atoms, by each model."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    from atomml.workflows import ligand_strain
    from atomml.workflows.inputs import given_model

    pose = Chem.AddHs(Chem.MolFromSmiles(told.smiles or DRUG))
    rdDistGeom.EmbedMolecule(pose, randomSeed=11)
    ligand_strain(Chem.AddHs(pose), "mmff94s", conformers=1, searches=1)
    print(
        f"\n{pose.GetNumHeavyAtoms()} heavy atoms, {pose.GetNumAtoms()} atoms, {told.conformers} conformers\n"
    )
    print("| model | s for the ligand | CPU s | strain, kcal/mol | distinct minima |\n|---|---|---|---|---|")
    for name in told.models.split(","):
        model = given_model(name)
        started = _clocks()
        result = ligand_strain(pose, model, conformers=told.conformers, workers=0)
        wall, cpu = _since(started)
        shown = f"{result.strain or float('nan'):.1f} | {result.rows[0]['n_minima']}"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {shown} |", flush=True)


def files(told: argparse.Namespace) -> None:
    """Strain of the poses of files, by each model."""
    from atomml.workflows import ligand_strain

    print("\n| model | pose | strain | Boltzmann | spread of searches | search converged | pose shift, Å |")
    print("|---|---|---|---|---|---|---|")
    for model in told.models.split(","):
        for row in ligand_strain(
            told.files or [str(POSES)], model, conformers=told.conformers, workers=0
        ).rows:
            numbers = [row[f"strain_{k}kcal_per_mol"] for k in ("", "boltzmann_", "searches_std_")]
            if row["error"]:
                print(f"| {model} | {row['id']} | {row['error']} |")
                continue
            shown = " | ".join("–" if number is None else f"{number:.2f}" for number in numbers)
            flags = f"{'yes' if row['search_converged'] else 'no'} | {row['pose_shift_A']:.2f}"
            print(f"| {model} | {row['id']} | {shown} | {flags} |", flush=True)


def library(told: argparse.Namespace) -> None:
    """Small molecules through the pool, and how many an hour that makes."""
    import resource
    import tempfile

    from ligand_strain_dft import DRUGS

    from atomml.workflows import ligand_strain

    molecules = generated(told.ligands) if told.ligands else DRUGS
    for model in told.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "library.sdf"
            n = write_poses(file, molecules)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started, used = time.perf_counter(), children_seconds()
            result = ligand_strain(
                file, model, conformers=told.conformers if told.ligands else None,
                out=Path(folder) / "run", workers=told.threads, batch=2,
            )  # fmt: skip
            seconds, used = time.perf_counter() - started, children_seconds() - used
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{model}: {n} ligands in {seconds:.1f} s with {told.threads} workers, start included; "
            f"{3600 * n / seconds:.0f} an hour ({3600 * n * told.threads / used:.0f} by CPU time); "
            f"{result.n_failed} failed, {result.n_flagged} flagged; {before / 1024:.0f} MB before, "
            f"{after / 1024:.0f} MB at most"
        )


def generated(n: int) -> dict[str, str]:
    """Molecules that the recipe of the small model puts together, by number."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "mace-tiny-organic"))
    import displaced
    import numpy as np
    from rdkit.rdBase import BlockLogs

    block = BlockLogs()
    kinds = (displaced.chain, displaced.assembled, displaced.polar)
    found = displaced.build(n, 14, set(), np.random.default_rng(5), kinds)
    del block
    return {f"molecule {number}": smiles for number, smiles in enumerate(found)}


def write_poses(file: Path, molecules: dict[str, str]) -> int:
    """A pose of each in one SDF; those that RDKit cannot place are left out. Returns how many there are."""
    from ligand_strain_dft import pose_of
    from rdkit import Chem

    n = 0
    with Chem.SDWriter(str(file)) as writer:
        for name, smiles in molecules.items():
            try:
                writer.write(pose_of(name, smiles))
            except (SystemExit, ValueError, RuntimeError, IndexError):
                continue
            n += 1
    return n


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> tuple[float, float]:
    """Seconds of wall clock, and of all CPUs together, which a busy machine changes less."""
    wall, cpu = _clocks()
    return wall - started[0], cpu - started[1]


def _canonical(smiles: str) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(Chem.MolFromSmiles(smiles or SMALL)))


def main() -> None:
    """Parse and run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["batches", "ligands", "files", "library"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--model", default="chgnet-0.3.0")
    parser.add_argument("--models", default="mmff94s,gfn2")
    parser.add_argument("--conformers", type=int, default=20)
    parser.add_argument("--ligands", type=int, default=0, help="molecules of a library; 0 for the drugs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--smiles", default="")
    parser.add_argument("--plain", action="store_true", help="also together with ASE's BFGS")
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("ase", "rdkit", "tblite")
    parts = {"batches": batches, "ligands": ligands, "files": files, "library": library}
    parts[told.part](told)


if __name__ == "__main__":
    main()

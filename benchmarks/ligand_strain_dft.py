"""Ligand strain by each model against density-functional energies at the model's own geometries.

    python benchmarks/ligand_strain_dft.py [--models mmff94s,gfn2] [--molecules 24] [--budget 40] [--table]

Approved drugs of at most 18 heavy atoms, neutral, built from SMILES. A pose is the lowest of a few MMFF94s
conformers with its torsions turned by 40 to 120 degrees (conjugated ones by 15 to 35), so that a lower
minimum is known to exist. Each model relaxes pose and 20 conformers by itself (``ligand_strain``);
then B3LYP-D3(BJ)/def2-SVP with density fitting (PySCF) gives energies. A model's error is its strain less
that difference.

Every result is kept in ``ligand_strain_dft.json`` as soon as it is there: a second call goes on, and another
model is added with its own single points only. ``--budget`` is CPU minutes of this call.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

METHOD = "b3lyp-d3bj/def2-svp"
KEPT = Path(__file__).with_suffix(".json")
DRUGS = {
    "aminobutyric acid": "NCCCC(=O)O",
    "histamine": "NCCc1cnc[nH]1",
    "vigabatrin": "C=C[C@H](N)CCC(=O)O",
    "penicillamine": "CC(C)(S)[C@@H](N)C(=O)O",
    "aminocaproic acid": "NCCCCCC(=O)O",
    "nicotinamide": "NC(=O)c1cccnc1",
    "metformin": "CN(C)C(=N)N=C(N)N",
    "betahistine": "CNCCc1ccccn1",
    "piracetam": "NC(=O)CN1CCCC1=O",
    "acetylcysteine": "CC(=O)N[C@@H](CS)C(=O)O",
    "salicylic acid": "OC(=O)c1ccccc1O",
    "valproic acid": "CCCC(CCC)C(=O)O",
    "isoniazid": "NNC(=O)c1ccncc1",
    "amphetamine": "CC(N)Cc1ccccc1",
    "carbocisteine": "N[C@@H](CSCC(=O)O)C(=O)O",
    "tranexamic acid": "NC[C@H]1CC[C@H](C(=O)O)CC1",
    "phentermine": "CC(C)(N)Cc1ccccc1",
    "pregabalin": "CC(C)C[C@H](CN)CC(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "dopamine": "NCCc1ccc(O)c(O)c1",
    "metronidazole": "Cc1ncc([N+](=O)[O-])n1CCO",
    "ephedrine": "CN[C@@H](C)[C@H](O)c1ccccc1",
    "phenylephrine": "CNC[C@H](O)c1cccc(O)c1",
    "benzocaine": "CCOC(=O)c1ccc(N)cc1",
    "gabapentin": "NCC1(CC(=O)O)CCCCC1",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "phenacetin": "CCOc1ccc(NC(C)=O)cc1",
    "mexiletine": "Cc1cccc(C)c1OCC(C)N",
    "guaifenesin": "COc1ccccc1OCC(O)CO",
    "levodopa": "N[C@@H](Cc1ccc(O)c(O)c1)C(=O)O",
    "ibuprofen": "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O",
    "bupropion": "CC(NC(C)(C)C)C(=O)c1cccc(Cl)c1",
    "ketamine": "CNC1(CCCCC1=O)c1ccccc1Cl",
    "methylphenidate": "COC(=O)[C@@H](c1ccccc1)[C@H]1CCCCN1",
    "lidocaine": "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "procaine": "CCN(CC)CCOC(=O)c1ccc(N)cc1",
    "salbutamol": "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",
}


def pose_of(name: str, smiles: str) -> Any:
    """An RDKit molecule: a minimum of MMFF94s with every torsion turned, atoms kept apart."""
    import numpy as np
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms
    from scipy.spatial.distance import pdist

    from atomml.workflows.ligands.ligand_chemistry import ligand_of

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = 7
    rdDistGeom.EmbedMultipleConfs(molecule, 5, settings)
    found = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, mmffVariant="MMFF94s", maxIters=5000)
    lowest = min(range(len(found)), key=lambda number: found[number][1])
    random = np.random.default_rng(len(smiles))
    torsions = ligand_of(Chem.MolToSmiles(Chem.RemoveHs(molecule))).torsions
    order = molecule.GetSubstructMatch(ligand_of(Chem.MolToSmiles(Chem.RemoveHs(molecule))).molecule)
    for _ in range(1000):
        pose = Chem.Mol(molecule, False, lowest)
        for torsion in torsions:
            angle = rdMolTransforms.GetDihedralDeg(pose.GetConformer(), *(order[k] for k in torsion))
            stiff = pose.GetBondBetweenAtoms(order[torsion[1]], order[torsion[2]]).GetIsConjugated()
            turn = random.choice([-1, 1]) * (random.uniform(15, 35) if stiff else random.uniform(40, 120))
            rdMolTransforms.SetDihedralDeg(pose.GetConformer(), *(order[k] for k in torsion), angle + turn)
        if pdist(pose.GetConformer().GetPositions()).min() > 0.93:
            pose.SetProp("_Name", name)
            return pose
    raise SystemExit(f"{name}: no pose without a clash.")


def main() -> None:
    """Compute what is not kept yet, within the budget, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="mmff94s,gfn2")
    parser.add_argument("--molecules", type=int, default=24, help="the smallest of them")
    parser.add_argument("--budget", type=float, default=40.0)
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    told = parser.parse_args()
    limit_threads(1)
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    models = told.models.split(",")
    if not told.table:
        describe("rdkit", "pyscf", "pyscf-dispersion", "tblite")
        for name, smiles in list(DRUGS.items())[: told.molecules]:
            for model in models:
                if time.process_time() > 60 * told.budget:
                    break
                _measure(kept, name, smiles, model)
    _print(kept)


def _measure(kept: dict[str, Any], name: str, smiles: str, model: str) -> None:
    """One model on one molecule, unless that is kept already."""
    import numpy as np
    from ase import Atoms

    from atomml.files import write_atomic
    from atomml.workflows import ligand_strain
    from atomml.workflows.ligands.ligand_final import energy_of

    one = kept.setdefault(name, {"smiles": smiles, "models": {}})
    if model in one["models"]:
        return
    started = time.process_time()
    result = ligand_strain(pose_of(name, smiles), model, conformers=20)
    seconds = time.process_time() - started
    if result.strain is None:
        one["models"][model] = {"error": result.rows[0]["error"]}
    else:
        found = {}
        energies = []
        for part, molecule in (("pose", result.poses[0]), ("minimum", result.minima[0])):
            numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
            positions = np.array(molecule.GetConformer().GetPositions()).round(5)
            found[part] = positions.tolist()
            energies.append(energy_of(Atoms(numbers, positions), METHOD))
        one["models"][model] = {
            "strain_kcal_per_mol": result.strain,
            "dft_strain_kcal_per_mol": (energies[0] - energies[1]) * 23.060548,
            "dft_energies_eV": energies,
            "model_cpu_s": round(seconds, 2),
            "left_basin": result.rows[0]["left_basin"],
            **found,
        }
    write_atomic(KEPT, json.dumps(kept) + "\n")
    print(
        f"{name} {model} {one['models'][model].get('strain_kcal_per_mol')} {time.process_time():.0f} s",
        flush=True,
    )


def _print(kept: dict[str, Any]) -> None:
    """Error and rank correlation of every model that is kept, over the molecules that all of them have."""
    import numpy as np
    from scipy.stats import spearmanr

    models = list(dict.fromkeys(model for one in kept.values() for model in one["models"]))
    shared = [n for n, one in kept.items() if all("pose" in one["models"].get(m, {}) for m in models)]
    print(f"\n{len(shared)} molecules, against {METHOD} at each model's geometries; kcal/mol\n")
    print("| model | molecules | mean | mean by DFT | MAE | 95% interval | median | bias | rank | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    lost = {n for n in shared for m in models if kept[n]["models"][m]["left_basin"]}
    for names, label in ((shared, "all"), ([name for name in shared if name not in lost], "in their basin")):
        draws = np.random.default_rng(0).integers(len(names), size=(2000, len(names)))
        for model in models:
            rows = [kept[name]["models"][model] for name in names]
            own = np.array([row["strain_kcal_per_mol"] for row in rows])
            true = np.array([row["dft_strain_kcal_per_mol"] for row in rows])
            off = own - true
            low, high = np.percentile(np.abs(off)[draws].mean(axis=1), [2.5, 97.5])
            print(
                f"| {model} | {len(names)}, {label} | {own.mean():.2f} | {true.mean():.2f} | "
                f"{np.abs(off).mean():.2f} | {low:.2f} to {high:.2f} | {np.median(np.abs(off)):.2f} | "
                f"{off.mean():+.2f} | {spearmanr(own, true).statistic:.2f} | "
                f"{np.median([row['model_cpu_s'] for row in rows]):.1f} |"
            )
    print(f"\nLeft its basin by some model: {', '.join(sorted(lost)) or 'none'}")


if __name__ == "__main__":
    main()

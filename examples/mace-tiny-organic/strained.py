"""Poses and lowest conformers as ``ligand-strain`` finds them: the pairs whose difference DFT is to teach.

    python strained.py --to strained --molecules 250 --model mace-tiny-organic --seed 4

Molecules are put together as in ``displaced.py``: most of them two polar groups on a spacer, the others
chains and rings. Of each, a pose with every torsion turned is given to ``ligand_strain`` of the potential
that is being trained; its relaxed pose and its lowest conformer are written to ``pairs.extxyz``. The lowest
of many conformers is where a potential's errors gather, since it is chosen by them: labels there mend what
strain suffers from.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from displaced import assembled, build, chain, polar, turned
from geometries import ELEMENTS, left_out, write
from rdkit.rdBase import BlockLogs


def main() -> None:
    """Parse, build, turn, search, write."""
    from atomml import load_model

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=Path("strained"))
    parser.add_argument("--molecules", type=int, default=250)
    parser.add_argument("--heavy", type=int, default=12, help="most heavy atoms of a molecule")
    parser.add_argument("--functions", type=int, default=240, help="most basis functions of def2-SVP")
    parser.add_argument("--without", type=Path, default=Path("held_out.smi"), help="SMILES to leave out")
    parser.add_argument("--conformers", type=int, default=10)
    parser.add_argument("--model", default="mace-tiny-organic")
    parser.add_argument("--seed", type=int, default=4)
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    block = BlockLogs()
    random = np.random.default_rng(told.seed)
    model = load_model(told.model)
    kinds = (polar, polar, polar, chain, assembled)
    for n_done, smiles in enumerate(build(told.molecules, told.heavy, left_out(told.without), random, kinds)):
        write(told.to / "pairs.extxyz", pair(smiles, model, told, random))
        if n_done % 20 == 0:
            print(n_done, smiles, flush=True)
    del block


def pair(smiles: str, model: Any, told: argparse.Namespace, random: np.random.Generator) -> list[Any]:
    """The lowest conformer and the relaxed pose; nothing of a molecule too large or not understood."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    from atomml.workflows import ligand_strain

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    functions = sum({"H": 5, "S": 18, "Cl": 18}.get(symbol, 14) for symbol in symbols)
    if functions > told.functions or not set(symbols) <= ELEMENTS:
        return []
    if not AllChem.MMFFHasAllMoleculeParams(molecule):
        return []
    if AllChem.EmbedMolecule(molecule, randomSeed=int(random.integers(2**31 - 1))) != 0:
        return []
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    pose = turned(molecule, random)
    if pose is None:
        return []
    molecule.GetConformer().SetPositions(pose)
    molecule.SetProp("_Name", smiles)
    result = ligand_strain(molecule, model, conformers=told.conformers)
    if result.strain is None:
        return []
    return [
        Atoms(symbols, found.GetConformer().GetPositions(), info={"smiles": smiles, "trajectory": smiles})
        for found in (result.minima[0], result.poses[0])
    ]


if __name__ == "__main__":
    main()

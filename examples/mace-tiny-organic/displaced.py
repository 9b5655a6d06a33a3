"""Poses with every torsion turned, and where a potential takes them: the places that dynamics never shows.

    python displaced.py --to displaced --molecules 700 --model ../gfn2/model.safetensors --seed 1

Molecules are put together as in ``geometries.py``, and half of them without a ring (ends joined by linkers);
with ``--polar`` all of them are two polar groups on a spacer, which can bind each other by hydrogen.
Of each, a conformer of MMFF94s and poses of it (all torsions turned by 40 to 120 degrees, atoms kept apart)
are relaxed by the potential that is being trained; frames along the way and its end are written. Where the
potential has a well that no molecule has, the poses fall into it, and labels there mend it.
Writes ``train.extxyz`` and ``ends.extxyz`` (relaxed conformer and pose of each molecule: the pairs to
label by DFT). Scaffolds and molecules that are held out are left out as there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from geometries import ELEMENTS, PIECES, assembled, bare, joined, left_out, part_of, write
from rdkit.rdBase import BlockLogs

ROTATABLE = "[!$([D1]);!#1]~[!$([D1]);!#1]-;!@[!$([D1]);!#1]~[!#1]"


def main() -> None:
    """Parse, build, turn, relax, write."""
    from atomml import AtomMLCalculator, load_model

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=Path("displaced"))
    parser.add_argument("--molecules", type=int, default=700)
    parser.add_argument("--heavy", type=int, default=12, help="most heavy atoms of a molecule")
    parser.add_argument("--without", type=Path, default=Path("held_out.smi"), help="SMILES to leave out")
    parser.add_argument("--polar", action="store_true", help="only molecules of polar groups on a spacer")
    parser.add_argument("--poses", type=int, default=3, help="of a molecule")
    parser.add_argument("--model", default="mace-tiny-organic")
    parser.add_argument("--steps", type=int, default=80, help="of a relaxation")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    block = BlockLogs()
    random = np.random.default_rng(told.seed)
    calculator = AtomMLCalculator(load_model(told.model))
    kinds = (polar,) if told.polar else (chain, assembled)
    for n_done, smiles in enumerate(build(told.molecules, told.heavy, left_out(told.without), random, kinds)):
        trajectories = [
            relaxed(atoms, calculator, told.steps) for atoms in starts(smiles, told.poses, random)
        ]
        for frames in trajectories:
            write(told.to / "train.extxyz", frames)
        if len(trajectories) > 1:
            write(told.to / "ends.extxyz", [trajectories[0][-1], trajectories[1][-1]])
        if n_done % 20 == 0:
            print(n_done, smiles, flush=True)
    del block


def build(
    n: int,
    heavy: int,
    without: set[str],
    random: np.random.Generator,
    kinds: Sequence[Callable[[np.random.Generator], str]],
) -> list[str]:
    """Canonical SMILES of ``n`` molecules with something to turn, none held out, all kinds alike often."""
    from rdkit import Chem

    pattern = Chem.MolFromSmarts(ROTATABLE)
    found: dict[str, None] = {}
    while len(found) < n:
        smiles = kinds[int(random.random() * len(kinds))](random)
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None or molecule.GetNumHeavyAtoms() > heavy:
            continue
        smiles = Chem.MolToSmiles(molecule)
        if smiles in without or part_of(smiles) == "test" or not molecule.HasSubstructMatch(pattern):
            continue
        found.setdefault(smiles)
    return list(found)


def chain(random: np.random.Generator) -> str:
    """Two ends joined by one to three linkers."""
    linkers = [text for text in PIECES["linkers"] if text != "-"]
    text = str(random.choice(PIECES["ends"])).replace("[*:9]", "[*:3]")
    for _ in range(int(random.integers(1, 4))):
        linker = str(random.choice(linkers))
        text = joined(text, linker).replace("[*:4]", "[*:3]")
    return joined(text.replace("[*:3]", "[*:9]"), str(random.choice(PIECES["ends"])))


def polar(random: np.random.Generator) -> str:
    """Two polar groups on a spacer."""
    text = str(random.choice(PIECES["spacers"]))
    for place in ("[*:3]", "[*:4]"):
        text = joined(text.replace(place, "[*:9]"), str(random.choice(PIECES["polar"])))
    return text


def starts(smiles: str, n_poses: int, random: np.random.Generator) -> list[Any]:
    """A minimum of MMFF94s, and poses of it."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    settings = AllChem.ETKDGv3()
    settings.randomSeed = int(random.integers(2**31 - 1))
    if not set(symbols) <= ELEMENTS or not AllChem.MMFFHasAllMoleculeParams(molecule):
        return []
    if AllChem.EmbedMolecule(molecule, settings) != 0:
        return []
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    positions = [molecule.GetConformer().GetPositions()]
    positions += [pose for _ in range(n_poses) if (pose := turned(molecule, random)) is not None]
    return [
        Atoms(symbols, place, info={"smiles": smiles, "trajectory": f"{smiles}#{number}"})
        for number, place in enumerate(positions)
    ]


def turned(molecule: Any, random: np.random.Generator) -> Any:
    """Positions with every torsion turned, atoms at least 0.93 Å apart; None if no turn does it."""
    from rdkit import Chem
    from rdkit.Chem import rdMolTransforms
    from scipy.spatial.distance import pdist

    matches = molecule.GetSubstructMatches(Chem.MolFromSmarts(ROTATABLE))
    torsions = {tuple(sorted(match[1:3])): match for match in matches}.values()
    for _ in range(100):
        pose = Chem.Mol(molecule)
        for torsion in torsions:
            angle = rdMolTransforms.GetDihedralDeg(pose.GetConformer(), *torsion)
            stiff = pose.GetBondBetweenAtoms(torsion[1], torsion[2]).GetIsConjugated()
            turn = random.choice([-1, 1]) * (random.uniform(15, 90) if stiff else random.uniform(40, 120))
            rdMolTransforms.SetDihedralDeg(pose.GetConformer(), *torsion, angle + turn)
        positions = pose.GetConformer().GetPositions()
        if pdist(positions).min() > 0.93:
            return positions
    return None


def relaxed(atoms: Any, calculator: Any, steps: int) -> list[Any]:
    """Frames of a relaxation: the start, some on the way, the last."""
    from ase.optimize import BFGS

    atoms.calc = calculator
    frames = [bare(atoms)]
    wanted = {2, 5, 10, 20, 40}
    for number, _ in enumerate(BFGS(atoms, logfile=None, maxstep=0.1).irun(fmax=0.03, steps=steps)):
        if number in wanted:
            frames.append(bare(atoms))
    frames.append(bare(atoms))
    atoms.calc = None
    return frames


if __name__ == "__main__":
    main()

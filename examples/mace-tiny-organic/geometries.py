"""Geometries of drug-like fragments (H, C, N, O, F, S, Cl), to be labelled and learned from.

    python geometries.py --to geometries --molecules 1200 --seed 0

Molecules are put together from ring systems, linkers and substituents by RDKit, and dipeptides and chains
stand beside them. Conformers come from ETKDGv3 (half of them with one torsion turned at random), are
relaxed for a few steps with GFN2-xTB, and move for a short while in its molecular dynamics at 300 to 800
K. Writes ``train.extxyz``, ``test.extxyz`` (molecules whose Bemis-Murcko scaffold is in no training
molecule) and ``small.extxyz`` (few atoms: the ones to label by DFT); no labels yet. Molecules of
``--without`` (SMILES, one a line) are left out of everything.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rdkit.rdBase import BlockLogs

_FILE = Path(__file__).with_name("fragments.yaml")
PIECES: dict[str, list[str]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
"""Ring systems, linkers, ends and whole chains."""

DIRECT = "-"
ELEMENTS = {"H", "C", "N", "O", "F", "S", "Cl"}


def main() -> None:
    """Parse, build, move, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=Path("geometries"))
    parser.add_argument("--molecules", type=int, default=1200)
    parser.add_argument("--heavy", type=int, default=15, help="most heavy atoms of a molecule")
    parser.add_argument("--without", type=Path, help="SMILES to leave out, one a line")
    parser.add_argument("--conformers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8, help="of a conformer's dynamics")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    block = BlockLogs()  # molzip speaks of every place that is still open
    random = np.random.default_rng(told.seed)
    molecules = build(told.molecules, told.heavy, left_out(told.without), random)
    for n_done, smiles in enumerate(molecules):
        frames = frames_of(smiles, told, random)
        write(told.to / f"{part_of(smiles)}.extxyz", frames)
        if part_of(smiles) == "train" and frames and len(frames[0]) <= 14:
            write(told.to / "small.extxyz", frames[:: max(1, told.frames // 4)])
        if n_done % 20 == 0:
            print(n_done, smiles, flush=True)
    del block


def left_out(file: Path | None) -> set[str]:
    """Canonical SMILES that must be nowhere in the data."""
    from rdkit import Chem

    lines = file.read_text().split() if file else []
    return {Chem.CanonSmiles(line) for line in lines}


def build(n: int, heavy: int, without: set[str], random: np.random.Generator) -> list[str]:
    """The chains, then molecules put together at random until there are ``n``; canonical SMILES."""
    from rdkit import Chem

    found = {Chem.CanonSmiles(smiles): None for smiles in PIECES["chains"]}
    while len(found) < n:
        smiles = assembled(random)
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None or molecule.GetNumHeavyAtoms() > heavy:
            continue
        found.setdefault(Chem.MolToSmiles(molecule))
    return [smiles for smiles in found if smiles not in without]


def assembled(random: np.random.Generator) -> str:
    """One or two ring systems (or a chain's end), joined by a linker, every open place filled."""
    rings = [str(random.choice(PIECES["rings"])) for _ in range(1 if random.random() < 0.5 else 2)]
    text = rings[0]
    if len(rings) == 2:
        linker = str(random.choice(PIECES["linkers"]))
        second = rings[1].replace("[*:1]", "[*:4]").replace("[*:2]", "[*:5]")
        if "[*:1]" not in rings[0] or "[*:4]" not in second:
            return ""
        text = linked(text.replace("[*:1]", "[*:3]"), linker, second)
    for place in ("[*:1]", "[*:2]", "[*:5]"):
        if place in text:
            text = joined(text.replace(place, "[*:9]"), str(random.choice(PIECES["ends"])))
    return text


def linked(one: str, linker: str, other: str) -> str:
    """Two ring systems with a linker between them, or bound to each other."""
    if linker == DIRECT:
        return joined(one, other.replace("[*:4]", "[*:3]"))
    return joined(joined(one, linker), other)


def joined(one: str, other: str) -> str:
    """Two fragments bound where they carry the same number."""
    from rdkit import Chem

    if not one or not other:
        return ""
    pair = Chem.MolFromSmiles(f"{one}.{other}")
    return Chem.MolToSmiles(Chem.molzip(pair)) if pair is not None else ""


def part_of(smiles: str) -> str:
    """``train`` or ``test``: a tenth of the scaffolds with two rings or more is never trained on."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors
    from rdkit.Chem.Scaffolds import MurckoScaffold

    scaffold = MurckoScaffold.MurckoScaffoldSmiles(smiles)
    if not scaffold or rdMolDescriptors.CalcNumRings(Chem.MolFromSmiles(scaffold)) < 2:
        return "train"
    return "test" if hashlib.sha256(scaffold.encode()).digest()[0] < 26 else "train"


def frames_of(smiles: str, told: argparse.Namespace, random: np.random.Generator) -> list[Any]:
    """Frames of all conformers of a molecule; none if RDKit or xTB gives up on it."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    if not set(symbols) <= ELEMENTS:
        return []
    settings = AllChem.ETKDGv3()
    settings.randomSeed = int(random.integers(2**31 - 1))
    ids = list(AllChem.EmbedMultipleConfs(molecule, told.conformers, settings))
    if not ids or not AllChem.MMFFHasAllMoleculeParams(molecule):
        return []
    AllChem.MMFFOptimizeMoleculeConfs(molecule)
    frames = []
    for number in ids:
        if number % 2:
            turn(molecule, number, random)
        atoms = Atoms(symbols, molecule.GetConformer(number).GetPositions())
        atoms.info.update(smiles=smiles, trajectory=f"{smiles}#{number}")
        frames += moved(atoms, told.frames, random)
    return frames


def turn(molecule: Any, number: int, random: np.random.Generator) -> None:
    """One rotatable bond of a conformer by a random angle."""
    from rdkit import Chem
    from rdkit.Chem import rdMolTransforms

    bonds = molecule.GetSubstructMatches(Chem.MolFromSmarts("[!$([D1])]~[!$([D1])]-;!@[!$([D1])]~[*]"))
    if bonds:
        bond = bonds[random.integers(len(bonds))]
        rdMolTransforms.SetDihedralDeg(molecule.GetConformer(number), *bond, float(random.uniform(-180, 180)))


def moved(atoms: Any, n_frames: int, random: np.random.Generator) -> list[Any]:
    """A few steps of relaxation, then Langevin dynamics; frames along both."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.optimize import BFGS
    from tblite.ase import TBLite

    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    temperature = float(random.choice([300, 500, 800]))
    frames = []
    try:
        for _ in BFGS(atoms, logfile=None).irun(fmax=0.05, steps=12):
            pass
        frames.append(bare(atoms))
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=random)
        dynamics = Langevin(atoms, units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=random)
        for _ in itertools.repeat(None, n_frames - 1):
            dynamics.run(7)
            frames.append(bare(atoms))
    except Exception as error:
        print(f"{atoms.info['smiles']}: {type(error).__name__}: {error}", flush=True)
    atoms.calc = None
    return frames


def bare(atoms: Any) -> Any:
    """Positions and origin, no velocities, no results."""
    from ase import Atoms

    return Atoms(atoms.numbers, atoms.positions.copy(), info=dict(atoms.info))


def write(file: Path, frames: list[Any]) -> None:
    """Append."""
    import ase.io

    if frames:
        ase.io.write(file, frames, append=True, format="extxyz")


if __name__ == "__main__":
    main()

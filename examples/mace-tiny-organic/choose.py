"""Frames of a file, spread over its molecules: the ones that a dear method labels.

    python choose.py geometries/train.extxyz --to chosen.extxyz --per-molecule 2 --max-atoms 20 --seed 0

Molecules in random order, each with as many of its frames as asked for, so that labels may stop anywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Parse, choose, write."""
    import ase.io

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--per-molecule", type=int, default=2)
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    random = np.random.default_rng(told.seed)
    molecules: dict[str, list[Any]] = {}
    for atoms in ase.io.iread(told.file, ":"):
        if len(atoms) <= told.max_atoms:
            molecules.setdefault(atoms.info["smiles"], []).append(atoms)
    names = sorted(molecules)
    chosen: list[Any] = []
    for place in random.permutation(len(names)):
        frames = molecules[names[place]]
        wanted = random.permutation(len(frames))[: told.per_molecule]
        chosen += [frames[number] for number in wanted]
    ase.io.write(told.to, chosen, format="extxyz")
    print(f"{len(chosen)} frames of {len(names)} molecules")


if __name__ == "__main__":
    main()

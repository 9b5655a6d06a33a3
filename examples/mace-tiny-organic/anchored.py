"""Labels of pairs with the mean of each pair where a model has it: only the difference is left to learn.

    python anchored.py strained.lmdb --model mace-tiny-organic --to anchored.extxyz --hold-out 15

Two frames that follow each other and hold the same molecule are a pair. What a molecule is worth in all is no
part of its strain, and a network that is off by 2 kcal/mol in all would spend its steps on that; forces stay
as they are. The last ``--hold-out`` pairs go to ``held.extxyz`` beside the target.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Parse, read, move, write."""
    import ase.io

    from atomml import AtomMLCalculator, load_model
    from atomml.data.dataset import open_dataset
    from atomml.data.label_keys import LabelKeys

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--model", default="mace-tiny-organic")
    parser.add_argument("--hold-out", type=int, default=15)
    told = parser.parse_args()
    calculator = AtomMLCalculator(load_model(told.model))
    data = open_dataset([str(file) for file in told.files], LabelKeys())
    entries = list(data)
    pairs = [
        [anchored(entry, off) for entry in pair]
        for pair in pairwise(entries)
        if (off := offset(pair, calculator)) is not None
    ]
    n_kept = len(pairs) - told.hold_out
    for file, part in ((told.to, pairs[:n_kept]), (told.to.with_name("held.extxyz"), pairs[n_kept:])):
        ase.io.write(file, [frame for pair in part for frame in pair], format="extxyz")
    print(f"{n_kept} pairs, {told.hold_out} held out")


def offset(pair: Any, calculator: Any) -> float | None:
    """Mean energy by the model over that by the labels, eV; None of two molecules."""
    first, second = (entry.atoms for entry in pair)
    same = first.info.get("smiles") == second.info.get("smiles")
    if not same or not np.array_equal(first.numbers, second.numbers):
        return None
    return float(np.mean([energy(entry.atoms, calculator) - entry.labels.energy for entry in pair]))


def energy(atoms: Any, calculator: Any) -> float:
    """By the model, eV."""
    asked = atoms.copy()
    asked.calc = calculator
    return float(asked.get_potential_energy())


def anchored(entry: Any, off: float) -> Any:
    """The frame with its labels, the energy moved."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(entry.atoms.numbers, entry.atoms.positions, info={"smiles": entry.atoms.info["smiles"]})
    labels = {"energy": entry.labels.energy + off}
    if entry.labels.forces is not None:
        labels["forces"] = entry.labels.forces
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


if __name__ == "__main__":
    main()

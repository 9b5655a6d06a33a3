"""How well a label of a Hamiltonian is defined: the same molecule turned, on a finer grid, converged further.

    python benchmarks/hamiltonian_label_noise.py [--molecules water ethanol malonaldehyde] [--turns 4]

PBE/def2-SVP by the labelling engine. Turned: the matrix of the turned molecule is turned back and compared
with that of the molecule as it was; what differs is the grid, which does not turn with the molecule, and the
SCF. Finer: the same molecule on PySCF's grid level 6. Tighter: converged to 1e-13 Eh instead of the default.
Mean absolute differences over all elements of the matrix, and the largest, in µEh; means over the turns.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from hamiltonian_learning import SMILES
from machine import describe, limit_threads

FUNCTIONAL, BASIS = "pbe", "def2-svp"


def main() -> None:
    """Parse, label, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", nargs="*", default=["water", "ethanol"], choices=list(SMILES))
    parser.add_argument("--grids", nargs="*", type=int, default=[1, 3, 5], help="levels that are turned")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    limit_threads(told.threads)
    warnings.simplefilter("ignore")
    describe("pyscf")
    import numpy as np

    print("\n| | grid level | what differs | mean, µEh | largest, µEh | energy, µEh |")
    print("|---|---|---|---|---|---|")
    for name in told.molecules:
        atoms = molecule(SMILES[name])
        fine = labelled(atoms, 6, 1e-13)
        for grid in told.grids:
            still, tight = labelled(atoms, grid), labelled(atoms, grid, 1e-13)
            turned = [turned_back(atoms, grid, seed) for seed in range(told.turns)]
            apart = np.mean([difference(one, still) for one in turned], axis=0)
            print(row(name, grid, "turned", apart))
            print(row(name, grid, "converged to 1e-13 Eh", difference(tight, still)))
            print(row(name, grid, "grid level 6", difference(fine, tight)), flush=True)


def row(name: str, grid: int, what: str, apart: Any) -> str:
    """A line of the table."""
    return f"| {name} | {grid} | {what} | " + " | ".join(f"{value:.2g}" for value in apart) + " |"


def molecule(smiles: str) -> Any:
    """A minimum of MMFF94s."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    found = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(found, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(found, mmffVariant="MMFF94s")
    symbols = [atom.GetSymbol() for atom in found.GetAtoms()]
    return Atoms(symbols, found.GetConformer().GetPositions())


def labelled(atoms: Any, grid: int, tolerance: float | None = None) -> tuple[Any, float]:
    """The matrix and the energy, Eh."""
    from ase.units import Hartree

    from atomml.data.label import LabelSettings, engine_of

    settings: dict[str, Any] = {"grid": grid, "hamiltonian": True, "prior": "none"}
    if tolerance is not None:
        settings["conv_tol"] = tolerance
    found = engine_of(f"{FUNCTIONAL}/{BASIS}", LabelSettings(**settings)).label(atoms)
    assert found.labels.energy is not None
    return found.matrices["hamiltonian"], found.labels.energy / Hartree


def turned_back(atoms: Any, grid: int, seed: int) -> tuple[Any, float]:
    """The matrix of the molecule after a random rotation, turned back."""
    from scipy.spatial.transform import Rotation

    from atomml.electronic.orbital_levels import shells_of_basis
    from atomml.electronic.rotation import rotate_matrix

    rotation = Rotation.random(rng=seed).as_matrix()
    moved = atoms.copy()
    moved.positions = moved.positions @ rotation.T
    matrix, energy = labelled(moved, grid)
    shells = [shells_of_basis(BASIS, int(number)) for number in atoms.numbers]
    return rotate_matrix(matrix, shells, rotation.T), energy


def difference(one: tuple[Any, float], other: tuple[Any, float]) -> tuple[float, float, float]:
    """Mean and largest of the matrix, and that of the energy, µEh."""
    import numpy as np

    apart = np.abs(one[0] - other[0])
    return 1e6 * float(apart.mean()), 1e6 * float(apart.max()), 1e6 * abs(one[1] - other[1])


if __name__ == "__main__":
    main()

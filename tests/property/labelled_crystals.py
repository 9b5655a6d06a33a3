"""Labelled crystals made from a formula, and small networks, that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

METALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Rb", "Ba")
OTHERS = ("O", "S", "Se", "Te", "F", "Cl", "Br", "I")
SHAPE: dict[str, dict[str, Any]] = {
    "cgcnn": {"channels": 16, "hidden": 16, "convolutions": 2},
    "alignn": {"channels": 16, "embedding": 8, "line_layers": 1, "layers": 1},
    "fcnn": {"hidden": [32]},
    "xgboost": {"depth": 3},
}


def labelled_crystals(n: int, seed: int = 0) -> list[Atoms]:
    """Rocksalt and caesium-chloride crystals; ``gap`` follows from elements and volume, ``kind`` from it."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        metal, other = METALS[rng.integers(len(METALS))], OTHERS[rng.integers(len(OTHERS))]
        a = rng.uniform(4.5, 7.0)
        atoms = (
            bulk(metal + other, "rocksalt", a)
            if rng.random() < 0.5
            else bulk(metal + other, "cesiumchloride", 0.62 * a)
        )
        heavy = float(atoms.numbers.sum())
        gap = 30.0 / a - 0.03 * heavy + 3.0
        atoms.info |= {
            "id": f"s{seed}-{number}",
            "gap": gap,
            "positive": float(np.exp(gap / 2)),
            "kind": "wide" if gap > 6.5 else "narrow",
        }
        if number % 3 == 0:
            del atoms.info["positive"]
        found.append(atoms)
    return found

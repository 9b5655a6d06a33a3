"""Structures and weights of CGCNN and ALIGNN that both sides make from seeds, in two environments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray

__all__ = ["NETWORKS", "draw_inputs", "draw_weights", "structures"]

NETWORKS = {"regression": {}, "deep": {"hidden_layers": 2}, "classes": {}}
"""CGCNNs: the published shape, one with two hidden layers, one with classes."""


def structures() -> dict[str, Atoms]:
    """Crystals whose atoms have at least twelve neighbours within 8 Å; in two of them distances tie.

    No atom is among its own nearest neighbours: ALIGNN's public code counts such an edge twice, so that its
    answer depends on the choice of the cell.
    """
    rng = np.random.default_rng(2018)
    found = {
        "NaCl": bulk("NaCl", "rocksalt", 5.64, cubic=True),
        "Si": bulk("Si", "diamond", 5.43, cubic=True),
    }
    skewed = Atoms("LiCoO2TiS", cell=[[5.1, 0.3, 0.1], [0.9, 5.6, -0.4], [1.3, 0.7, 6.2]], pbc=True)
    skewed.set_scaled_positions(
        rng.random((6, 3)) * 0.12
        + [[0, 0, 0], [0.5, 0, 0.1], [0, 0.5, 0.3], [0.5, 0.5, 0.5], [0.1, 0.2, 0.7], [0.6, 0.6, 0.8]]
    )
    found["skewed"] = skewed
    rattled = bulk("CsCl", "cesiumchloride", 4.12) * (2, 2, 2)
    rattled.rattle(0.15, seed=3)
    found["rattled"] = rattled
    return found


def draw_inputs() -> NDArray[np.float64]:
    """``(101, 92)`` by atomic number, zeros and some nine ones: inputs of elements for both sides."""
    return (np.random.default_rng(92).random((101, 92)) < 0.1).astype(np.float64)


def draw_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float64]]:
    """A value for each tensor, by name in order; variances are positive, counters are left out."""
    drawn: dict[str, NDArray[np.float64]] = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        rng = np.random.default_rng([seed, number])
        if name.endswith("running_var"):
            drawn[name] = rng.uniform(0.5, 2.0, shape)
        elif len(shape) == 1:
            drawn[name] = rng.uniform(-0.5, 0.5, shape) + (1.0 if ("bn" in name or "norm" in name) else 0.0)
        else:
            drawn[name] = rng.standard_normal(shape) * np.sqrt(0.5 / sum(shape))
    return drawn

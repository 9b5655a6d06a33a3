"""What fresh weights should know of data before the first step: how many neighbours, how large forces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomml.data.dataset import Dataset
from atomml.graph import GraphBuilder

__all__ = ["Scales", "scales_of"]

_SAMPLE = 200


@dataclass(frozen=True)
class Scales:
    """Means over a data set.

    Attributes:
        neighbours: Mean number of neighbours of an atom.
        force: Root mean square of force components, eV/Å; None without forces.
    """

    neighbours: float
    force: float | None


def scales_of(dataset: Dataset, cutoff: float) -> Scales:
    """Over up to 200 structures, evenly spaced."""
    n = len(dataset)
    places = sorted({i * n // _SAMPLE for i in range(_SAMPLE)}) if n > _SAMPLE else range(n)
    build = GraphBuilder(cutoff)
    atoms = edges = 0
    forces = []
    for place in places:
        entry = dataset[place]
        graph = build(entry.atoms, entry.where)
        atoms, edges = atoms + graph.n_atoms, edges + graph.n_edges
        if entry.labels.forces is not None:
            forces.append(np.ravel(entry.labels.forces))
    size = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 0.0
    return Scales(edges / max(atoms, 1), size or None)

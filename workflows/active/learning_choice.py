"""Which frames are worth a label: uncertain ones, different from each other and from those known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.committee import Committee
    from atomml.graph.atom_graph import AtomGraph
    from atomml.model import Potential

__all__ = ["descriptors", "farthest", "uncertainties"]

_AT_ONCE = 32


def uncertainties(committee: Committee, structures: Sequence[Atoms]) -> NDArray[np.float64]:
    """Largest spread of the force on any atom of each structure, ``(n_structures,)`` eV/Å."""
    found = []
    for start in range(0, len(structures), _AT_ONCE):
        graph = _graph(committee, structures[start : start + _AT_ONCE])
        for one in committee.predict(graph, stress=False).split(graph):
            assert one.forces_std is not None
            found.append(float(one.forces_std.max()))
    return np.array(found)


def descriptors(model: Potential, structures: Sequence[Atoms]) -> NDArray[np.float64]:
    """Mean and spread over atoms of what the model sees of them, ``(n_structures, 2 n_channels)``.

    Learned features where the model gives them; else energies of atoms.
    """
    found = []
    for start in range(0, len(structures), _AT_ONCE):
        graph = _graph(model, structures[start : start + _AT_ONCE])
        for one in model.predict(graph, forces=False, stress=False).split(graph):
            seen = one.site_energies[:, None] if one.atom_features is None else one.atom_features
            values = seen.double().cpu().numpy()
            found.append(np.concatenate([values.mean(axis=0), values.std(axis=0)]))
    return np.array(found)


def farthest(
    candidates: NDArray[np.float64],
    weights: NDArray[np.float64],
    known: NDArray[np.float64],
    n: int,
) -> list[int]:
    """Farthest-point sampling that begins with the heaviest candidate.

    Each next one is that whose distance to the nearest of the chosen and known ones is largest (Gonzalez,
    Theor. Comput. Sci. 38, 293, 1985), the first of equal ones; copies of what is chosen or known never come.

    Args:
        candidates: ``(n_candidates, n_features)``.
        weights: ``(n_candidates,)``.
        known: ``(n_known, n_features)``, n_known may be 0.
        n: How many, at most.
    """
    everything = np.concatenate([candidates, known.reshape(-1, candidates.shape[1])])
    scale = everything.std(axis=0)
    scale = np.where(scale > 1e-12 * max(float(scale.max()), 1e-300), scale, 1.0)
    points, others = candidates / scale, known.reshape(-1, candidates.shape[1]) / scale
    nearest = np.full(len(points), np.inf)
    for other in others:
        nearest = np.minimum(nearest, np.linalg.norm(points - other, axis=1))
    chosen: list[int] = []
    while len(chosen) < min(n, len(points)):
        free = np.where(np.isin(np.arange(len(points)), chosen), -np.inf, nearest)
        best = int(np.argmax(weights)) if not chosen else int(np.argmax(free))
        if not chosen or free[best] > 1e-6:
            chosen.append(best)
            nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
        else:
            break
    return chosen


def _graph(model: Potential, structures: Sequence[Atoms]) -> AtomGraph:
    from atomml.graph import GraphBuilder
    from atomml.graph.batching import collate

    build = GraphBuilder(model.info.cutoff, model.info.bond_cutoff)
    return collate([build(atoms, f"frame {k}") for k, atoms in enumerate(structures)]).to(model.device)

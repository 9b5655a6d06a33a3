"""What every fast path ends with: arrays of the kernels put together as a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Prediction, virial_to_stress

__all__ = ["assemble"]


def assemble(
    graph: AtomGraph,
    site: Tensor,
    features: NDArray[Any],
    pooled: NDArray[Any],
    derivatives: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    wanted: tuple[bool, bool],
    **extras: Tensor,
) -> Prediction:
    """The prediction of a graph.

    Not by torch's sums where numpy's do: torch's threads would linger on the processors that ours need next.

    Args:
        graph: One structure or a batch.
        site: ``(n_atoms,)`` float64 eV, references included.
        features: ``(n_atoms, n)`` of atoms.
        pooled: ``(n_atoms, m)`` whose sums over a structure are its features.
        derivatives: Forces ``(n_atoms, 3)`` and each atom's share of dE/d(strain) ``(n_atoms, 3, 3)``; None
            if none were asked for.
        wanted: Whether forces and stress are.
        extras: Other fields.
    """
    total = torch.zeros(graph.n_graphs, dtype=torch.float64).index_add_(0, graph.batch, site)
    first_atoms = np.searchsorted(graph.batch.numpy(), np.arange(graph.n_graphs))
    strain_gradient = torch.zeros((graph.n_graphs, 3, 3), dtype=torch.float64)
    if derivatives is not None:
        strain_gradient.index_add_(0, graph.batch, torch.from_numpy(derivatives[1]))
    return Prediction(
        energy=total,
        site_energies=site,
        forces=torch.from_numpy(derivatives[0]) if wanted[0] and derivatives is not None else None,
        stress=virial_to_stress(strain_gradient, graph) if wanted[1] else None,
        atom_features=torch.from_numpy(features),
        crystal_features=torch.from_numpy(np.add.reduceat(pooled, first_atoms, axis=0)),
        **extras,
    )

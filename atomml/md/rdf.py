"""Partial radial distribution functions, accumulated frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from atomml.md.state import Array, System

__all__ = ["RadialDistribution"]


class RadialDistribution:
    """``g_ab(r)`` of every pair of elements, by ``V n_ab(r) / (N_a N_b 4π r² dr)`` averaged over frames.

    Periodic in all directions only; an atom's own images count, as they do in a crystal.

    Args:
        numbers: ``(n,)`` atomic numbers.
        cutoff: Largest distance, Å.
        n_bins: Number of bins.
    """

    def __init__(self, numbers: NDArray[np.int64], cutoff: float, n_bins: int) -> None:
        self.cutoff = cutoff
        self.n_bins = n_bins
        self._elements, kinds = np.unique(numbers, return_inverse=True)
        self._counts = np.bincount(kinds)
        self._kinds = kinds.astype(np.int64)
        self._histogram: Array = np.zeros((len(self._elements), len(self._elements), n_bins))
        self._frames = 0.0

    @property
    def n_frames(self) -> int:
        """Number of frames so far."""
        return int(self._frames)

    @property
    def radii(self) -> Array:
        """``(n_bins,)`` centres of the bins, Å."""
        return np.array([(index + 0.5) * self.cutoff / self.n_bins for index in range(self.n_bins)])

    def add(self, system: System) -> None:
        """Count the pairs of one frame."""
        from atomml.graph.neighbours import find_edges

        edges = find_edges(system.positions, system.cell, system.pbc, self.cutoff)
        first, second = edges.index
        vectors: Array = system.positions[second] - system.positions[first] + edges.shift @ system.cell
        distances = np.sqrt((vectors * vectors).sum(axis=1))
        n_kinds = len(self._elements)
        bins = np.minimum((distances * (self.n_bins / self.cutoff)).astype(np.int64), self.n_bins - 1)
        kinds = self._kinds[first] * n_kinds + self._kinds[second]
        counted = np.bincount(kinds * self.n_bins + bins, minlength=n_kinds * n_kinds * self.n_bins)
        self._histogram = self._histogram + system.volume * counted.reshape(self._histogram.shape)
        self._frames += 1.0

    def curves(self) -> dict[str, Array]:
        """``g(r)`` by pair of elements (``Li-O``), each ``(n_bins,)``; empty without frames."""
        if not self._frames:
            return {}
        edges = np.linspace(0.0, self.cutoff, self.n_bins + 1)
        shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        found = {}
        for a, b in combinations_with_replacement(range(len(self._elements)), 2):
            ideal = self._counts[a] * self._counts[b] * shells * self._frames
            name = "-".join(chemical_symbols[int(self._elements[kind])] for kind in (a, b))
            found[name] = self._histogram[a, b] / ideal
        return found

    def arrays(self) -> dict[str, Array]:
        """The whole state."""
        return {"rdf_histogram": self._histogram.copy(), "rdf_frames": np.array([self._frames])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._histogram = np.array(arrays["rdf_histogram"])
        self._frames = float(arrays["rdf_frames"][0])

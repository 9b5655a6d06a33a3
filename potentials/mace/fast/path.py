"""The fast path of a MACE: from a graph to a prediction on the CPU, in float32."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.edges import edge_vectors, forces_and_virial
from atomml.kernels.prediction import assemble
from atomml.kernels.threads import run_ranges, split_tapered, split_weighted
from atomml.model import Prediction
from atomml.potentials.mace.fast.geometry import N_HARMONICS, edge_forces, place_edges
from atomml.potentials.mace.fast.layer import Edges, FoldedLayer, Kept
from atomml.potentials.mace.fast.linear import Array
from atomml.potentials.mace.fast.readout import FoldedReadout
from atomml.potentials.mace.fast.splines import N_KNOTS, SplineTables
from atomml.potentials.mace.interaction import Interaction
from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.model import MACE
from atomml.potentials.mace.product import Product

__all__ = ["FastMACE"]

_EDGES = 64
"""Edges of the shortest range of a kernel over atoms; a kernel over edges has 16 times as many."""

Doubles = NDArray[np.float64]


class FastMACE:
    """Energy, forces and stress of a MACE, without autograd.

    Args:
        model: Its weights are folded as they are now.
    """

    def __init__(self, model: MACE) -> None:
        self.model, self.config = model, model.config
        self.head = model.config.head_index
        self.scale, self.shift = float(model.scale[self.head]), float(model.shift[self.head])
        self.splines = SplineTables(model)
        self.layers: list[FoldedLayer] = []
        self.readouts: list[FoldedReadout | None] = []
        features = [Block(0, 1, model.embedding.shape[1])]
        parts = zip(model.interactions, model.products, model.readouts, strict=True)
        for interaction, product, readout in parts:
            assert isinstance(interaction, Interaction)
            assert isinstance(product, Product)
            self.layers.append(FoldedLayer(interaction, product, features))
            absent = isinstance(readout, nn.Identity)
            self.readouts.append(None if absent else FoldedReadout(readout, self.head))
            features = self.layers[-1].outputs
        self.embedding = (model.embedding.detach() / math.sqrt(len(model.embedding))).numpy()

    @staticmethod
    def supports(model: MACE) -> bool:
        """Whether the kernels cover this model: float32 on the CPU, up to degree 3 and order 3."""
        config = model.config
        return (
            model.device.type == "cpu"
            and model.dtype == torch.float32
            and config.max_degree <= 3
            and max(config.correlations) <= 3
            and config.head is not None
            and all(isinstance(interaction, Interaction) for interaction in model.interactions)
        )

    def __call__(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction; derivatives come together, or none where neither is wanted."""
        rows = self.model._row[graph.numbers]
        edges, vectors, distances = self._edges(graph, rows.numpy())
        levels, kept = [self.embedding[rows.numpy()]], []
        for layer, table in zip(self.layers, self.splines.tables, strict=True):
            features, one = layer.forwards(levels[-1], edges, table)
            levels.append(features)
            kept.append(one)
        scalars = [features[: graph.n_atoms] for features in levels[1:]]
        site = kept[0].repulsion.astype(np.float64)
        for readout, values in zip(self.readouts, scalars, strict=True):
            if readout is not None:
                site += readout(values)
        each = torch.from_numpy(self.scale * site + self.shift) + self.model.reference[self.head, rows]
        derivatives = None
        if forces or stress:
            derivatives = (np.zeros((graph.n_atoms, 3)), np.zeros((graph.n_atoms, 3, 3)))
            if graph.n_edges:
                self._backwards(levels, kept, edges)
                derivatives = self._forces(graph, edges, vectors, distances)
        described = np.concatenate(scalars, axis=1)
        return assemble(graph, each, described, described, derivatives, (forces, stress))

    def _edges(self, graph: AtomGraph, rows: NDArray[np.int64]) -> tuple[Edges, Doubles, Doubles]:
        """What kernels need, vectors and lengths."""
        self.splines.cover(rows)
        n_edges, n_threads = graph.n_edges, torch.get_num_threads()
        centre, neighbour = graph.edge_index.numpy()
        start = np.zeros(graph.n_atoms + 1, np.int64)
        np.cumsum(np.bincount(centre, minlength=graph.n_atoms), out=start[1:])
        vectors, distances = np.empty((n_edges, 3)), np.empty(n_edges)
        knots, fractions = np.empty(n_edges, np.int64), np.empty(n_edges, np.float32)
        harmonics = np.empty((n_edges, N_HARMONICS), np.float32)
        ranges, index = split_tapered(n_edges, n_threads, 16 * _EDGES), graph.edge_index.numpy()
        frame = (graph.positions.detach().numpy(), graph.cell.detach().numpy(), graph.batch.numpy())
        run_ranges(edge_vectors, ranges, *frame, index, graph.edge_shift.numpy(), vectors, distances)
        run_ranges(
            place_edges,
            ranges,
            *(vectors, distances, index, rows, self.splines.pair_table, self.splines.spacing, N_KNOTS),
            *(knots, fractions, harmonics),
        )
        edges = Edges(
            bounds=split_weighted(start, n_threads, _EDGES),
            start=start,
            neighbour=np.ascontiguousarray(neighbour),
            knots=knots,
            fractions=fractions,
            harmonics=harmonics,
            spacing=self.splines.spacing,
            groups=[(int(row), np.flatnonzero(rows == row)) for row in np.unique(rows)],
            radial=np.zeros(n_edges, np.float32),
            angular=np.zeros((n_edges, N_HARMONICS), np.float32),
        )
        return edges, vectors, distances

    def _backwards(self, levels: list[Array], kept: list[Kept], edges: Edges) -> None:
        """Add up the derivatives of the energy with respect to edges."""
        n = edges.n_atoms
        above: Array | None = None
        for number in reversed(range(len(self.layers))):
            slope = np.zeros_like(levels[number + 1]) if above is None else above
            readout = self.readouts[number]
            if readout is not None:
                slope[:n] += self.scale * readout.back(levels[number + 1][:n])
            above = self.layers[number].backwards(
                slope,
                self.scale if number == 0 else 0.0,
                kept[number],
                edges,
                self.splines.tables[number],
                to_features=number > 0,
            )

    def _forces(
        self, graph: AtomGraph, edges: Edges, vectors: Doubles, distances: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Forces ``(n_atoms, 3)`` and dE/dstrain of each atom ``(n_atoms, 3, 3)``."""
        forces, virial = np.empty((graph.n_atoms, 3)), np.empty((graph.n_atoms, 3, 3))
        gradient = np.empty_like(vectors)
        run_ranges(
            edge_forces,
            split_tapered(graph.n_edges, torch.get_num_threads(), 16 * _EDGES),
            *(vectors, distances, edges.radial, edges.angular, gradient),
        )
        reverse = graph.edge_reverse.numpy()
        run_ranges(forces_and_virial, edges.bounds, edges.start, reverse, vectors, gradient, forces, virial)
        return forces, virial

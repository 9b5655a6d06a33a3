"""The programme of the fast path: which kernel runs when, forwards and back.

Forwards keeps the features of each layer, backwards multiplies them by the weights again: what an angle's
non-linearity saw is three times as wide as its features, and moving it costs more than the product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.arena import Arena
from atomml.kernels.edges import edge_vectors, forces_and_virial
from atomml.kernels.gemm import BLOCK
from atomml.kernels.linear import project_rows
from atomml.kernels.threads import run_ranges, split_tapered, split_weighted
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.fast import angles, atoms, edges, geometry
from atomml.potentials.dpa3.fast.weights import FoldedLayer, FoldedWeights
from atomml.potentials.dpa3.surroundings import COSINE_SHRINK, LENGTH_PROTECTION

__all__ = ["Run"]

Array = NDArray[Any]

TINY = 600
"""Edges below which a phase is not split at all: calling for help costs more than it saves."""


class Run:
    """One evaluation: its arrays, the forward programme and the way back.

    Attributes:
        energies: ``(n_atoms,)`` float64, eV, without the reference; after :meth:`forwards`.
        levels: ``(n_atoms, n)`` features of the atoms before the first layer and after each.
    """

    def __init__(
        self,
        weights: FoldedWeights,
        arena: Arena,
        graph: AtomGraph,
        config: DPA3Config,
        rows: NDArray[np.int64],
    ) -> None:
        arena.restart()
        self.arena, self.weights, self.config, self.rows = arena, weights, config, rows
        self.dtype = weights.act.dtype
        self.n_atoms, self.n_edges = graph.n_atoms, graph.n_edges
        self.centre, self.neighbour = (np.ascontiguousarray(end) for end in graph.edge_index.numpy())
        self.reverse = graph.edge_reverse.numpy()
        self.edge_start = _starts(np.bincount(self.centre, minlength=self.n_atoms))
        self.threads = 1 if self.n_edges < TINY else torch.get_num_threads()
        self.by_edges = split_weighted(self.edge_start, self.threads, BLOCK)
        self.edge_ranges = split_tapered(self.n_edges, self.threads, 4 * BLOCK, BLOCK)
        self.atom_ranges = split_tapered(self.n_atoms, self.threads, BLOCK // 4)
        self._measure(graph)
        self._find_angles()
        self._embed()

    def _measure(self, graph: AtomGraph) -> None:
        """Vectors and lengths of edges."""
        self.vectors, self.distances = np.empty((self.n_edges, 3)), np.empty(self.n_edges)
        frame = (graph.positions.detach().numpy(), graph.cell.detach().numpy(), graph.batch.numpy())
        run_ranges(
            edge_vectors, self.edge_ranges, *frame, graph.edge_index.numpy(), graph.edge_shift.numpy(),
            self.vectors, self.distances,
        )  # fmt: skip

    def _find_angles(self) -> None:
        """Bonds, and where the angles of each atom begin."""
        self.bonds = np.flatnonzero(self.distances < self.config.a_rcut)
        self.bond_of = np.full(self.n_edges, -1)
        self.bond_of[self.bonds] = np.arange(len(self.bonds))
        per_atom = np.bincount(self.centre[self.bonds], minlength=self.n_atoms)
        self.bond_start, self.angle_start = _starts(per_atom), _starts(per_atom**2)
        self.most = int(per_atom.max(initial=0))
        self.by_angles = split_weighted(self.angle_start, self.threads, 4 * BLOCK)

    def _embed(self) -> None:
        """Switches, and the first features of edges and angles."""
        config, n = self.config, self.n_edges
        self.edge_cutoffs = np.array([config.e_rcut_smth, config.e_rcut, config.env_protection])
        self.angle_cutoffs = np.array([config.a_rcut_smth, config.a_rcut, LENGTH_PROTECTION])
        self.cosine_scale = COSINE_SHRINK / math.sqrt(math.pi)
        self.weight, self.direction = self._empty(n), self._empty(n, 3)
        self.seen = self._empty(n)
        edge = self._empty(n + BLOCK, config.e_dim)
        run_ranges(
            geometry.embed_edges, self.edge_ranges, self.vectors, self.distances, self.centre, self.rows,
            self.weights.mean, self.weights.deviation, self.edge_cutoffs, config.use_exp_switch,
            config.edge_init_use_dist, self.weights.edge_embedding, self.weights.act, self.weight,
            self.direction, self.seen, edge,
        )  # fmt: skip
        self.edge_levels = [edge]
        self.unit, self.angle_weight = np.empty((len(self.bonds), 3)), self._empty(len(self.bonds))
        self.cosine = self._empty(int(self.angle_start[-1]))
        run_ranges(
            geometry.angle_cosines, self.by_angles, self.bond_start, self.angle_start, self.bonds,
            self.vectors, self.distances, self.angle_cutoffs, config.use_exp_switch, self.cosine_scale,
            self.unit, self.angle_weight, self.cosine,
        )  # fmt: skip
        self.angle_levels = [self._empty(0, config.a_dim)]  # cosines stand for the first

    def forwards(self, embedded: Array) -> None:
        """Site energies, and everything that the way back needs, from the atoms' embeddings."""
        n = self.config.n_dim
        node, ones = self._empty(self.n_atoms, n), np.ones(n, self.dtype)
        run_ranges(atoms.activate, self.atom_ranges, embedded, embedded, 0, n, ones, self.weights.act, node)
        self.levels = [node]
        self.projected: list[Array] = []
        self.kept: list[tuple[Array, Array, Array]] = []
        n_layers = len(self.weights.layers)
        for number, layer in enumerate(self.weights.layers):
            self._layer(number, layer, has_angles=number < n_layers - 1, keeps_angles=number < n_layers - 2)
        self._fit()

    def _layer(self, number: int, layer: FoldedLayer, *, has_angles: bool, keeps_angles: bool) -> None:
        config, node = self.config, self.levels[-1]
        n, e = config.n_dim, config.e_dim
        projected = self._empty(self.n_atoms, len(layer.project_bias))
        run_ranges(project_rows, self.atom_ranges, node, layer.project, layer.project_bias, projected)
        messages, vectors = self._empty(self.n_atoms, n), self._empty(self.n_atoms, 3, e + n)
        edge = self.edge_levels[-1]
        new_edge = self._empty(self.n_edges + BLOCK if has_angles else 0, e)
        run_ranges(
            edges.edge_messages, self.by_edges, self.edge_start,
            *self._edge_arguments(number, layer, projected), layer.rest, messages, vectors, new_edge,
        )  # fmt: skip
        pre_out = self._empty(len(self.bonds) if has_angles else 0, e)
        if has_angles:
            new_angle = self._empty(int(self.angle_start[-1]) + BLOCK if keeps_angles else 0, config.a_dim)
            run_ranges(
                angles.angle_messages, self.by_angles, *self._angle_arguments(number, layer, projected, edge),
                layer.out, layer.out_bias, layer.edge_residual[1], pre_out, new_edge, new_angle,
            )  # fmt: skip
            self.edge_levels.append(new_edge)
            self.angle_levels.append(new_angle)
        pre = self._empty(self.n_atoms, n)
        new_node = np.empty((self.n_atoms, n), self.dtype)  # the last one leaves with the prediction
        run_ranges(
            atoms.atom_update, self.atom_ranges, node, projected, len(layer.project_bias) - n, messages,
            vectors, config.axis_neuron, self._scales(), layer.sym, layer.sym_bias, self.weights.act,
            layer.node_residual, pre, new_node,
        )  # fmt: skip
        self.levels.append(new_node)
        self.projected.append(projected)
        self.kept.append((vectors, pre_out, pre))

    def _edge_arguments(self, number: int, layer: FoldedLayer, projected: Array) -> tuple[Any, ...]:
        """What messages along edges read, forwards and back."""
        none = self._zeros(self.config.n_dim + self.config.e_dim)
        return (
            self.centre, self.neighbour, self.bond_of, self.weight, self.direction, self.edge_levels[number],
            self.levels[number], projected, len(none), layer.edge, none, self.weights.act,
            layer.edge_residual[0],
        )  # fmt: skip

    def _angle_arguments(
        self, number: int, layer: FoldedLayer, projected: Array, edge: Array
    ) -> tuple[Any, ...]:
        """What messages of angles read, forwards and back."""
        config = self.config
        width = config.e_dim + config.a_dim
        column = 2 * (config.n_dim + config.e_dim)
        scale = np.array([config.mean_angles**-0.5], self.dtype)
        return (
            self.bond_start, self.angle_start, self.bonds, self.most, self.angle_weight, edge,
            self.angle_levels[number], self.cosine, number == 0, projected, column, layer.bond,
            self._zeros(2 * width), layer.angle, layer.folded, self.weights.angle_embedding,
            self.weights.act, layer.angle_residual[0], scale,
        )  # fmt: skip

    def _scales(self) -> Array:
        """What products of the surroundings, and messages, are multiplied with."""
        mean = self.config.mean_edges
        return np.array([1 / (3 * mean), 1 / mean], self.dtype)

    def _fit(self) -> None:
        """Energies, and their gradient with respect to the last features."""
        inputs, layers = self.levels[-1], self.weights.fitting
        kept, act = [], self.weights.fitting_act
        for layer in layers:
            pre = self._empty(self.n_atoms, len(layer.bias))
            outputs = self._empty(self.n_atoms, len(layer.bias))
            run_ranges(project_rows, self.atom_ranges, inputs, layer.panels, layer.bias, pre)
            given = (layer.copies, layer.n, layer.step, act)
            run_ranges(atoms.activate, self.atom_ranges, pre, inputs, *given, outputs)
            kept.append(pre)
            inputs = outputs
        last = np.zeros(inputs.shape[1], self.dtype)
        last[: len(self.weights.last)] = self.weights.last
        # numpy's sums of products, not its matrix product: BLAS's threads would linger.
        self.energies = (inputs.astype(np.float64) * last).sum(axis=1) + self.weights.last_bias
        gradient = self._empty(self.n_atoms, len(last))
        gradient[:] = last
        for layer, pre in zip(reversed(layers), reversed(kept), strict=True):
            below = self._empty(self.n_atoms, layer.back.shape[0] * layer.back.shape[2])
            given = (layer.copies, layer.n, layer.step, act)
            run_ranges(atoms.fitting_layer_backward, self.atom_ranges, pre, *given, gradient, below)
            more = self._empty(*below.shape)
            run_ranges(
                project_rows, self.atom_ranges, gradient, layer.back, self._zeros(below.shape[1]), more
            )
            gradient = below
            gradient += more
        self.node_gradient = gradient

    def backwards(self) -> tuple[Array, Array]:
        """Forces ``(n_atoms, 3)`` eV/Å and each atom's share ``(n_atoms, 3, 3)`` of dE/d(strain), eV."""
        config, n_angles = self.config, int(self.angle_start[-1])
        self.edge_gradient = self._zeros(self.n_edges + BLOCK, config.e_dim)
        self.angle_gradient = self._zeros(n_angles + BLOCK, config.a_dim)
        self.weight_gradient, self.direction_gradient = (
            self._zeros(self.n_edges),
            self._zeros(self.n_edges, 3),
        )
        self.angle_weight_gradient = self._zeros(len(self.bonds))
        self.cosine_gradient = self._zeros(n_angles)
        for number in range(len(self.weights.layers) - 1, -1, -1):
            self._layer_backward(number, self.weights.layers[number])
        return self._to_vectors()

    def _layer_backward(self, number: int, layer: FoldedLayer) -> None:
        config, projected = self.config, self.projected[number]
        n, e = config.n_dim, config.e_dim
        vectors, pre_out, pre = self.kept[number]
        projected_gradient = self._zeros(*projected.shape)
        message_gradient, vector_gradient = self._empty(self.n_atoms, n), self._empty(*vectors.shape)
        run_ranges(
            atoms.atom_update_backward, self.atom_ranges, projected, projected.shape[1] - n, vectors,
            config.axis_neuron, self._scales(), layer.sym_back, self.weights.act, layer.node_residual, pre,
            self.node_gradient, projected_gradient, message_gradient, vector_gradient,
        )  # fmt: skip
        has_angles = len(pre_out) > 0
        bond_gradient = self._zeros(len(self.bonds), e)
        if has_angles:
            run_ranges(
                angles.angle_messages_backward, self.by_angles,
                *self._angle_arguments(number, layer, projected, self.edge_levels[number]), layer.out_back,
                layer.edge_residual[1], pre_out, layer.angle_back, layer.bond_back, self.edge_gradient,
                self.angle_gradient, bond_gradient, projected_gradient, self.angle_weight_gradient,
                self.cosine_gradient,
            )  # fmt: skip
        mapped_gradient = self._empty(self.n_edges, layer.edge.shape[0] * layer.edge.shape[2])
        run_ranges(
            edges.edge_messages_backward, self.by_edges, self.edge_start,
            *self._edge_arguments(number, layer, projected), layer.edge_back, message_gradient,
            vector_gradient, bond_gradient, self.edge_gradient, mapped_gradient, projected_gradient,
            self.weight_gradient, self.direction_gradient,
        )  # fmt: skip
        if number == 0:  # the first features of atoms depend on nothing that moves
            return
        run_ranges(
            edges.edge_messages_scatter, self.by_edges, self.edge_start, self.neighbour, self.reverse,
            self.direction, vector_gradient, mapped_gradient, projected_gradient, self.node_gradient, n + e,
        )  # fmt: skip
        more = self._empty(self.n_atoms, n)
        run_ranges(
            project_rows, self.atom_ranges, projected_gradient, layer.project_back, self._zeros(n), more
        )
        self.node_gradient += more

    def _to_vectors(self) -> tuple[Array, Array]:
        config, by_length = self.config, self.config.edge_init_use_dist
        seen_gradient, gradient = self._empty(self.n_edges), np.empty((self.n_edges, 3))
        run_ranges(
            geometry.embed_edges_backward, self.edge_ranges, by_length, self.seen,
            self.weights.edge_embedding, self.weights.act, self.edge_gradient, seen_gradient,
        )  # fmt: skip
        run_ranges(
            geometry.edge_gradients, self.edge_ranges, self.vectors, self.distances, self.centre, self.rows,
            self.weights.deviation, self.edge_cutoffs, config.use_exp_switch, by_length,
            self.weight_gradient, self.direction_gradient, seen_gradient, gradient,
        )  # fmt: skip
        run_ranges(
            geometry.angle_cosines_backward, self.by_angles, self.bond_start, self.angle_start, self.bonds,
            self.vectors, self.distances, self.angle_cutoffs, config.use_exp_switch, self.cosine_scale,
            self.unit, self.angle_weight_gradient, self.cosine_gradient, gradient,
        )  # fmt: skip
        forces, virial = np.empty((self.n_atoms, 3)), np.empty((self.n_atoms, 3, 3))
        run_ranges(
            forces_and_virial, self.by_edges, self.edge_start, self.reverse, self.vectors, gradient, forces,
            virial,
        )  # fmt: skip
        return forces, virial

    def _empty(self, *shape: int) -> Array:
        return self.arena.empty(shape, self.dtype)

    def _zeros(self, *shape: int) -> Array:
        return self.arena.zeros(shape, self.dtype)


def _starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

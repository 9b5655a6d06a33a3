"""The programme of the fast path: which kernel runs when, forwards and back.

Every phase is split over threads by atoms, bonds or angles; a barrier follows. Forwards keeps
the first-layer sums and normalised rows of each gated MLP, backwards recomputes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels import edges
from atomml.kernels.arena import Arena
from atomml.kernels.gemm import BLOCK
from atomml.kernels.linear import project_rows
from atomml.kernels.threads import run_ranges, run_together
from atomml.potentials.chgnet.fast import angles as angle_kernels
from atomml.potentials.chgnet.fast import atoms as atom_kernels
from atomml.potentials.chgnet.fast import geometry
from atomml.potentials.chgnet.fast.bounds import Bounds
from atomml.potentials.chgnet.fast.topology import Topology
from atomml.potentials.chgnet.fast.weights import FoldedWeights
from atomml.potentials.chgnet.model import CHGNetConfig

__all__ = ["Kept", "Run"]

Array = NDArray[Any]


@dataclass
class Kept:
    """Rows of one gated MLP that the way back needs."""

    pre: Array
    normed: Array
    inverse: Array


class Run:
    """One evaluation: its arrays, the forward programme and the way back.

    Attributes:
        numbers: ``(n_atoms,)`` atomic numbers.
        vectors: ``(n_edges, 3)`` float64, Å.
        distances: ``(n_edges,)`` float64, Å.
        top: Bonds and angles.
        energies: ``(n_atoms,)`` float64, eV, without the reference; after :meth:`forwards`, as what follows.
        features: ``(n_atoms, c)`` of the readout.
        magmoms: ``(n_atoms,)`` μB.
        levels: ``(n_atoms, c)`` features of the atoms before the first layer and after each.
    """

    def __init__(self, weights: FoldedWeights, arena: Arena, graph: AtomGraph, config: CHGNetConfig) -> None:
        arena.restart()
        self.arena = arena
        self.weights = weights
        self.dtype = weights.embedding.dtype
        self.c = weights.embedding.shape[1]
        self.numbers = graph.numbers.numpy()
        self.edges = graph.edge_index.numpy()
        self.reverse = graph.edge_reverse.numpy()
        self.n_atoms, self.n_edges = graph.n_atoms, graph.n_edges
        self.vectors = np.empty((self.n_edges, 3))
        self.distances = np.empty(self.n_edges)
        edges.edge_vectors(
            0,
            self.n_edges,
            graph.positions.detach().numpy(),
            graph.cell.detach().numpy(),
            graph.batch.numpy(),
            self.edges,
            graph.edge_shift.numpy(),
            self.vectors,
            self.distances,
        )
        self.top = Topology(
            *geometry.topology(self.edges[0], self.reverse, self.distances, self.n_atoms, config.bond_cutoff)
        )
        self.bounds = Bounds.of(self.top, self.n_edges)
        self.short_atom = self.edges[0][self.top.short_edge].astype(np.int32)
        self.projected: list[Array] = []
        self._bases(config.cutoff, config.bond_cutoff, config.cutoff_power)
        self._embed()

    def _empty(self, *shape: int) -> Array:
        return self.arena.empty(shape, self.dtype)

    def _zeros(self, *shape: int) -> Array:
        return self.arena.zeros(shape, self.dtype)

    def _keep(self, n_rows: int, *, hidden: bool = True) -> Kept:
        """Room for a gated MLP on ``n_rows``; without a hidden layer there is no first-layer sum to keep."""
        width = 2 * self.c
        return Kept(
            pre=self._empty(n_rows if hidden else 0, width),
            normed=self._empty(n_rows, width),
            inverse=self._empty(n_rows, 2),
        )

    def _bases(self, cutoff: float, bond_cutoff: float, power: int) -> None:
        """Radial and angular bases with their slopes."""
        weights, top, bounds = self.weights, self.top, self.bounds
        n_bonds, n_pairs, n_angles = len(top.primary), len(top.pair), len(top.angles)
        self.basis, self.slope = self._empty(n_bonds, weights.n_basis), self._empty(n_bonds, weights.n_basis)
        self.short_basis = self._empty(n_pairs, weights.n_basis)
        self.short_slope = self._empty(n_pairs, weights.n_basis)
        self.angle_basis = self._zeros(n_angles + BLOCK, weights.n_angular)
        self.angle_slope = np.empty(n_angles)
        run_together(
            (
                geometry.radial_basis, bounds.bonds, top.primary, self.distances, weights.radial, cutoff,
                float(power), self.basis, self.slope,
            ),
            (
                geometry.radial_basis, bounds.pairs, top.primary[top.pair_bond], self.distances,
                weights.radial_short, bond_cutoff, float(power), self.short_basis, self.short_slope,
            ),
            (
                geometry.angular_basis, bounds.angles, top.angles, top.short_edge, self.vectors,
                self.distances, weights.angular, self.angle_basis, self.angle_slope,
            ),
        )  # fmt: skip

    def _embed(self) -> None:
        """First features of atoms, bonds and angles, and what depends on distances alone."""
        weights, top, bounds, c = self.weights, self.top, self.bounds, self.c
        no_bias = self._zeros(max(c, weights.n_basis))
        n_pairs = len(top.pair)
        self.bond_terms = self._empty(len(top.primary), len(weights.bond_terms_bias))
        self.short_weights, self.bonds = self._empty(n_pairs, c), self._empty(n_pairs, c)
        self.change = self._zeros(n_pairs, c)
        self.angles = self._zeros(len(top.angles) + BLOCK, c)
        self.levels = [weights.embedding[self.numbers - 1]]
        project, short_basis = project_rows, self.basis[top.pair_bond]
        run_together(
            (project, bounds.bonds, self.basis, weights.bond_terms, weights.bond_terms_bias, self.bond_terms),
            (
                project, bounds.pairs, self.short_basis, weights.short_weights, no_bias[:c],
                self.short_weights,
            ),
            (project, bounds.pairs, short_basis, weights.bond_embedding, no_bias[:c], self.bonds),
            (project, bounds.angles, self.angle_basis, weights.angle_embedding, no_bias[:c], self.angles),
            self._atom_projection(0),
        )  # fmt: skip

    def _atom_projection(self, level: int) -> tuple[Any, ...]:
        """All first-layer products that read this level of atom features, as a call to be run."""
        panels, bias, _ = self.weights.projections[level]
        self.projected.append(self._empty(self.n_atoms, len(bias)))
        return (
            project_rows, self.bounds.atoms_by_edges, self.levels[level], panels, bias,
            self.projected[level],
        )  # fmt: skip

    def forwards(self) -> None:
        """Site energies, magnetic moments, and everything that the way back needs."""
        weights = self.weights
        self.kept_atoms: list[Kept] = []
        self.kept_bonds: list[Kept] = []
        self.kept_angles: list[Kept] = []
        n_layers = len(weights.atom_layers)
        for layer in range(n_layers):
            self._atom_layer(layer)
            if layer < n_layers - 1:
                bonds, project_bonds = self._bond_projection(weights.bond_layers[layer].bonds)
                run_together(project_bonds, self._atom_projection(layer + 1))
                self._bond_layer(layer, bonds)
            if layer < len(weights.angle_layers):
                self._angle_layer(layer)
        # Not by BLAS: its threads would linger likewise.
        products = self.levels[-2].astype(np.float64) * weights.magmom
        self.magmoms = np.abs(products.sum(axis=1) + weights.magmom_bias)
        self.magmoms = self.magmoms.astype(self.dtype)
        self.features, self.energies = np.empty((self.n_atoms, self.c), self.dtype), np.empty(self.n_atoms)
        self.atom_gradient = self._empty(self.n_atoms, self.c)
        run_ranges(
            atom_kernels.readout, self.bounds.atoms_by_edges, self.levels[-1], *weights.readout,
            self.features, self.energies, self.atom_gradient,
        )  # fmt: skip

    def _atom_layer(self, layer: int) -> None:
        folded, columns, top = self.weights.atom_layers[layer], self.weights.columns[layer], self.top
        kept = self._keep(self.n_edges)
        new_atoms = np.empty((self.n_atoms, self.c), self.dtype)  # leaves with the prediction
        gate = folded.gate
        run_ranges(
            atom_kernels.atom_convolution, self.bounds.atoms_by_edges, top.edge_start, self.edges,
            top.undirected, self.projected[layer], columns["centre"], columns["neighbour"],
            self.bond_terms, (1 + 2 * layer) * self.c, gate.core, gate.gate, gate.bias, gate.scale,
            gate.shift, folded.output, self.levels[layer], kept.pre, kept.normed, kept.inverse, new_atoms,
        )  # fmt: skip
        self.kept_atoms.append(kept)
        self.levels.append(new_atoms)

    def _bond_projection(self, panels: Array) -> tuple[Array, tuple[Any, ...]]:
        """Short bonds' features times the first-layer weights of both bonds of an angle, and the call."""
        projected = self._empty(len(self.bonds), 4 * self.c)
        bias = self._zeros(4 * self.c)
        call = (project_rows, self.bounds.pairs, self.bonds, panels, bias, projected)
        return projected, call

    def _angle_inputs(self, layer: int) -> Array:
        """What stands for the angles: their basis in layer 0, where the embedding is folded in."""
        return self.angle_basis if layer == 0 else self.angles

    def _bond_layer(self, layer: int, projected_bonds: Array) -> None:
        folded, top, gate = self.weights.bond_layers[layer], self.top, self.weights.bond_layers[layer].gate
        kept = self._keep(len(top.angles))
        sums = self._empty(len(top.short_edge), self.c)
        run_ranges(
            angle_kernels.bond_convolution, self.bounds.atoms_by_angles, top.angle_start, top.angles,
            top.short_start, top.short_bond, self.short_atom, self.projected[layer + 1],
            self.weights.columns[layer + 1]["bond"], projected_bonds,
            self._angle_inputs(layer), folded.features, gate.core, gate.gate, gate.bias, gate.scale,
            gate.shift, self.short_weights, kept.pre, kept.normed, kept.inverse, sums,
        )  # fmt: skip
        run_ranges(
            angle_kernels.bond_update, self.bounds.pairs, top.pair, top.pair_bond, sums, folded.output,
            self.bonds, self.change, self.weights.atom_layers[layer + 1].from_change, self.bond_terms,
            (1 + 2 * (layer + 1)) * self.c,
        )  # fmt: skip
        self.kept_bonds.append(kept)

    def _angle_layer(self, layer: int) -> None:
        folded, top = self.weights.angle_layers[layer], self.top
        kept = self._keep(len(top.angles), hidden=False)
        projected_bonds, project_bonds = self._bond_projection(folded.bonds)
        run_together(project_bonds)
        run_ranges(
            angle_kernels.angle_update, self.bounds.atoms_by_angles, top.angle_start, top.angles,
            top.short_bond, self.short_atom, self.projected[layer + 1],
            self.weights.columns[layer + 1]["angle"], projected_bonds,
            self._angle_inputs(layer), folded.features, folded.scale, folded.shift, kept.normed,
            kept.inverse, self.angles,
        )  # fmt: skip
        self.kept_angles.append(kept)

    def backwards(self) -> tuple[Array, Array]:
        """Forces ``(n_atoms, 3)`` eV/Å and each atom's share ``(n_atoms, 3, 3)`` of dE/d(strain), eV."""
        weights, top, c = self.weights, self.top, self.c
        n_short = len(top.short_edge)
        self.edge_gradient = self._empty(self.n_edges, 2 * c)
        self.weight_gradient = self._zeros(self.n_edges, c)
        self.basis_gradient = self._zeros(len(top.primary), weights.n_basis)
        self.bond_gradient = self._zeros(len(top.pair), c)
        self.short_weight_gradient = self._zeros(n_short, c)
        self.short_gradient = self._empty(n_short, 4 * c)
        self.angle_gradient = self._zeros(len(top.angles) + BLOCK, c)
        self.angle_basis_gradient = self._zeros(len(top.angles) + BLOCK, weights.n_angular)
        for layer in range(len(weights.atom_layers) - 1, -1, -1):
            gradient = self._zeros(self.n_atoms + BLOCK, len(weights.projections[layer][1]))
            self._atom_layer_backward(layer, gradient)
            if layer == 0:
                break
            if layer - 1 < len(weights.angle_layers):
                self._angle_layer_backward(layer - 1, gradient)
            bonds_back = self._bond_layer_backward(layer - 1, gradient)
            atoms_back = (
                atom_kernels.add_projected, self.bounds.atoms_by_edges, gradient,
                weights.projections[layer][2], self.atom_gradient,
            )  # fmt: skip
            run_together(bonds_back, atoms_back)
        return self._geometry_backward()

    def _atom_layer_backward(self, layer: int, projected_gradient: Array) -> None:
        folded, columns, top = self.weights.atom_layers[layer], self.weights.columns[layer], self.top
        kept, gate = self.kept_atoms.pop(), folded.gate
        # The first level is a table of the elements: nothing asks for its gradient.
        centre, neighbour = (columns["centre"], columns["neighbour"]) if layer else (-1, -1)
        run_ranges(
            atom_kernels.atom_convolution_backward, self.bounds.atoms_by_edges, top.edge_start, self.edges,
            top.undirected, self.bond_terms, gate.core_back, gate.gate_back, gate.scale, gate.shift,
            folded.output_back, kept.pre, kept.normed, kept.inverse, self.atom_gradient,
            self.weight_gradient, self.edge_gradient, projected_gradient, centre,
        )  # fmt: skip
        run_ranges(
            atom_kernels.atom_convolution_scatter, self.bounds.atoms_by_edges, top.edge_start, self.reverse,
            top.undirected, top.short_of, self.edge_gradient, projected_gradient, neighbour,
            folded.long_back, self.basis_gradient, folded.short_back, self.bond_gradient,
        )  # fmt: skip

    def _feature_gradient(self, layer: int) -> Array:
        return self.angle_basis_gradient if layer == 0 else self.angle_gradient

    def _angle_layer_backward(self, layer: int, atom_gradient: Array) -> None:
        folded, kept, top = self.weights.angle_layers[layer], self.kept_angles.pop(), self.top
        run_ranges(
            angle_kernels.angle_update_backward, self.bounds.atoms_by_angles, top.angle_start, top.angles,
            top.short_start, self.short_atom, folded.scale, folded.shift, kept.normed, kept.inverse,
            self.angle_gradient, self.short_gradient, atom_gradient,
            self.weights.columns[layer + 1]["angle"], folded.features_back, self._feature_gradient(layer),
        )  # fmt: skip
        run_together(self._bonds_backward(folded.bonds_back))

    def _bonds_backward(self, panels: Array) -> tuple[Any, ...]:
        """From both bonds of each angle to the short bonds' features, as a call to be run."""
        return (
            angle_kernels.bond_gradient_backward, self.bounds.pairs, self.top.pair, self.short_gradient,
            panels, self.bond_gradient,
        )  # fmt: skip

    def _bond_layer_backward(self, layer: int, atom_gradient: Array) -> tuple[Any, ...]:
        """The way back but for its last call, which is returned."""
        folded, kept, top = self.weights.bond_layers[layer], self.kept_bonds.pop(), self.top
        gate = folded.gate
        sum_gradient = self._empty(len(top.pair), self.c)
        run_ranges(
            project_rows, self.bounds.pairs, self.bond_gradient, folded.output_back,
            self._zeros(self.c), sum_gradient,
        )  # fmt: skip
        run_ranges(
            angle_kernels.bond_convolution_backward, self.bounds.atoms_by_angles, top.angle_start,
            top.angles, top.short_start, top.short_bond, self.short_atom, gate.core_back, gate.gate_back,
            gate.scale, gate.shift, self.short_weights, kept.pre, kept.normed, kept.inverse, sum_gradient,
            self.short_weight_gradient, self.short_gradient, atom_gradient,
            self.weights.columns[layer + 1]["bond"], folded.features_back, self._feature_gradient(layer),
        )  # fmt: skip
        return self._bonds_backward(folded.bonds_back)

    def _geometry_backward(self) -> tuple[Array, Array]:
        weights, top, bounds = self.weights, self.top, self.bounds
        length_gradient = np.zeros(len(top.primary))
        run_ranges(
            angle_kernels.short_bond_backward, bounds.pairs, top.pair, top.pair_bond,
            self.short_weight_gradient, weights.short_weights_back, self.short_slope, self.bond_gradient,
            weights.bond_embedding_back, self.basis_gradient, length_gradient,
        )  # fmt: skip
        run_ranges(
            geometry.radial_backward, bounds.bonds, top.primary, self.reverse, self.weight_gradient,
            weights.atom_weights_back, self.basis_gradient, self.slope, length_gradient,
        )  # fmt: skip
        edge_gradient = np.empty((self.n_edges, 3))
        run_ranges(
            geometry.geometry_backward, bounds.atoms_by_angles, top.edge_start, top.angle_start, top.angles,
            top.short_edge, self.vectors, self.distances, top.undirected, self.reverse, length_gradient,
            weights.angular, self.angle_basis, self.angle_slope, self.angle_basis_gradient,
            self.angle_gradient, weights.angle_embedding_back, edge_gradient,
        )  # fmt: skip
        forces, virial = np.empty((self.n_atoms, 3)), np.empty((self.n_atoms, 3, 3))
        run_ranges(
            edges.forces_and_virial, bounds.atoms_by_edges, top.edge_start, self.reverse, self.vectors,
            edge_gradient, forces, virial,
        )  # fmt: skip
        return forces, virial

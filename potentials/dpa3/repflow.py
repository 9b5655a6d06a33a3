"""One layer: atoms, edges and angles update each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.nn import segment_sum
from atomml.nn.segment import gather
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.layers import Affine, JoinedAffine, activation
from atomml.potentials.dpa3.surroundings import Surroundings

__all__ = ["RepFlow"]


class Residual(nn.Module):
    """What is added to features: updates, with a weight for each feature or one for all."""

    def __init__(self, config: DPA3Config, width: int, n_updates: int) -> None:
        super().__init__()
        self.style = config.update_style
        self.weights = nn.ParameterList()
        if self.style == "res_residual":
            for _ in range(n_updates):
                drawn = torch.randn(width) if config.update_residual_init == "norm" else torch.ones(width)
                self.weights.append(nn.Parameter(config.update_residual * drawn))

    def forward(self, old: Tensor, updates: list[Tensor]) -> Tensor:
        """``old`` and all updates."""
        if self.style == "res_residual":
            for number, update in enumerate(updates):
                old = self.add(old, update, number)
            return old
        total = torch.stack(updates).sum(0)
        if self.style == "res_avg":
            return (old + total) / (len(updates) + 1) ** 0.5
        return old + total / len(updates) ** 0.5

    def add(self, old: Tensor, update: Tensor, number: int) -> Tensor:
        """``old`` and one of the updates."""
        return old + self.weights[number] * update


class RepFlow(nn.Module):
    """Zhang et al., arXiv:2506.01686: the updates on the first two graphs of the line-graph series."""

    def __init__(self, config: DPA3Config) -> None:
        super().__init__()
        n, e, a = config.n_dim, config.e_dim, config.a_dim
        self.config, self.act = config, activation(config.activation)
        self.node_self = Affine(n, n)
        self.node_sym = JoinedAffine([config.axis_neuron * e, config.axis_neuron * n], n)
        self.node_edge = JoinedAffine([n, n, e], config.n_multi_edge_message * n)
        self.edge_self = JoinedAffine([n, n, e], e)
        self.node_residual = Residual(config, n, 2 + config.n_multi_edge_message)
        self.edge_residual = Residual(config, e, 2 if config.update_angle else 1)
        self.compress_node: Affine | None = None
        self.compress_edge: Affine | None = None
        if not config.update_angle:
            return
        small_n, small_e = config.compressed
        if config.a_compress_rate and not config.a_compress_use_split:
            self.compress_node = Affine(n, small_n, bias=False)
            self.compress_edge = Affine(e, small_e, bias=False)
        self.edge_angle = JoinedAffine([a, small_n, small_e, small_e], e)
        self.edge_angle_out = Affine(e, e)
        self.angle_self = JoinedAffine([a, small_n, small_e, small_e], a)
        self.angle_residual = Residual(config, a, 1)

    def forward(
        self, node: Tensor, edge: Tensor, angle: Tensor, around: Surroundings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New features of atoms, edges and angles."""
        if self.config.sequential_update:
            return self._one_after_the_other(node, edge, angle, around)
        updates = [self.act(self._edge_input(self.edge_self, node, edge, around))]
        new_angle = angle
        if self.config.update_angle:
            seen = self._seen_by_angles(node, edge, around)
            message = self.act(self._angle_input(self.edge_angle, angle, seen, around))
            updates.append(self._from_angles(message, edge, around))
            own = self.act(self._angle_input(self.angle_self, angle, seen, around))
            new_angle = self.angle_residual(angle, [own])
        return self._updated_node(node, edge, around), self.edge_residual(edge, updates), new_angle

    def _one_after_the_other(
        self, node: Tensor, edge: Tensor, angle: Tensor, around: Surroundings
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = self.act(self._edge_input(self.edge_self, node, edge, around))
        edge = self.edge_residual.add(edge, own, 0)
        seen = self._seen_by_angles(node, edge, around)
        own = self.act(self._angle_input(self.angle_self, angle, seen, around))
        angle = self.angle_residual(angle, [own])
        message = self.act(self._angle_input(self.edge_angle, angle, seen, around))
        edge = self.edge_residual.add(edge, self._from_angles(message, edge, around), 1)
        return self._updated_node(node, edge, around), edge, angle

    def _updated_node(self, node: Tensor, edge: Tensor, around: Surroundings) -> Tensor:
        """From itself, from the symmetrised surroundings, and from its edges."""
        message = self.act(self._edge_input(self.node_edge, node, edge, around)) * around.weight
        message = segment_sum(message, around.centre, len(node)) / self.config.mean_edges
        heads = torch.split(message, self.config.n_dim, dim=1)
        symmetric = self.act(self._symmetrised(node, edge, around))
        return self.node_residual(node, [self.act(self.node_self(node)), symmetric, *heads])

    def _symmetrised(self, node: Tensor, edge: Tensor, around: Surroundings) -> Tensor:
        """Products of features weighted with directions, by all of which no rotation shows."""
        total = self.node_sym.offset
        for features, weight in zip(
            (edge, gather(node, around.neighbour)), self.node_sym.parts(), strict=True
        ):
            weighted = around.direction[:, :, None] * (features * around.weight)[:, None, :]
            vectors = segment_sum(weighted, around.centre, len(node)) * self.config.mean_edges**-0.5
            few = vectors[:, :, : self.config.axis_neuron]
            total = total + (few.mT @ vectors / 3).flatten(1) @ weight
        return total

    def _edge_input(self, joined: JoinedAffine, node: Tensor, edge: Tensor, around: Surroundings) -> Tensor:
        """An affine map of both atoms and the edge between them."""
        at_centre, at_neighbour, on_edge = joined.parts()
        mapped = edge @ on_edge + joined.offset
        mapped = mapped + gather(node @ at_centre, around.centre)
        return mapped + gather(node @ at_neighbour, around.neighbour)

    def _seen_by_angles(self, node: Tensor, edge: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """The features of atoms and of bonds that angles see."""
        bond = gather(edge, around.bonds)
        if self.compress_node is not None and self.compress_edge is not None:
            return self.compress_node(node), self.compress_edge(bond)
        small_n, small_e = self.config.compressed
        return node[:, :small_n], bond[:, :small_e]

    def _angle_input(
        self, joined: JoinedAffine, angle: Tensor, seen: tuple[Tensor, Tensor], around: Surroundings
    ) -> Tensor:
        """An affine map of an angle, its atom and both of its bonds."""
        node, bond = seen
        on_angle, at_atom, on_second, on_first = joined.parts()
        mapped = angle @ on_angle + joined.offset
        mapped = mapped + gather(bond @ on_first + gather(node @ at_atom, around.bond_atom), around.first)
        return mapped + gather(bond @ on_second, around.second)

    def _from_angles(self, message: Tensor, edge: Tensor, around: Surroundings) -> Tensor:
        """The update of each edge by the angles that it encloses."""
        total = segment_sum(message * around.angle_weight, around.first, len(around.bonds))
        total = total / self.config.mean_angles**0.5
        rest = torch.zeros_like(edge) if self.config.smooth_edge_update else edge
        return self.act(self.edge_angle_out(rest.index_copy(0, around.bonds, total)))

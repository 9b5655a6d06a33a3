"""DPA3 on values and tangents: its energies, and their derivative along one direction.

Every tensor of features is ``(2, n, ...)``: values, then tangents. Gradients of forces and stress with
respect to the weights are gradients of these tangents, so one ordinary way back serves all labels; there is
no second derivative of any layer to take. What happens on every edge and every angle is the kernels' part;
torch has what happens on atoms and on the bonds that enclose angles, of which there are some ten times
less.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.dpa3.fast.bounded import bounded_parameters
from atomml.potentials.dpa3.fitting import FittingLayer, FittingNet
from atomml.potentials.dpa3.layers import Affine
from atomml.potentials.dpa3.model import DPA3
from atomml.potentials.dpa3.repflow import RepFlow, Residual
from atomml.potentials.dpa3.training.functions import AngleMessages, Array, EdgeMessages, Placed

__all__ = ["activated", "evaluate"]


def evaluate(model: DPA3, head: int, graph: AtomGraph, placed: Placed) -> tuple[Tensor, Tensor]:
    """Site energies without reference ``(2, n_atoms)``, and the last layer's features ``(n_atoms, n)``.

    Only weights carry a gradient.

    Args:
        model: Of a kind that the kernels cover; its weights are read as they are.
        head: Position of the branch that answers.
        graph: Structures.
        placed: Their geometry, with tangents.
    """
    atoms = model.act(model.embedded(graph, model._row[graph.numbers]))
    node = torch.stack([atoms, torch.zeros_like(atoms)])
    edge = _affine(model.edge_embedding, placed.seen)
    if not model.config.edge_init_use_dist:
        edge = activated(edge, placed.act)
    features = (node, edge, placed.cosine)
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, RepFlow)
        features = _Layer(model, layer, number, placed).updated(*features)
    return _fitted(model.fitting, features[0], model.case[head]), features[0][0]


class _Layer:
    """One layer; the last one updates no edges, it and the one before no angles, as nobody reads them."""

    def __init__(self, model: DPA3, layer: RepFlow, number: int, placed: Placed) -> None:
        self.config, self.layer, self.placed = model.config, layer, placed
        self.embedding = model.angle_embedding.weight[0]
        self.is_first = number == 0
        self.has_angles = number < len(model.layers) - 1
        self.keeps_angles = number < len(model.layers) - 2

    def updated(self, node: Tensor, edge: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """New features of atoms, edges and angles."""
        layer, (e, n) = self.layer, (self.config.e_dim, self.config.n_dim)
        weight: Tensor = layer.node_edge.weight
        bias = layer.node_edge.offset
        if self.has_angles:
            weight = torch.cat([weight, layer.edge_self.weight], dim=1)
            bias = torch.cat([bias, layer.edge_self.offset])
        at_centre, at_neighbour, on_edge = torch.split(weight, [n, n, e])
        residual = _residual(layer.edge_residual, e, 2, edge.dtype)
        messages, vectors, new_edge = EdgeMessages.apply(  # type: ignore[no-untyped-call]
            self.placed, edge, node, _mapped(node, at_centre, bias), node @ at_neighbour, on_edge, residual[0]
        )
        new_angle = angle
        if self.has_angles:
            sent, new_angle = self._angles(node, edge, angle)
            new_edge = new_edge + residual[1] * sent
        return self._node(node, messages, vectors), new_edge, new_angle

    def _angles(self, node: Tensor, edge: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """What angles send to all edges ``(2, n_edges, e)``, and their own new features."""
        layer, placed = self.layer, self.placed
        width = self.config.e_dim + (self.config.a_dim if self.keeps_angles else 0)
        weight = torch.cat([layer.edge_angle.weight, layer.angle_self.weight], dim=1)[:, :width]
        bias = torch.cat([layer.edge_angle.offset, layer.angle_self.offset])[:width]
        on_angle, at_atom, on_second, on_first = torch.split(weight, layer.edge_angle.widths)
        atoms, bonds = self._seen(node, edge.index_select(1, placed.bonds))
        one = bonds @ on_first + _mapped(atoms, at_atom, bias).index_select(1, placed.bond_atom)
        sums, new_angle = AngleMessages.apply(  # type: ignore[no-untyped-call]
            placed, self.is_first, self.keeps_angles, angle, one, bonds @ on_second,
            (self.embedding @ on_angle)[None] if self.is_first else on_angle, self.embedding,
            _residual(layer.angle_residual, self.config.a_dim, 1, edge.dtype)[0],
        )  # fmt: skip
        total = _product(sums, placed.angle_weight[..., None]) * self.config.mean_angles**-0.5
        sent = activated(_affine(layer.edge_angle_out, total), placed.act)
        rest = layer.act(layer.edge_angle_out.offset).expand(edge.shape[1:])
        return torch.stack([rest, torch.zeros_like(rest)]).index_copy(1, placed.bonds, sent), new_angle

    def _seen(self, node: Tensor, bonds: Tensor) -> tuple[Tensor, Tensor]:
        """The features of atoms and of bonds that angles see."""
        layer = self.layer
        if layer.compress_node is not None and layer.compress_edge is not None:
            return node @ layer.compress_node.weight, bonds @ layer.compress_edge.weight
        small_n, small_e = self.config.compressed
        return node[..., :small_n], bonds[..., :small_e]

    def _node(self, node: Tensor, messages: Tensor, vectors: Tensor) -> Tensor:
        """New features of atoms: from themselves, from the symmetrised surroundings, from their edges."""
        layer, config, act = self.layer, self.config, self.placed.act
        own = activated(_affine(layer.node_self, node), act)
        both = torch.split(vectors, [config.e_dim, config.n_dim], dim=3)
        products = torch.cat([_symmetrised(part, config.axis_neuron) for part in both], dim=2)
        symmetric = activated(_affine(layer.node_sym, products / (3 * config.mean_edges)), act)
        residual = _residual(layer.node_residual, config.n_dim, 3, node.dtype)
        updates = residual[0] * own + residual[1] * symmetric + residual[2] / config.mean_edges * messages
        return node + updates


def _fitted(fitting: FittingNet, node: Tensor, case: Tensor) -> Tensor:
    """Energies ``(2, n_atoms)``."""
    codes = case.to(node.dtype).expand(node.shape[1], -1)
    x = torch.cat([node, torch.stack([codes, torch.zeros_like(codes)])], dim=2)
    act = bounded_parameters(fitting.act, x.detach().numpy().dtype)
    assert act is not None
    for layer in fitting.layers:
        assert isinstance(layer, FittingLayer)
        y = activated(_affine(layer, x), act)
        y = y if layer.step is None else y * layer.step
        x = y + torch.cat([x] * layer.copies, dim=2) if layer.copies else y
    return _affine(fitting.last, x)[..., 0]


def activated(x: Tensor, act: Array) -> Tensor:
    """The non-linearity with these parameters; see :mod:`~atomml.potentials.dpa3.fast.bounded`."""
    threshold, rate, shift, offset = act.tolist()
    value, along = x
    below = value < threshold
    u = torch.sigmoid(torch.where(below, value, rate * value - shift))
    found = torch.where(below, value * u, 2 * u - 1 + offset)
    slope = torch.where(below, u * (1 + value * (1 - u)), 2 * rate * u * (1 - u))
    return torch.stack([found, slope * along])


def _affine(layer: Affine, x: Tensor) -> Tensor:
    return _mapped(x, layer.weight, layer.offset)


def _mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """An affine map; tangents have no bias."""
    return x @ weight + torch.stack([bias, torch.zeros_like(bias)])[:, None]


def _product(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x[0] * y[0], x[1] * y[0] + x[0] * y[1]])


def _symmetrised(vectors: Tensor, axis: int) -> Tensor:
    """Products of vectors ``(2, n_atoms, 3, c)`` with the first few of them, ``(2, n_atoms, axis * c)``."""
    few = vectors[..., :axis].mT
    value = few[0] @ vectors[0]
    along = few[1] @ vectors[0] + few[0] @ vectors[1]
    return torch.stack([value.flatten(1), along.flatten(1)])


def _residual(residual: Residual, width: int, n_updates: int, dtype: torch.dtype) -> Tensor:
    """The weight of each update, ``(n_updates, width)``."""
    if residual.style == "res_residual":
        return torch.stack(list(residual.weights))
    return torch.full((n_updates, width), n_updates**-0.5, dtype=dtype)

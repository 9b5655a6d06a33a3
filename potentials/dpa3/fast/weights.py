"""Weights laid out once for the kernels: maps of the same input side by side, in panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.kernels.gemm import pack_panels
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.fast.bounded import bounded_parameters
from atomml.potentials.dpa3.fitting import FittingLayer
from atomml.potentials.dpa3.model import DPA3
from atomml.potentials.dpa3.repflow import RepFlow, Residual

__all__ = ["FittingLayerWeights", "FoldedLayer", "FoldedWeights", "fold"]

Array = NDArray[Any]


@dataclass(frozen=True)
class FoldedLayer:
    """A layer's weights; ``_back`` are transposed, for the way back.

    Attributes:
        project, project_bias, project_back: From an atom's features to all maps that they enter.
        edge, edge_back: From an edge to the message and to its own update; in the last layer to the message.
        angle, angle_back: From an angle to the message and to its own update; to the message alone where no
            later layer reads angles.
        folded: ``angle`` times the embedding of the cosine.
        bond, bond_back: From a bond to both, as the first and as the second of an angle.
        out, out_bias, out_back: Second layer of the angles' message.
        sym, sym_bias, sym_back: From the symmetrised surroundings.
        node_residual, edge_residual, angle_residual: Weights of the updates, a row each.
        rest: What an edge without angles is given for them.
    """

    project: Array
    project_bias: Array
    project_back: Array
    edge: Array
    edge_back: Array
    angle: Array
    angle_back: Array
    folded: Array
    bond: Array
    bond_back: Array
    out: Array
    out_bias: Array
    out_back: Array
    sym: Array
    sym_bias: Array
    sym_back: Array
    node_residual: Array
    edge_residual: Array
    angle_residual: Array
    rest: Array


@dataclass(frozen=True)
class FittingLayerWeights:
    """A layer of the fitting net; ``n`` outputs, of which panels may have more."""

    panels: Array
    bias: Array
    back: Array
    step: Array
    copies: int
    n: int


@dataclass(frozen=True)
class FoldedWeights:
    """All of a model that the kernels read."""

    layers: list[FoldedLayer]
    fitting: list[FittingLayerWeights]
    last: Array
    last_bias: float
    edge_embedding: Array
    angle_embedding: Array
    act: Array
    fitting_act: Array
    mean: Array
    deviation: Array


def fold(model: DPA3) -> FoldedWeights:
    """A model's weights as they are now."""
    config = model.config
    dtype = np.dtype(np.float32 if model.dtype == torch.float32 else np.float64)
    act, fitting_act = (bounded_parameters(a, dtype) for a in (config.activation, config.fitting_activation))
    assert act is not None
    assert fitting_act is not None
    embedding = model.angle_embedding.weight[0]
    edge = torch.stack([model.edge_embedding.weight[0], model.edge_embedding.offset])
    layers = [
        _layer(layer, config, embedding, len(model.layers) - 1 - number)
        for number, layer in enumerate(model.layers)
        if isinstance(layer, RepFlow)
    ]
    return FoldedWeights(
        layers=layers,
        fitting=_fitting(model),
        last=_numpy(model.fitting.last.weight[:, 0]),
        last_bias=float(model.fitting.last.offset),
        edge_embedding=_numpy(edge),
        angle_embedding=_numpy(embedding),
        act=act,
        fitting_act=fitting_act,
        mean=model.mean.numpy(),
        deviation=model.deviation.numpy(),
    )


def _fitting(model: DPA3) -> list[FittingLayerWeights]:
    """The layers of the fitting net; the data set's vector is the same for all atoms, and so a bias."""
    case, n_inputs = model.case[model.config.head_index].to(model.dtype), model.config.descriptor_width
    found: list[FittingLayerWeights] = []
    for layer in model.fitting.layers:
        assert isinstance(layer, FittingLayer)
        weight: Tensor = layer.weight
        bias = layer.offset
        if not found:
            weight, bias = weight[:n_inputs], bias + case @ weight[n_inputs:]
        step = _numpy(torch.ones_like(bias) if layer.step is None else layer.step)
        folded = (_panels(weight), _padded(bias), _panels(weight.T), step)
        found.append(FittingLayerWeights(*folded, layer.copies, len(bias)))
    return found


def _layer(layer: RepFlow, config: DPA3Config, embedding: Tensor, above: int) -> FoldedLayer:
    """One layer, with as many above it."""
    n, e = config.n_dim, config.e_dim
    message, own = layer.node_edge.parts(), layer.edge_self.parts()
    at_centre, at_neighbour = (torch.cat([message[k], own[k]], dim=1) for k in (0, 1))
    on_edge = message[2] if above == 0 else torch.cat([message[2], own[2]], dim=1)
    from_angle, update = layer.edge_angle.parts(), layer.angle_self.parts()
    joined = [torch.cat([one, two], dim=1) for one, two in zip(from_angle, update, strict=True)]
    on_angle, at_atom, on_second, on_first = joined
    width = e if above <= 1 else e + config.a_dim
    on_angle, at_atom_seen = on_angle[:, :width], _seen(layer.compress_node, at_atom, n)
    bond = torch.cat(
        [_seen(layer.compress_edge, part, e)[:, :width] for part in (on_first, on_second)], dim=1
    )
    project = torch.cat([at_centre, at_neighbour, at_atom_seen, layer.node_self.weight], dim=1)
    none = torch.zeros(n + e, dtype=project.dtype)
    at_both, at_angles = (layer.node_edge, layer.edge_self), (layer.edge_angle, layer.angle_self)
    biases = [*(one.offset for one in at_both), none, *(one.offset for one in at_angles)]
    bias = torch.cat([*biases, layer.node_self.offset])
    edge_residual = _residual(layer.edge_residual, e, 2, project.dtype)
    return FoldedLayer(
        project=_panels(project),
        project_bias=_numpy(bias),
        project_back=_panels(project.T),
        edge=_panels(on_edge),
        edge_back=_panels(on_edge.T),
        angle=_panels(on_angle),
        angle_back=_panels(on_angle.T),
        folded=_numpy(embedding @ on_angle),
        bond=_panels(bond),
        bond_back=_panels(bond.T),
        out=_panels(layer.edge_angle_out.weight),
        out_bias=_numpy(layer.edge_angle_out.offset),
        out_back=_panels(layer.edge_angle_out.weight.T),
        sym=_panels(layer.node_sym.weight),
        sym_bias=_numpy(layer.node_sym.offset),
        sym_back=_panels(layer.node_sym.weight.T),
        node_residual=_numpy(_residual(layer.node_residual, n, 3, project.dtype)),
        edge_residual=_numpy(edge_residual),
        angle_residual=_numpy(_residual(layer.angle_residual, config.a_dim, 1, project.dtype)),
        rest=_numpy(edge_residual[1] * layer.act(layer.edge_angle_out.offset)),
    )


def _seen(compress: Any, weight: Tensor, width: int) -> Tensor:
    """A map of what angles see of features as a map of all ``width`` of them."""
    if compress is not None:
        whole: Tensor = compress.weight @ weight
        return whole
    return torch.cat([weight, weight.new_zeros(width - len(weight), weight.shape[1])])


def _residual(residual: Residual, width: int, n_updates: int, dtype: torch.dtype) -> Tensor:
    """The weight of each update, ``(n_updates, width)``."""
    if residual.style == "res_residual":
        return torch.stack(list(residual.weights))
    return torch.full((n_updates, width), n_updates**-0.5, dtype=dtype)


def _panels(matrix: Tensor) -> Array:
    return pack_panels(np.ascontiguousarray(matrix.numpy()))


def _padded(row: Tensor) -> Array:
    """A row with as many numbers as the panels of a matrix of that width have columns."""
    panels = pack_panels(row.numpy()[None])
    return np.ascontiguousarray(panels[:, 0].reshape(-1))


def _numpy(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().numpy())

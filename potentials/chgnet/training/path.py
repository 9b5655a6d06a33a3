"""A prediction attached to the weights alone, whose backward needs no second derivative of a layer.

Forwards, the fast path gives energies, forces, stress and moments. Backwards, the loss asks for the
gradient of ``sum(v F) + sum(w S)`` with given v and w. Forces and stress are derivatives of the
energy, so that sum is one directional derivative of the energy: along displacements ``-v`` and
strains ``w / V``. The network is evaluated with its tangent in that direction, and one ordinary way
back from energies, tangents and moments gives the gradients of all weights (forward over reverse:
Pearlmutter, Neural Comput. 6, 147 (1994)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Potential, Prediction
from atomml.potentials.chgnet.fast import FastCHGNet, Geometry
from atomml.potentials.chgnet.model import COSINE_SHRINK, CHGNet
from atomml.potentials.chgnet.training.functions import Parts, Rows
from atomml.potentials.chgnet.training.network import Directed, evaluate
from atomml.tangents import direction_of_loss, linear_form, weight_gradients

__all__ = ["TrainingCHGNet"]

NAMES = ("energy", "site_energies", "forces", "stress", "magmoms", "atom_features", "crystal_features")
"""Fields of a prediction in the order in which the function returns them."""


class TrainingCHGNet:
    """Predictions of a CHGNet that are differentiable once, in its weights.

    Args:
        model: Gives shape, device and type; its weights are read anew at each call.
    """

    def __init__(self, model: CHGNet) -> None:
        self.fast = FastCHGNet(model)

    def __call__(self, model: Potential, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction for the weights as they are now; they must not change before ``backward``."""
        assert isinstance(model, CHGNet)
        self.fast.refold(model)
        names, weights = zip(*model.named_parameters(), strict=True)
        answer = _Prediction.apply(self.fast, graph, forces, stress, names, *weights)  # type: ignore[no-untyped-call]
        return Prediction(**dict(zip(NAMES, answer, strict=True)))


class _Prediction(torch.autograd.Function):
    """The prediction as a function of the weights."""

    @staticmethod
    def forward(
        ctx: Any, fast: FastCHGNet, graph: AtomGraph, forces: bool, stress: bool, names: tuple[str, ...],
        *weights: Tensor,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """The prediction's arrays by the fast path."""
        prediction, geometry = fast.with_geometry(graph, forces, stress)
        ctx.graph, ctx.geometry, ctx.names, ctx.config = graph, geometry, names, fast.config
        ctx.save_for_backward(*weights)
        ctx.set_materialize_grads(False)
        return tuple(getattr(prediction, name) for name in NAMES)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the weights, from the network with tangents."""
        given = dict(zip(NAMES, gradients, strict=True))
        wanted = ctx.needs_input_grad[5:]
        leaves = [w.detach().requires_grad_(on) for w, on in zip(ctx.saved_tensors, wanted, strict=True)]
        graph: AtomGraph = ctx.graph
        batch = _directed(graph, ctx.geometry, given["forces"], given["stress"], leaves[0].dtype)
        with torch.enable_grad():
            found = evaluate(dict(zip(ctx.names, leaves, strict=True)), ctx.config, batch)
            asked = given["forces"] is not None or given["stress"] is not None
            described = {
                "magmoms": found.magmoms,
                "atom_features": found.atom_features,
                "crystal_features": found.readout_features,
            }
            loss = linear_form(graph, given, found.site if asked else found.site[:1], described)
            gradients_of = weight_gradients(loss, leaves, wanted)
        return (None,) * 5 + gradients_of


def _directed(
    graph: AtomGraph, geometry: Geometry, forces: Tensor | None, stress: Tensor | None, dtype: torch.dtype
) -> Directed:
    """Lengths and angles with their tangents along the direction that the loss's gradients give."""
    top = geometry.top
    vectors, distances = torch.from_numpy(geometry.vectors), torch.from_numpy(geometry.distances)
    along = direction_of_loss(graph, vectors, forces, stress)
    directions = vectors / distances[:, None]
    stretch = (directions * along).sum(dim=1)
    primary, short = (torch.from_numpy(index).long() for index in (top.primary, top.short_edge))
    turns = (along[short] - directions[short] * stretch[short, None]) / distances[short, None]
    first, second = torch.from_numpy(top.angles).long().T
    directions = directions[short]
    cosines = COSINE_SHRINK * (directions[first] * directions[second]).sum(dim=1)
    change = COSINE_SHRINK * (turns[first] * directions[second] + directions[first] * turns[second]).sum(
        dim=1
    )
    edges, angles = _rows(graph, geometry)
    return Directed(
        numbers=graph.numbers,
        lengths=torch.stack([distances[primary], stretch[primary]]).to(dtype),
        short=torch.from_numpy(top.pair_bond).long(),
        pair=torch.from_numpy(top.pair).long(),
        bends=torch.stack([torch.acos(cosines), -change / torch.sqrt(1 - cosines**2)]).to(dtype),
        edges=edges,
        angles=angles,
    )


def _rows(graph: AtomGraph, geometry: Geometry) -> tuple[Rows, Rows]:
    """Rows of the atom graph and of the bond graph, split alike."""
    top = geometry.top
    centre, neighbour = graph.edge_index.numpy().astype(np.int32)
    parts = Parts.of(graph.atoms_per_graph().numpy(), top.edge_start, torch.get_num_threads())
    edges = Rows(
        parts.atoms, parts.copies, top.edge_start, centre, (centre, neighbour, top.undirected), top.undirected
    )
    first, second = np.ascontiguousarray(top.angles.T)
    n_short = len(top.short_edge)
    one, two = top.short_bond[first], top.short_bond[second]
    vertex = centre[top.short_edge][first]
    start = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=n_short))])
    angles = Rows(top.short_start[parts.atoms], parts.copies, start, first, (one, two, vertex), two)
    return edges, angles

"""A prediction of a DPA3 attached to the weights alone, whose backward needs no second derivative of a layer.

Forwards, the fast path gives energies, forces and stress. Backwards, the loss asks for the gradient of
``sum(v F) + sum(w S)`` with given v and w, which is one directional derivative of the energy: along
displacements ``-v`` and strains ``w / V``. The network is evaluated with its tangent in that direction, and
one ordinary way back from energies and tangents gives the gradients of all weights (forward over reverse:
Pearlmutter, Neural Comput. 6, 147 (1994)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.parts import Parts
from atomml.kernels.threads import run_ranges, split_weighted
from atomml.model import Potential, Prediction
from atomml.potentials.dpa3.fast import FastDPA3
from atomml.potentials.dpa3.model import DPA3
from atomml.potentials.dpa3.surroundings import COSINE_SHRINK, bond_terms, edge_terms
from atomml.potentials.dpa3.training.angles import cosine_duals
from atomml.potentials.dpa3.training.functions import Array, Placed
from atomml.potentials.dpa3.training.network import evaluate
from atomml.tangents import direction_of_loss, linear_form, weight_gradients, with_tangents

__all__ = ["TrainingDPA3"]

NAMES = ("energy", "site_energies", "forces", "stress", "atom_features", "crystal_features")
"""Fields of a prediction in the order in which the function returns them."""


class TrainingDPA3:
    """Predictions of a DPA3 that are differentiable once, in its weights.

    Args:
        model: One that :class:`FastDPA3` supports; its weights are read anew at each call.
    """

    def __init__(self, model: DPA3) -> None:
        with torch.no_grad():
            self.fast = FastDPA3(model)

    def __call__(self, model: Potential, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction for the weights as they are now; they must not change before ``backward``."""
        assert model is self.fast.model
        answer = _Prediction.apply(self.fast, graph, forces, stress, *model.parameters())  # type: ignore[no-untyped-call]
        return Prediction(**dict(zip(NAMES, answer, strict=True)))


class _Prediction(torch.autograd.Function):
    """The prediction as a function of the weights."""

    @staticmethod
    def forward(
        ctx: Any, fast: FastDPA3, graph: AtomGraph, forces: bool, stress: bool, *weights: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The prediction's arrays by the fast path."""
        fast.refold()
        ctx.model, ctx.graph, ctx.act = fast.model, graph, fast.weights.act
        ctx.head = fast.model.config.head_index  # another one may answer before ``backward``
        ctx.save_for_backward(*weights)
        ctx.set_materialize_grads(False)
        prediction = fast(graph, forces, stress)
        return tuple(getattr(prediction, name) for name in NAMES)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the weights, from the network with tangents."""
        given = dict(zip(NAMES, gradients, strict=True))
        wanted = ctx.needs_input_grad[4:]
        placed = _placed(ctx.model, ctx.graph, given["forces"], given["stress"], ctx.act)
        with torch.enable_grad():
            site, atoms = evaluate(ctx.model, ctx.head, ctx.graph, placed)
            described = {"atom_features": atoms, "crystal_features": atoms}
            loss = linear_form(ctx.graph, given, site, described)
            found = weight_gradients(loss, ctx.saved_tensors, wanted)
        return (None,) * 4 + found


def _placed(
    model: DPA3, graph: AtomGraph, forces: Tensor | None, stress: Tensor | None, act: Array
) -> Placed:
    """Geometry with its tangents along the direction that the loss's gradients give."""
    config = model.config
    centre, neighbour = graph.edge_index
    vectors = graph.edge_vectors()
    along = direction_of_loss(graph, vectors, forces, stress)
    row = model._row[graph.numbers][centre]
    terms = zip(*with_tangents(lambda v: _edge_terms(model, v, row), vectors, along), strict=True)
    seen, direction, weight = (torch.stack(term).to(model.dtype) for term in terms)
    bonds = torch.nonzero(torch.linalg.vector_norm(vectors, dim=1) < config.a_rcut)[:, 0]
    terms = zip(*with_tangents(lambda v: bond_terms(v, config), vectors[bonds], along[bonds]), strict=True)
    unit, angle_weight = (torch.stack(term) for term in terms)
    per_atom = np.bincount(centre[bonds].numpy(), minlength=graph.n_atoms)
    edge_start = _starts(np.bincount(centre.numpy(), minlength=graph.n_atoms))
    bond_start, angle_start = _starts(per_atom), _starts(per_atom**2)
    threads = torch.get_num_threads()
    cosine = unit.new_empty((2, int(angle_start[-1]), 1))
    run_ranges(
        cosine_duals, split_weighted(angle_start, threads, 1000.0), bond_start, angle_start,
        unit[0].numpy(), unit[1].numpy(), COSINE_SHRINK / math.sqrt(math.pi), cosine.numpy(),
    )  # fmt: skip
    return Placed(
        parts=Parts.of(graph.atoms_per_graph().numpy(), edge_start, threads),
        edge_start=edge_start,
        centre=np.ascontiguousarray(centre.numpy()),
        neighbour=np.ascontiguousarray(neighbour.numpy()),
        bonds=bonds,
        bond_atom=centre[bonds],
        bond_start=bond_start,
        angle_start=angle_start,
        seen=seen,
        weight=weight[..., 0].contiguous().numpy(),
        direction=direction.numpy(),
        angle_weight=angle_weight[..., 0].to(model.dtype).contiguous(),
        cosine=cosine.to(model.dtype),
        act=act,
    )


def _edge_terms(model: DPA3, vectors: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What edges are embedded by, direction times the switch once more, and switch."""
    length, inverse, direction, weight = edge_terms(vectors, row, model.config, model.mean, model.deviation)
    return length if model.config.edge_init_use_dist else inverse, direction * weight, weight


def _starts(counts: Array) -> Array:
    """Where each begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

"""A prediction of a MACE attached to the weights alone, whose backward needs no second derivative of a layer.

Forwards, energies are differentiated once, for forces and stress. Backwards, the loss asks for the gradient
of ``sum(v F) + sum(w S)`` with given v and w, which is one directional derivative of the energy: along
displacements ``-v`` and strains ``w / V``. The network is evaluated with its tangent in that direction, and
one ordinary way back from energies and tangents gives the gradients of all weights (forward over reverse:
Pearlmutter, Neural Comput. 6, 147 (1994)).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Potential, Prediction, virial_to_stress
from atomml.nn import segment_sum
from atomml.potentials.mace.interaction import Interaction
from atomml.potentials.mace.irreps import Block
from atomml.potentials.mace.model import MACE
from atomml.potentials.mace.product import Product
from atomml.potentials.mace.training.functions import Edges
from atomml.potentials.mace.training.network import Layer, Placed, readout
from atomml.tangents import direction_of_loss, linear_form, weight_gradients, with_tangents

__all__ = ["TrainingMACE"]

NAMES = ("energy", "site_energies", "forces", "stress", "atom_features", "crystal_features")
"""Fields of a prediction in the order in which the function returns them."""


class TrainingMACE:
    """Predictions of a MACE that are differentiable once, in its weights; float32 and float64 on the CPU.

    Args:
        model: Gives the shape; its weights are read anew at each call.
    """

    def __init__(self, model: MACE) -> None:
        self.layers: list[Layer] = []
        features = [Block(0, 1, model.embedding.shape[1])]
        for interaction, product in zip(model.interactions, model.products, strict=True):
            assert isinstance(interaction, Interaction)
            assert isinstance(product, Product)
            self.layers.append(Layer(interaction, product, features))
            features = self.layers[-1].outputs

    @staticmethod
    def supports(model: MACE) -> bool:
        """Whether the kernels cover this model: on the CPU, up to order 3, without gated interactions."""
        return (
            model.device.type == "cpu"
            and max(model.config.correlations) <= 3
            and all(isinstance(interaction, Interaction) for interaction in model.interactions)
        )

    def __call__(self, model: Potential, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction for the weights as they are now; they must not change before ``backward``."""
        assert isinstance(model, MACE)
        answer = _Prediction.apply(self, model, graph, forces, stress, *model.parameters())  # type: ignore[no-untyped-call]
        return Prediction(**dict(zip(NAMES, answer, strict=True)))

    def evaluate(self, model: MACE, head: int, graph: AtomGraph, placed: Placed) -> tuple[Tensor, Tensor]:
        """Site energies without repulsion, scale and shift ``(k * n_atoms,)``, and all invariants."""
        k, n = placed.k, graph.n_atoms
        embedded = (model.embedding / math.sqrt(len(model.embedding)))[model._row[graph.numbers]]
        rows = embedded if k == 1 else torch.cat([embedded, torch.zeros_like(embedded)])
        features, groups = [rows[:, None, :]], placed.groups()
        site = rows.new_zeros(k * n)
        invariants = []
        for layer, module in zip(self.layers, model.readouts, strict=True):
            features = layer(features, placed, groups)
            invariants.append(features[0][:n, 0])
            if not isinstance(module, nn.Identity):
                site = site + readout(module, features, head, k)  # type: ignore[arg-type]
        return site, torch.cat(invariants, dim=1)


class _Prediction(torch.autograd.Function):
    """The prediction as a function of the weights."""

    @staticmethod
    def forward(
        ctx: Any, path: TrainingMACE, model: MACE, graph: AtomGraph, forces: bool, stress: bool,
        *weights: Tensor,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """Energies, and their derivatives with respect to positions and strain."""
        head = model.config.head_index
        ctx.path, ctx.model, ctx.graph, ctx.head = path, model, graph, head
        ctx.set_materialize_grads(False)
        strain = torch.zeros_like(graph.cell, requires_grad=stress)
        positions = graph.positions.detach().requires_grad_(forces)
        with torch.enable_grad():
            moved = replace(graph, positions=positions)
            moved = moved.strained(strain) if stress else moved
            vectors = moved.edge_vectors()
            site, described = path.evaluate(model, head, graph, _placed(model, graph, vectors))
            if model.repulsion is not None:
                site = site + _repulsion(model, graph, vectors)
            site = model.scale[head] * site + model.shift[head]
            wanted = [tensor for tensor, on in ((positions, forces), (strain, stress)) if on]
            found = torch.autograd.grad(site.sum(), wanted, allow_unused=True, materialize_grads=True)
        each = site.detach().double() + model.reference[head, model._row[graph.numbers]]
        described = described.detach()
        return (
            torch.zeros(graph.n_graphs, dtype=torch.float64).index_add(0, graph.batch, each),
            each,
            -found[0] if forces else None,
            virial_to_stress(found[-1], graph) if stress else None,
            described,
            segment_sum(described, graph.batch, graph.n_graphs),
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the weights, from the network with tangents."""
        given = dict(zip(NAMES, gradients, strict=True))
        model, graph, head = ctx.model, ctx.graph, ctx.head
        weights = list(model.parameters())
        vectors = graph.edge_vectors()
        along = direction_of_loss(graph, vectors, given["forces"], given["stress"])
        with torch.enable_grad():
            site, atoms = ctx.path.evaluate(model, head, graph, _placed(model, graph, vectors, along))
            scaled = model.scale[head].to(site.dtype) * site.reshape(-1, graph.n_atoms)
            loss = linear_form(graph, given, scaled, {"atom_features": atoms, "crystal_features": atoms})
            found = weight_gradients(loss, weights, [one.requires_grad for one in weights])
        return (None,) * 5 + found


def _placed(model: MACE, graph: AtomGraph, vectors: Tensor, along: Tensor | None = None) -> Placed:
    """Harmonics and radial functions of the edges, with tangents if there is a direction."""
    edges = Edges.of(graph)
    primary = edges.primary
    pairs = graph.numbers[graph.edge_index[:, primary].flip(0)]

    if along is None:
        k, harmonics = 1, _harmonics(model, vectors)[None]
        basis, cut = _radial(model, vectors[primary], pairs)
    else:
        k = 2
        (value,), (turn,) = with_tangents(lambda v: (_harmonics(model, v),), vectors, along)
        harmonics = torch.stack([value, turn])
        values, tangents = with_tangents(lambda v: _radial(model, v, pairs), vectors[primary], along[primary])
        basis, cut = (torch.cat(both) for both in zip(values, tangents, strict=True))
    rows = model._row[graph.numbers]
    order = torch.argsort(rows, stable=True)
    elements, counts = torch.unique(rows, return_counts=True)
    return Placed(
        k=k,
        edges=edges,
        centre=graph.edge_index[0],
        pair=torch.from_numpy(edges.pair),
        harmonics=harmonics,
        basis=basis,
        cut=None if model.config.early_cutoff else cut,
        elements=elements,
        order=order,
        bounds=np.concatenate([[0], np.cumsum(counts.numpy())]),
    )


def _harmonics(model: MACE, vectors: Tensor) -> Tensor:
    """Spherical harmonics of the directions from neighbours, ``(n_edges, n_harmonics)``."""
    from e3nn import o3

    degrees = list(range(model.config.max_degree + 1))
    values: Tensor = o3.spherical_harmonics(degrees, (-vectors).to(model.dtype), True, "component")
    return values


def _radial(model: MACE, vectors: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Basis, cut off where the model does that early, and cutoff."""
    distances = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).to(model.dtype)
    basis, cut = model.basis(distances, pairs)
    return (basis * cut, cut) if model.config.early_cutoff else (basis, cut)


def _repulsion(model: MACE, graph: AtomGraph, vectors: Tensor) -> Tensor:
    """Energies of atoms, which no weight changes."""
    assert model.repulsion is not None
    distances = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).to(model.dtype)
    pairs = graph.numbers[graph.edge_index.flip(0)]
    energies: Tensor = model.repulsion(distances, pairs, graph.edge_index[0], graph.n_atoms)
    return energies

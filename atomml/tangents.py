"""What the training paths of models share: the direction that a loss asks for, and tangents along it.

Forces and stress are derivatives of the energy, so the gradient of a loss of them is that of one directional
derivative of the energy (forward over reverse: Pearlmutter, Neural Comput. 6, 147 (1994)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.model import virial_to_stress

__all__ = ["direction_of_loss", "linear_form", "weight_gradients", "with_tangents"]


def direction_of_loss(
    graph: AtomGraph, vectors: Tensor, forces: Tensor | None, stress: Tensor | None
) -> Tensor:
    """Change of each edge's vector along the direction that the loss's gradients give, ``(n_edges, 3)``.

    The derivative of the energy along it is what ``sum(forces * F) + sum(stress * S)`` is.

    Args:
        graph: Structures.
        vectors: ``(n_edges, 3)`` of their edges, Å.
        forces: ``(n_atoms, 3)`` gradient of the loss with respect to forces, if there is one.
        stress: ``(n_graphs, 3, 3)`` the same of stresses; NaN where a structure has none.
    """
    centre, neighbour = graph.edge_index
    along = torch.zeros_like(vectors)
    if forces is not None:
        along = forces[centre] - forces[neighbour]
    if stress is not None:
        # The map from strain gradient to stress is its own adjoint; where there is no stress, no strain.
        strain = virial_to_stress(stress, graph).nan_to_num(nan=0.0)
        along = along + torch.einsum("ei,eij->ej", vectors, strain[graph.batch[centre]])
    return along


def linear_form(
    graph: AtomGraph, given: Mapping[str, Tensor | None], site: Tensor, described: Mapping[str, Tensor]
) -> Tensor:
    """What has the loss's gradients: tangents once, each output as often as the loss asks for it.

    Args:
        graph: Structures.
        given: The loss's gradients by field of the prediction; None where it does not ask.
        site: ``(k, n_atoms)`` energies and, with k = 2, their tangents.
        described: ``(n_atoms, ...)`` other fields by name; of a crystal, that which is summed over its atoms.
    """
    total = site[1:].sum()
    each = given["site_energies"]
    if given["energy"] is not None:
        own = given["energy"][graph.batch]
        each = own if each is None else each + own
    if each is not None:
        total = total + (each.to(site.dtype) * site[0]).sum()
    for name, output in described.items():
        gradient = given[name]
        if gradient is not None:
            of_atoms = gradient[graph.batch] if name == "crystal_features" else gradient
            total = total + (of_atoms.to(output.dtype) * output).sum()
    return total


def weight_gradients(
    loss: Tensor, weights: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of the weights that are wanted, zeros where nothing depends; None of the others."""
    asking = [one for one, on in zip(weights, wanted, strict=True) if on]
    answer = iter(torch.autograd.grad(loss, asking, allow_unused=True, materialize_grads=True))
    return tuple(next(answer) if on else None for on in wanted)


def with_tangents(
    function: Callable[[Tensor], tuple[Tensor, ...]], at: Tensor, along: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Values and directional derivatives.

    A product with the transposed Jacobian is linear in its argument, and what it is transposed to is the
    directional derivative: two ways back do what ``torch.func.jvp``, for which torch 2.13 compiles scripts
    that it deprecates, would.
    """
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        values = function(at)
        probes = tuple(torch.zeros_like(value, requires_grad=True) for value in values)
        (back,) = torch.autograd.grad(values, at, probes, create_graph=True)
        tangents = torch.autograd.grad(back, probes, along, materialize_grads=True)
    return tuple(value.detach() for value in values), tangents

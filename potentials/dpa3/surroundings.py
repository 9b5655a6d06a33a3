"""What all layers see of a structure: who neighbours whom, how far away, and at which angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.potentials.dpa3.config import DPA3Config

__all__ = ["Surroundings", "bond_terms", "edge_terms", "rest_of_switch", "switch"]

COSINE_SHRINK = 1 - 1e-6
LENGTH_PROTECTION = 1e-6
"""Å, added to the lengths that directions are divided by. Weights were trained with both."""


def switch(distance: Tensor, start: float, cutoff: float, exponential: bool) -> Tensor:
    """From 1 to 0 between ``start`` and ``cutoff``.

    The polynomial is continuous to second order. The exponential one, ``exp(-exp(20 (r - start) / start))``,
    is cut off at a value that is not 0: 8e-7 for 5.3 and 6 Å, 3e-8 for 3.5 and 4 Å.
    """
    if exponential:
        value = torch.exp(-torch.exp((20 / start) * (distance - start)))
    else:
        u = ((distance - start) / (cutoff - start)).clamp(0, 1)
        value = 1 - u**3 * (10 - 15 * u + 6 * u**2)
    return torch.where(distance < cutoff, value, torch.zeros_like(value))


def rest_of_switch(start: float, cutoff: float) -> tuple[float, float]:
    """The exponential switch just inside its cutoff, and its slope, 1/Å."""
    inner = math.exp(20 / start * (cutoff - start))
    return math.exp(-inner), -20 / start * inner * math.exp(-inner)


@dataclass(frozen=True)
class Surroundings:
    """Edges and angles of a graph.

    Attributes:
        centre, neighbour: ``(n_edges,)`` atoms.
        length: ``(n_edges, 1)`` Å.
        inverse: ``(n_edges, 1)`` switched inverse length, normalised.
        direction: ``(n_edges, 3)`` vector over its squared length, switched and normalised.
        weight: ``(n_edges, 1)`` the switch.
        bonds: ``(n_bonds,)`` the edges that enclose angles.
        bond_atom: ``(n_bonds,)`` their centre.
        first, second: ``(n_angles,)`` the bonds of each angle, by position in ``bonds``. All ordered pairs
            that leave one atom, those of a bond with itself too.
        angle_atom: ``(n_angles,)``.
        cosine: ``(n_angles, 1)`` of each angle, over the square root of pi.
        angle_weight: ``(n_angles, 1)`` product of both bonds' switches.
    """

    centre: Tensor
    neighbour: Tensor
    length: Tensor
    inverse: Tensor
    direction: Tensor
    weight: Tensor
    bonds: Tensor
    bond_atom: Tensor
    first: Tensor
    second: Tensor
    angle_atom: Tensor
    cosine: Tensor
    angle_weight: Tensor

    @classmethod
    def of(
        cls,
        graph: AtomGraph,
        config: DPA3Config,
        mean: Tensor,
        deviation: Tensor,
        rows: Tensor,
        dtype: torch.dtype,
    ) -> Surroundings:
        """Computed in float64, then in the model's precision.

        Args:
            graph: With a bond graph.
            config: Cutoffs and switches.
            mean: ``(n_types,)`` mean of the switched inverse length around an atom of each type.
            deviation: ``(n_types, 2)`` what inverse lengths and directions are divided by.
            rows: ``(n_atoms,)`` type of each atom.
            dtype: Of the result.
        """
        if graph.bond_graph is None:
            raise ModelError(
                f"DPA3 needs a graph with a bond graph: build it with bond_cutoff={config.a_rcut}."
            )
        centre, neighbour = graph.edge_index
        vectors = graph.edge_vectors()
        length, inverse, direction, weight = edge_terms(vectors, rows[centre], config, mean, deviation)
        bonds, first, second = _angles(graph)
        unit, angle_switch = bond_terms(vectors[bonds], config)
        cosine = (unit[first] * unit[second]).sum(1, keepdim=True) * (COSINE_SHRINK / math.sqrt(math.pi))
        return cls(
            centre=centre,
            neighbour=neighbour,
            length=length.to(dtype),
            inverse=inverse.to(dtype),
            direction=direction.to(dtype),
            weight=weight.to(dtype),
            bonds=bonds,
            bond_atom=centre[bonds],
            first=first,
            second=second,
            angle_atom=centre[bonds[first]],
            cosine=cosine.to(dtype),
            angle_weight=(angle_switch[first] * angle_switch[second]).to(dtype),
        )


def edge_terms(
    vectors: Tensor, row: Tensor, config: DPA3Config, mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Length, normalised inverse, normalised direction and switch of edges; as in :class:`Surroundings`.

    Args:
        vectors: ``(n_edges, 3)`` Å.
        row: ``(n_edges,)`` type of the atom at the centre.
        config: Cutoff and switch.
        mean: As of :meth:`Surroundings.of`.
        deviation: As of :meth:`Surroundings.of`.
    """
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    weight = switch(length, config.e_rcut_smth, config.e_rcut, config.use_exp_switch)
    protected = length + config.env_protection
    scale = deviation.double()[row]
    inverse = (weight / protected - mean.double()[row, None]) / scale[:, :1]
    return length, inverse, vectors / protected**2 * weight / scale[:, 1:], weight


def bond_terms(vectors: Tensor, config: DPA3Config) -> tuple[Tensor, Tensor]:
    """Directions ``(n_bonds, 3)`` between which angles are, and switches ``(n_bonds, 1)``, of bonds."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    angle_switch = switch(length, config.a_rcut_smth, config.a_rcut, config.use_exp_switch)
    return vectors / (length + LENGTH_PROTECTION), angle_switch


def _angles(graph: AtomGraph) -> tuple[Tensor, Tensor, Tensor]:
    """Bonds, and both of each angle by position among them; a bond with itself comes last."""
    assert graph.bond_graph is not None
    bonds, pairs = graph.bond_graph.bonds, graph.bond_graph.angle_index
    position = torch.zeros(graph.n_edges, dtype=torch.int64, device=graph.device)
    alone = torch.arange(len(bonds), device=graph.device)
    position[bonds] = alone
    return bonds, torch.cat([position[pairs[0]], alone]), torch.cat([position[pairs[1]], alone])

"""Several models asked together: the mean answers, and their spread says how far to trust it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.graph.shorter import shorter
from atomml.model import Energies, FastPath, ModelInfo, Potential, Prediction

__all__ = ["Committee"]

Answer = Callable[[Potential, AtomGraph], Prediction]


class Committee(Potential):
    """The mean of several potentials, and the standard deviation among them (divided by n - 1).

    Each member sees a graph with its own cutoffs and answers by its own fast path. The forces are the
    derivative of the mean energy.

    Args:
        members: Two models or more, of one precision, on one device.

    Raises:
        ModelError: Fewer than two, the same one twice, or no element that all of them know.
    """

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__(_described(members))
        self.members = nn.ModuleList(members)

    def energies(self, graph: AtomGraph) -> Energies:
        """Mean of the members' site energies and of their constant energies of elements."""
        found = [member.energies(self._seen_by(member, graph)) for member in self._each()]
        site = torch.stack([one.site for one in found]).mean(dim=0)
        references = [
            torch.zeros_like(one.site, dtype=torch.float64) if one.reference is None else one.reference
            for one in found
        ]
        return Energies(site, torch.stack(references).mean(dim=0))

    def build_fast_path(self) -> FastPath | None:
        """Every member's best path, one after the other; None if none of them has a fast one."""
        if all(member.fast_path() is None for member in self._each()):
            return None
        return lambda graph, forces, stress: self._mean(
            graph, lambda member, seen: member.predict(seen, forces=forces, stress=stress)
        )

    def hyperparameters(self) -> NoReturn:
        """A committee is no model of its own.

        Raises:
            ModelError: Always.
        """
        raise ModelError("A committee has no weights of its own: save or train its members.")

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A committee is made from models.

        Raises:
            ModelError: Always.
        """
        raise ModelError("A committee is made of models: give their names, separated by commas.")

    def _predict_plain(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        return self._mean(
            graph, lambda member, seen: member.predict(seen, forces=forces, stress=stress, path="plain")
        )

    def _each(self) -> list[Potential]:
        return list(self.members)  # type: ignore[arg-type]

    @staticmethod
    def _seen_by(member: Potential, graph: AtomGraph) -> AtomGraph:
        angles = member.fast_path() is None
        return shorter(graph, member.info.cutoff, member.info.bond_cutoff, angles=angles)

    def _mean(self, graph: AtomGraph, answer: Answer) -> Prediction:
        found = [answer(member, self._seen_by(member, graph)) for member in self._each()]

        def over(name: str) -> Tensor | None:
            """Mean of one answer, or None where a member does not give it."""
            values = [getattr(one, name) for one in found]
            return None if any(value is None for value in values) else torch.stack(values).mean(dim=0)

        energy, site = over("energy"), over("site_energies")
        assert energy is not None
        assert site is not None
        return Prediction(
            energy=energy,
            site_energies=site,
            forces=over("forces"),
            stress=over("stress"),
            magmoms=over("magmoms"),
            energy_std=torch.stack([one.energy for one in found]).std(dim=0),
            forces_std=_vector_std([one.forces for one in found]),
        )


def _vector_std(values: list[Tensor | None]) -> Tensor | None:
    """Root of the variance summed over the three components, for each atom."""
    given = [value for value in values if value is not None]
    if len(given) < len(values):
        return None
    stacked = torch.stack(given)
    squares = (stacked - stacked.mean(dim=0)).square().sum(dim=2)
    return (squares.sum(dim=0) / (len(given) - 1)).sqrt()


def _described(members: Sequence[Potential]) -> ModelInfo:
    """What is true of all members.

    Raises:
        ModelError: They cannot be one committee.
    """
    if len(members) < 2:
        raise ModelError("A committee needs two models or more: their spread is what it is for.")
    infos = [member.info for member in members]
    seen: dict[str, str] = {}
    for info in infos:
        key = info.sha256 or info.name
        if key in seen:
            raise ModelError(f"The committee has {info.name} twice: its spread would be too small.")
        seen[key] = info.name
    if len({(member.dtype, member.device) for member in members}) > 1:
        raise ModelError("The models of a committee must have one precision and be on one device.")
    shared = set(infos[0].elements).intersection(*(info.elements for info in infos[1:]))
    if not shared:
        raise ModelError(f"No element is known to all of {', '.join(info.name for info in infos)}.")
    ranges = [info.interaction_range for info in infos]
    bonds = [info.bond_cutoff for info in infos if info.bond_cutoff is not None]
    digests = "".join(info.sha256 for info in infos)
    return ModelInfo(
        name=",".join(info.name for info in infos),
        family="committee",
        cutoff=max(info.cutoff for info in infos),
        bond_cutoff=max(bonds) if bonds else None,
        elements=tuple(sorted(shared)),
        interaction_range=None if None in ranges else max(r for r in ranges if r is not None),
        properties=("magmoms",) if all("magmoms" in info.properties for info in infos) else (),
        charge_aware=all(info.charge_aware for info in infos),
        training_data="; ".join(dict.fromkeys(info.training_data for info in infos if info.training_data)),
        licence="; ".join(dict.fromkeys(info.licence for info in infos if info.licence)),
        citation="; ".join(dict.fromkeys(info.citation for info in infos if info.citation)),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
    )

"""A potential made ready for its laws: copies in both precisions, structures, and tolerances."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from atomml.graph import GraphBuilder, collate
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Potential, Prediction
from atomml.testing.laws import Measurement
from atomml.testing.structures import sample_structures

__all__ = ["Answer", "PotentialSubject", "Tolerances"]

Route = Literal["auto", "plain", "fast"]
Floats = NDArray[np.float64]

ROUNDING = 2.0**-24
"""Unit roundoff of float32."""


@dataclass(frozen=True)
class Answer:
    """What a potential says of one structure, as arrays.

    Attributes:
        energy: eV.
        site: ``(n_atoms,)`` eV.
        forces: ``(n_atoms, 3)`` eV/Å.
        stress: ``(3, 3)`` eV/Å³, NaN without a volume.
    """

    energy: float
    site: Floats
    forces: Floats
    stress: Floats

    @classmethod
    def of(cls, prediction: Prediction) -> Answer:
        """The answer in a prediction for a single structure."""
        assert prediction.forces is not None
        assert prediction.stress is not None
        return cls(
            energy=float(prediction.energy[0]),
            site=prediction.site_energies.detach().cpu().numpy(),
            forces=prediction.forces.detach().cpu().numpy(),
            stress=prediction.stress[0].detach().cpu().numpy(),
        )


@dataclass(frozen=True)
class Tolerances:
    """How far two answers that must agree may differ.

    Attributes:
        energy: eV/atom.
        forces: eV/Å.
        stress: eV/Å³.
    """

    energy: float
    forces: float
    stress: float

    @classmethod
    def float64(cls) -> Tolerances:
        """Rounding of float64 with room for a few thousand terms; far below any physics."""
        return cls(energy=1e-10, forces=1e-9, stress=1e-10)

    @classmethod
    def float32(cls, energy_scale: float, force_scale: float, stress_scale: float) -> Tolerances:
        """Rounding of float32, from the size of the numbers that are rounded.

        With u = 2⁻²⁴ and independent roundings, n of them move a number of size s by about u s √n.
        An energy passes through some 10³ (√n = 32; twice that, for the worst of a dozen structures). A
        force comes back through all of these and is a sum over all neighbours: some 6·10⁴ (√n = 256). A
        stress is a sum of the same.
        """
        return cls(
            energy=64 * ROUNDING * energy_scale,
            forces=256 * ROUNDING * force_scale,
            stress=256 * ROUNDING * stress_scale,
        )


def _load(name: str) -> Potential:
    from atomml.registry import load_model

    return load_model(name, dtype="float64")


class PotentialSubject:
    """Wraps a potential, or the name or file of one, for its laws.

    Args:
        model: Copied, never changed.
        dtype: ``float32`` or ``float64``, the precision under test.
        quick: Fewer structures and directions.
    """

    def __init__(self, model: Potential | str, dtype: str, quick: bool) -> None:
        potential = _load(model) if isinstance(model, str) else model
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.quick = quick
        self.exact = copy.deepcopy(potential).to(torch.float64)
        self.model = copy.deepcopy(potential).to(self.dtype)

    @cached_property
    def samples(self) -> dict[str, Atoms]:
        """Structures of the model's elements, by name."""
        return sample_structures(self.model.info.elements, self.calibration_energy, self.quick)

    def calibration_energy(self, atoms: Atoms) -> float:
        """Energy per atom, eV, infinite where the model has none: finds distances that suit the model."""
        energies = self.exact.energies(self.graph(atoms)).site.detach()
        total = float(energies.sum()) / len(atoms)
        return total if np.isfinite(total) else np.inf

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """What the model says of each sample."""
        return {name: self.answer(atoms) for name, atoms in self.samples.items()}

    @cached_property
    def exact_answers(self) -> dict[str, Answer]:
        """What the model's float64 copy says of each sample by the plain path."""
        return {
            name: self.answer(atoms, model=self.exact, path="plain") for name, atoms in self.samples.items()
        }

    @cached_property
    def tolerances(self) -> Tolerances:
        """How far answers that must agree may differ in this precision.

        In float32 the scales are the largest interaction energy of an atom, the largest
        force (at least that energy over 1 Å), and that energy times the density of atoms.
        """
        if self.dtype == torch.float64:
            return Tolerances.float64()
        energy, force, stress = 0.0, 0.0, 0.0
        for name, atoms in self.samples.items():
            site = float(self.exact.energies(self.graph(atoms)).site.detach().abs().max())
            energy = max(energy, site)
            force = max(force, float(np.abs(self.exact_answers[name].forces).max()))
            if atoms.pbc.all():
                stress = max(stress, site * len(atoms) / atoms.get_volume())
        return Tolerances.float32(energy, max(force, energy), stress)

    def graph(self, atoms: Atoms | Sequence[Atoms]) -> AtomGraph:
        """The graph of one structure, or of a batch of many, with the model's cutoffs."""
        builder = GraphBuilder.for_model(self.model)
        return builder(atoms) if isinstance(atoms, Atoms) else collate([builder(one) for one in atoms])

    def answer(self, atoms: Atoms, *, model: Potential | None = None, path: Route = "auto") -> Answer:
        """The model's answer for one structure."""
        return Answer.of((model or self.model).predict(self.graph(atoms), path=path))

    def site_energies(self, structures: Sequence[Atoms], *, at_once: int = 24) -> list[Floats]:
        """Site energies of many structures, by batches, eV."""
        found: list[Floats] = []
        for start in range(0, len(structures), at_once):
            graph = self.graph(list(structures[start : start + at_once]))
            prediction = self.model.predict(graph, forces=False, stress=False)
            found += [part.site_energies.cpu().numpy() for part in prediction.split(graph)]
        return found

    def compare(
        self, before: Answer, after: Answer, where: str, *, forces: Any = None, stress: Any = None
    ) -> Iterator[Measurement]:
        """Measure that two answers agree: energy per atom, forces and (where there is one) stress.

        Args:
            before: The answer to agree with.
            after: The answer under test.
            where: Names the structure.
            forces: Forces to expect, if not those of ``before``.
            stress: Stress to expect, if not that of ``before``.
        """
        tolerances = self.tolerances
        forces = before.forces if forces is None else forces
        stress = before.stress if stress is None else stress
        per_atom = abs(after.energy / len(after.forces) - before.energy / len(before.forces))
        yield Measurement("energy", per_atom, tolerances.energy, "eV/atom", where)
        difference = np.abs(after.forces - forces)
        atom = int(difference.max(axis=1).argmax())
        worst = float(difference.max())
        yield Measurement("forces", worst, tolerances.forces, "eV/Å", f"{where}, atom {atom}")
        if not np.isnan(stress).all():
            worst = float(np.abs(after.stress - stress).max())
            yield Measurement("stress", worst, tolerances.stress, "eV/Å³", where)

"""The kit is itself held to account: for each way to be wrong, the law against it turns red.

Each model here is Lennard-Jones argon with one deliberate fault.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Energies, FastPath, Prediction
from atomml.potentials.lennard_jones import LennardJones, argon
from atomml.potentials.lennard_jones.model import smooth_switch
from atomml.testing import CheckResult, run_conformance


def _site_sum(graph: AtomGraph, values: Tensor) -> Tensor:
    shape = (graph.n_atoms, *values.shape[1:])
    return torch.zeros(shape, dtype=values.dtype).index_add(0, graph.edge_index[0], values)


class Faulty(LennardJones):
    """Argon plus a fault in the site energies."""

    def extra(self, graph: AtomGraph) -> Tensor:
        """What is wrongly added, ``(n_atoms,)`` eV."""
        return torch.zeros(graph.n_atoms, dtype=self.dtype)

    def energies(self, graph: AtomGraph) -> Energies:
        right = super().energies(graph)
        return replace(right, site=right.site + self.extra(graph).to(self.dtype))

    def switched(self, graph: AtomGraph) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors, distances and a smooth weight of every edge."""
        vectors = graph.edge_vectors()
        distance = vectors.norm(dim=1)
        weight = smooth_switch(distance, self.switch_start, self.info.cutoff)
        return vectors / distance[:, None], distance, weight


class PrefersZ(Faulty):
    """Bonds along z cost a little more."""

    def extra(self, graph: AtomGraph) -> Tensor:
        unit, _, weight = self.switched(graph)
        return 1e-6 * _site_sum(graph, weight * unit[:, 2] ** 2)


class Chiral(Faulty):
    """A triple product of three weighted sums of directions: turns with rotations, flips in a mirror."""

    def extra(self, graph: AtomGraph) -> Tensor:
        unit, distance, weight = self.switched(graph)
        first, second, third = (
            _site_sum(graph, (weight * torch.cos(k * distance))[:, None] * unit) for k in (0.5, 1.0, 1.5)
        )
        return 1e-5 * (first * torch.linalg.cross(second, third)).sum(dim=1)


class CountsAtoms(Faulty):
    """An atom's energy depends on its place in the list."""

    def extra(self, graph: AtomGraph) -> Tensor:
        first = torch.searchsorted(graph.batch, graph.batch)
        place = torch.arange(graph.n_atoms) - first
        _, _, weight = self.switched(graph)
        return 1e-8 * place * _site_sum(graph, weight)


class FeelsOrigin(Faulty):
    """A field fixed in space."""

    def extra(self, graph: AtomGraph) -> Tensor:
        return 1e-7 * torch.cos(graph.positions[:, 0])


class FeelsShift(Faulty):
    """Looks at how many cells an edge crosses rather than at its vector."""

    def extra(self, graph: AtomGraph) -> Tensor:
        _, _, weight = self.switched(graph)
        return 1e-8 * _site_sum(graph, weight * graph.edge_shift.abs().sum(dim=1))


class GrowsWithSystem(Faulty):
    """Each atom's energy grows with the number of atoms in its structure."""

    def extra(self, graph: AtomGraph) -> Tensor:
        return 1e-8 * graph.atoms_per_graph()[graph.batch].double()


class FeelsBatch(Faulty):
    """Answers depend on how many structures share the batch."""

    def extra(self, graph: AtomGraph) -> Tensor:
        return torch.full((graph.n_atoms,), 1e-8 * graph.n_graphs, dtype=torch.float64)


class Unswitched(LennardJones):
    """The bare potential, cut at the cutoff: energy and forces jump there."""

    def energies(self, graph: AtomGraph) -> Energies:
        sixth = (3.4 / graph.edge_vectors().norm(dim=1)) ** 6
        return Energies(site=_site_sum(graph, (0.0208 * (sixth**2 - sixth)).to(self.dtype)))


class JumpingForce(LennardJones):
    """The energy ends at zero but with a slope: only the forces jump."""

    def energies(self, graph: AtomGraph) -> Energies:
        beyond = 1 - graph.edge_vectors().norm(dim=1) / self.info.cutoff
        return Energies(site=_site_sum(graph, (1e-3 * beyond).to(self.dtype)))


class ForgetsLonely(Faulty):
    """NaN for an atom that has no neighbour."""

    def extra(self, graph: AtomGraph) -> Tensor:
        lonely = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms) == 0
        return torch.where(lonely, math.nan, 0.0)


class Detached(LennardJones):
    """Forces are right, but a detached factor leaves their own derivatives wrong."""

    def energies(self, graph: AtomGraph) -> Energies:
        right = super().energies(graph)
        slope = torch.autograd.grad(right.site.sum(), graph.positions, allow_unused=True)[0]
        if not graph.n_edges:
            return right
        linear = (slope.detach() * (graph.positions - graph.positions.detach())).sum(dim=1)
        return replace(right, site=right.site.detach() + linear.to(self.dtype))


class Noisy(Faulty):
    """A different answer at every call."""

    def extra(self, graph: AtomGraph) -> Tensor:
        return 1e-12 * torch.randn(graph.n_atoms, dtype=torch.float64)


class HalfPrecision(LennardJones):
    """Falls to bfloat16 where float32 is asked."""

    def energies(self, graph: AtomGraph) -> Energies:
        right = super().energies(graph)
        return right if self.dtype == torch.float64 else replace(right, site=right.site.bfloat16().float())


class SingleInside(LennardJones):
    """Computes in float32 where float64 is asked."""

    def energies(self, graph: AtomGraph) -> Energies:
        right = super().energies(graph)
        return replace(right, site=right.site.float().to(self.dtype))


class Wrong(LennardJones):
    """Argon whose prediction is changed after the fact."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        """The faulty prediction."""
        return prediction

    def predict(self, graph: AtomGraph, **options: Any) -> Prediction:
        return self.change(super().predict(graph, **options), graph)


class ScaledForces(Wrong):
    """Forces too large by ten parts in a million."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        return replace(
            prediction, forces=None if prediction.forces is None else prediction.forces * (1 + 1e-5)
        )


class Whirl(Wrong):
    """A small force field with a curl: it does work around a circle."""

    strength = 1e-4
    """eV/Å²."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        if prediction.forces is None:
            return prediction
        whirl = graph.positions.roll(1, dims=1) - graph.positions.roll(-1, dims=1)
        return replace(prediction, forces=prediction.forces + self.strength * (whirl - whirl.mean(dim=0)))


class Whirlwind(Whirl):
    """A curl that shows in the small circles of a cold crystal."""

    strength = 1e-2


class Wind(Wrong):
    """A constant force on every atom."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        return replace(prediction, forces=None if prediction.forces is None else prediction.forces + 1e-7)


class StressSign(Wrong):
    """Stress with the sign of pressure."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        return replace(prediction, stress=None if prediction.stress is None else -prediction.stress)


class LeftHanded(Wrong):
    """Stress divided by the signed volume: flips in left-handed cells."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        if prediction.stress is None:
            return prediction
        sign = torch.linalg.det(graph.cell).sign()[:, None, None]
        return replace(prediction, stress=prediction.stress * sign)


class LooseSum(Wrong):
    """Site energies that do not sum to the energy."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        return replace(prediction, site_energies=prediction.site_energies + 1e-6)


class MovesAtoms(Wrong):
    """Wraps the positions of the graph that it was lent."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        graph.positions.add_(1e-9)
        return prediction


class DrawsNumbers(Wrong):
    """Draws from the global generators."""

    def change(self, prediction: Prediction, graph: AtomGraph) -> Prediction:
        np.random.random()  # noqa: NPY002 - the fault is just that
        return prediction


class KnowsEverything(Wrong):
    """Answers for elements that it was never given."""

    def check_elements(self, graph: AtomGraph) -> None:
        graph.numbers[~torch.isin(graph.numbers, torch.tensor(self.info.elements))] = 18


class Hasty(LennardJones):
    """A fast path whose forces are off by a little more than rounding."""

    def build_fast_path(self) -> FastPath | None:
        error = 3e-9 if self.dtype == torch.float64 else 1e-5

        def fast(graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
            right = self._predict_plain(graph, forces, stress)
            return replace(right, forces=None if right.forces is None else right.forces + error)

        return fast


FAULTS = [
    (PrefersZ, "rotation", "energy"),
    (Chiral, "reflection", "energy"),
    (CountsAtoms, "permutation", "energy"),
    (FeelsOrigin, "translation", "energy"),
    (FeelsShift, "lattice_shift", "energy"),
    (FeelsShift, "cell_choice", "energy"),
    (GrowsWithSystem, "extensivity", "energy"),
    (FeelsBatch, "batch", "energy"),
    (Unswitched, "cutoff_crossing", "energy"),
    (Unswitched, "cutoff_crossing", "forces"),
    (JumpingForce, "cutoff_crossing", "forces"),
    (ForgetsLonely, "complete", "answer"),
    (Detached, "force_constants", "answer"),
    (Noisy, "repeatable", "numbers that differ"),
    (ScaledForces, "forces", "differences"),
    (SingleInside, "forces", "differences"),
    (Whirl, "net_force", "torque"),
    (Wind, "net_force", "force"),
    (StressSign, "stress", "differences"),
    (LeftHanded, "stress", "differences"),
    (LeftHanded, "cell_choice", "stress"),
    (LooseSum, "complete", "site energies"),
    (MovesAtoms, "side_effects", "changed tensors of the graph"),
    (DrawsNumbers, "side_effects", "changed generators"),
    (KnowsEverything, "elements", "answers that should be refused"),
    (Hasty, "fast_path", "forces"),
]


def _faulty(make: type[LennardJones]) -> LennardJones:
    right = argon()
    return make(right.info, right.epsilon.detach(), right.sigma.detach(), right.switch_start)


def _verdicts(results: list[CheckResult]) -> dict[str, bool]:
    return {result.name: result.passed for result in results}


@pytest.mark.parametrize(("fault", "law", "quantity"), FAULTS)
def test_a_fault_turns_its_law_red(fault: type[LennardJones], law: str, quantity: str) -> None:
    verdicts = _verdicts(run_conformance(_faulty(fault), only=[law]))
    assert verdicts[f"{law}/{quantity}"] is False


@pytest.mark.parametrize(("fault", "law", "quantity"), FAULTS)
def test_the_same_law_is_green_without_the_fault(fault: type[LennardJones], law: str, quantity: str) -> None:
    results = run_conformance(argon(), only=[law])
    assert all(result.passed for result in results)
    if law != "fast_path":  # argon has no fast path, so there is nothing to compare
        assert results


@pytest.mark.parametrize(
    ("fault", "law"), [(Hasty, "fast_path"), (HalfPrecision, "precision"), (Unswitched, "cutoff_crossing")]
)
def test_faults_are_found_in_float32(fault: type[LennardJones], law: str) -> None:
    results = run_conformance(_faulty(fault), dtype="float32", only=[law])
    assert not all(result.passed for result in results)


def test_a_rotation_finds_no_fault_in_a_chiral_model() -> None:
    """So reflection is a law of its own: a chiral model passes the rotations."""
    assert all(result.passed for result in run_conformance(_faulty(Chiral), only=["rotation"]))


@pytest.mark.slow
def test_a_force_with_a_curl_drifts() -> None:
    (result,) = run_conformance(_faulty(Whirlwind), only=["energy_drift"])
    assert not result.passed
    assert result.value > 2 * result.tolerance


def test_nan_never_passes() -> None:
    results = run_conformance(_faulty(ForgetsLonely))
    stopped = [result for result in results if result.name.endswith("/answer")]
    assert stopped
    assert {result.detail for result in stopped if "not finite" not in result.detail} == set()
    assert all(math.isnan(result.value) for result in stopped)

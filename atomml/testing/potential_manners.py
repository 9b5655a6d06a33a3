"""Laws of manners: finite and complete answers, the same each time, and nothing else touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch
from ase import Atoms

from atomml.errors import ModelError
from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import PotentialSubject

__all__ = ["complete", "elements", "repeatable", "side_effects"]


@law("potential")
def complete(subject: PotentialSubject) -> Iterator[Measurement]:
    """Every sample gets finite numbers of the right shape, and site energies that sum to the energy."""
    for name, atoms in subject.samples.items():
        answer = subject.answers[name]
        numbers = [np.array([answer.energy]), answer.site, answer.forces]
        expected = [(1,), (len(atoms),), (len(atoms), 3)]
        if atoms.pbc.any() and atoms.cell.volume:
            numbers.append(answer.stress)
            expected.append((3, 3))
        wrong = sum(found.shape != shape for found, shape in zip(numbers, expected, strict=True))
        yield Measurement("wrong shapes", wrong, 0, "", name)
        bad = sum(int((~np.isfinite(found)).sum()) for found in numbers)
        yield Measurement("numbers not finite", bad, 0, "", name)
        remainder = abs(float(answer.site.sum()) - answer.energy) / len(atoms)
        # Both sums are done in float64, whatever the model: only the total's own rounding is left.
        allowed = 1e-12 * max(1.0, abs(answer.energy))
        yield Measurement("site energies", remainder, allowed, "eV/atom", name)


@law("potential")
def repeatable(subject: PotentialSubject) -> Iterator[Measurement]:
    """The same structure gets the same bits at every call, and whatever is asked for beside it."""
    for name, atoms in subject.samples.items():
        first, second = subject.answers[name], subject.answer(atoms)
        unequal = int(first.energy != second.energy) + int((first.forces != second.forces).sum())
        yield Measurement("numbers that differ", unequal, 0, "", name)
        alone = subject.site_energies([atoms])[0]
        difference = float(np.abs(alone - first.site).max())
        yield Measurement("energy without forces", difference, subject.tolerances.energy, "eV", name)


@law("potential")
def side_effects(subject: PotentialSubject) -> Iterator[Measurement]:
    """A prediction changes neither its graph, nor torch's default dtype, threads or generator."""
    graph = subject.graph(subject.samples["crystal"])
    tensors = {entry.name: getattr(graph, entry.name) for entry in fields(graph)}
    copies = {name: value.clone() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    generator = torch.get_rng_state()
    legacy = _global_numpy_state()
    subject.model.predict(graph)
    after = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    changed = sum(not torch.equal(tensors[name], copy) for name, copy in copies.items())
    yield Measurement("changed tensors of the graph", changed, 0, "", "crystal")
    yield Measurement("changed settings of torch", sum(map(_differ, before, after)), 0, "", "crystal")
    drawn = int(not torch.equal(generator, torch.get_rng_state()))
    drawn += int(_global_numpy_state() != legacy)
    yield Measurement("changed generators", drawn, 0, "", "crystal")


def _global_numpy_state() -> str:
    return repr(np.random.get_state())  # noqa: NPY002 - the legacy generator is the one not to be touched


def _differ(before: object, after: object) -> bool:
    return before != after


@law("potential")
def elements(subject: PotentialSubject) -> Iterator[Measurement]:
    """An element that the model does not know is refused by name, not answered."""
    known = set(subject.model.info.elements)
    unknown = next((number for number in range(1, 119) if number not in known), None)
    if unknown is None:
        return
    familiar = min(known)
    atoms = Atoms(numbers=[familiar, unknown], positions=[[0, 0, 0], [0, 0, 2.0]])
    try:
        subject.model.predict(subject.graph(atoms))
    except ModelError:
        answered = 0
    else:
        answered = 1
    yield Measurement("answers that should be refused", answered, 0, "", f"Z = {unknown}")

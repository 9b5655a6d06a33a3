"""Laws of agreement: the fast path against the plain one, float32 against float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from atomml.graph import GraphBuilder
from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import Answer, PotentialSubject

__all__ = ["fast_path", "precision"]


@law("potential")
def fast_path(subject: PotentialSubject) -> Iterator[Measurement]:
    """The fast path gives the plain path's answer, for single structures and in a batch."""
    if subject.model.fast_path() is None:
        return
    for name, atoms in subject.samples.items():
        plain = subject.answer(atoms, path="plain")
        yield from subject.compare(plain, subject.answer(atoms, path="fast"), name)
        without = GraphBuilder.for_model(subject.model, angles=False)(atoms)
        fast = Answer.of(subject.model.predict(without, path="fast"))
        yield from subject.compare(plain, fast, f"{name}, graph without angles")
    graph = subject.graph(list(subject.samples.values()))
    plain_batch = subject.model.predict(graph, path="plain")
    fast_batch = subject.model.predict(graph, path="fast")
    per_atom = (fast_batch.site_energies - plain_batch.site_energies).abs().max()
    yield Measurement("site energies", float(per_atom), subject.tolerances.energy, "eV", "batch")
    for name in sorted(subject.model.info.properties):
        fast, plain_value = getattr(fast_batch, name), getattr(plain_batch, name)
        # Features are numbers of order one; what rounding does to one eV it does to them.
        allowed = 1e-9 if subject.dtype == torch.float64 else 256 * 2.0**-24 * max(1.0, _largest(plain_value))
        yield Measurement(name, _largest(fast - plain_value), allowed, "", "batch")


def _largest(values: torch.Tensor) -> float:
    return float(values.double().abs().max()) if values.numel() else 0.0


@law("potential", dtypes=("float32",))
def precision(subject: PotentialSubject) -> Iterator[Measurement]:
    """In float32 the answers are those of float64, to the rounding of float32."""
    for name in subject.samples:
        yield from subject.compare(subject.exact_answers[name], subject.answers[name], name)

"""A model of properties made ready for its laws: a copy, structures, and how far answers may differ."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from atomml.property.ensemble import PropertyEnsemble, load_property_model
from atomml.property.property_model import PropertyModel
from atomml.testing.laws import Measurement
from atomml.testing.structures import sample_structures

__all__ = ["PropertySubject"]

Floats = NDArray[np.float64]


class PropertySubject:
    """Wraps a model of properties, an ensemble, or the file of one, for its laws.

    Args:
        model: Copied, never changed.
        dtype: ``float32`` or ``float64``.
        quick: Fewer structures.
    """

    def __init__(self, model: PropertyModel | PropertyEnsemble | str, dtype: str, quick: bool) -> None:
        given = load_property_model(model, "cpu") if isinstance(model, str) else copy.deepcopy(model)
        if isinstance(given, PropertyModel):
            given = PropertyEnsemble(replace(given.info, family="property"), [given])
        self.model: PropertyEnsemble = given.to(getattr(torch, dtype)).eval()
        self.quick = quick
        self.tolerance = 1e-8 if dtype == "float64" else 2e-4
        """In standard deviations of the labels, and of probabilities: rounding after some ten layers."""

    @cached_property
    def samples(self) -> dict[str, Atoms]:
        """Structures of the model's elements, by name."""
        found = sample_structures(self.model.info.elements, lambda _: 0.0, self.quick)
        return dict(list(found.items())[: 6 if self.quick else None])

    @cached_property
    def answers(self) -> dict[str, list[Floats]]:
        """Its answers for them."""
        return {name: self.answer(atoms) for name, atoms in self.samples.items()}

    def answer(self, *structures: Atoms) -> list[Floats]:
        """Of each target ``(n_members, n)`` values on the learned scale, or ``(n_members, n, n_classes)``."""
        return self.model.answer([self.model.inputs_of(atoms) for atoms in structures]).members

    def compare(self, before: list[Floats], after: list[Floats], where: str) -> Iterator[Measurement]:
        """The largest difference of each target, over its scale."""
        for target, one, other in zip(self.model.targets, before, after, strict=True):
            scale = 1.0 if target.classes else target.scale
            off = float(np.abs(one - other).max()) / scale
            yield Measurement(target.key, off, self.tolerance, "scale", where)

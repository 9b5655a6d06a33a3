"""Noble gases with labels of a known error: those of the Lennard-Jones model itself, changed on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from noble_gases import labelled, rattled

from atomml.data.entry import Entry
from atomml.model import Potential
from atomml.registry import load_model

Maker = Callable[..., list[Entry]]


@pytest.fixture(scope="session")
def lj() -> Potential:
    """Lennard-Jones in float64: cheap, exact, and knows Ne, Ar, Kr and Xe."""
    return load_model("lj-argon", dtype="float64")


@pytest.fixture(scope="session")
def exact_entries(lj: Potential) -> list[Entry]:
    """Twenty-four structures in three groups that the model predicts without error."""
    return [labelled(rattled(i), lj, i, ("hot", "cold", "")[i % 3]) for i in range(24)]

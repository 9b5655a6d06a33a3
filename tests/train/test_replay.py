"""Structures for replay are possible crystals, and labelling them takes bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry
from atomml.model import Potential
from atomml.train import replay
from atomml.train.replay import label_by_model, prototypes


def test_no_prototype_is_denser_than_matter() -> None:
    """Helium at its covalent radius would have thousands of neighbours within 3 Å, and millions of angles."""
    for atoms in prototypes(range(1, 90), 300, np.random.default_rng(0)):
        nearest = atoms.repeat(3).get_all_distances(mic=False)
        assert nearest[nearest > 0].min() > 1.19


def test_labelling_is_bounded_in_memory_and_blind_to_it(
    tiny: Callable[..., Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(0, (13, 29, 47))
    crystals = prototypes((13, 29, 47), 12, np.random.default_rng(0))
    data = ListDataset([Entry(atoms, source="made", frame=k) for k, atoms in enumerate(crystals)])
    whole = [entry.labels for entry in label_by_model(model, data)]
    sizes: list[tuple[int, int]] = []
    answers = replay._answers

    def noted(model: Potential, graphs: Any, derivatives: bool) -> Any:
        sizes.append((sum(g.n_edges + g.bond_graph.n_angles for g in graphs), len(graphs)))
        return answers(model, graphs, derivatives)

    monkeypatch.setattr(replay, "_MOST_AT_ONCE", 500)
    monkeypatch.setattr(replay, "_answers", noted)
    parts = [entry.labels for entry in label_by_model(model, data)]
    assert len(sizes) > 1
    assert all(size <= 500 or count == 1 for size, count in sizes)
    for one, other in zip(whole, parts, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-9)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-9)

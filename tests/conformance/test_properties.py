"""Every family of models of properties obeys the laws; and the laws see a model that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from atomml.potentials.alignn import ALIGNN
from atomml.potentials.cgcnn import CGCNN
from atomml.potentials.fcnn import FCNN
from atomml.property.describer import Describer
from atomml.property.property_model import PropertyBatch, PropertyInput, PropertyModel, PropertyOutputs
from atomml.property.targets import Target
from atomml.registry import seeded_generator
from atomml.testing import run_conformance

ELEMENTS = [3, 8, 11, 14, 17, 27]
TARGETS = [Target("gap", mean=1.0, scale=2.0), Target("metal", classes=("no", "yes"))]
SMALL: dict[str, dict[str, Any]] = {
    "cgcnn": {"channels": 16, "hidden": 16},
    "alignn": {"channels": 16, "embedding": 8, "line_layers": 2, "layers": 1},
    "fcnn": {"hidden": [16]},
}


def fresh(family: str) -> PropertyModel:
    settings: dict[str, Any] = {"targets": TARGETS, **SMALL[family]}
    with seeded_generator(4):
        if family == "fcnn":
            describer = Describer.fresh(["magpie", "structure"])
            settings |= {"describer": describer, "width": len(describer.names())}
            model = FCNN.fresh("fcnn", ELEMENTS, settings)
            crystals = [bulk("NaCl", "rocksalt", 5.6), bulk("Si"), bulk("Li"), bulk("LiCl", "rocksalt", 5.1)]
            model.fit_rows(np.stack([describer.row(atoms) for atoms in crystals]))
            return model
        kinds: dict[str, Any] = {"cgcnn": CGCNN, "alignn": ALIGNN}
        return kinds[family].fresh(family, ELEMENTS, settings)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", list(SMALL))
def test_family_obeys_the_laws(family: str, dtype: str) -> None:
    results = run_conformance(fresh(family), kind="property", dtype=dtype, quick=True)
    broken = [f"{r.name} {r.value:.2g} > {r.tolerance:.2g} {r.detail}" for r in results if not r.passed]
    assert broken == []
    assert {r.name.partition("/")[0] for r in results} >= {"rotation", "supercell", "batch", "file"}


class Extensive(CGCNN):
    """Counts atoms, as no intensive property may, and looks at the first atom."""

    def input_of(self, atoms: Any, where: str = "structure") -> PropertyInput:
        found = super().input_of(atoms, where)
        return PropertyInput(
            found.graph, torch.tensor([[len(atoms), atoms.numbers[0]]]).double(), found.folded
        )

    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        found = super().outputs(given)
        assert given.row is not None
        return PropertyOutputs(found.raw + given.row.sum(dim=1, keepdim=True).to(found.raw), found.features)


def test_the_laws_see_a_model_that_counts_atoms_and_looks_at_the_first() -> None:
    with seeded_generator(4):
        model = Extensive.fresh("cgcnn", ELEMENTS, {"targets": TARGETS[:1], **SMALL["cgcnn"]})
    results = run_conformance(
        model, kind="property", quick=True, only=["rotation", "supercell", "permutation"]
    )
    verdicts = {r.name.partition("/")[0]: r.passed for r in results}
    assert verdicts == {"rotation": True, "permutation": False, "supercell": False}

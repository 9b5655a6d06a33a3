"""Shapes of models with heads: into JSON and back, one sentence for a wrong head or setting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atomml.errors import ModelError
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.mace.config import MACEConfig

SHAPES = [
    MACEConfig(elements=(1, 8), heads=("pbe", "r2scan", "omat"), head="r2scan", correlations=(2, 3)),
    MACEConfig(),
    DPA3Config(elements=(3, 8, 25), heads=("a", "b"), head=None, nlayers=2, default_charge_spin=(0.0, 1.0)),
    DPA3Config(),
]
WORD = {"MACE": ("head", "heads"), "DPA3": ("branch", "branches")}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.family}-{len(shape.heads)}")
def test_a_shape_is_the_same_after_json(shape: Any) -> None:
    values = json.loads(json.dumps(shape.to_json()))
    assert type(shape).from_json(values) == shape
    assert "family" not in values
    with pytest.raises(ModelError, match=f"{shape.family} has no setting 'famili': there are elements"):
        type(shape).from_json({**values, "famili": 1})


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.family}-{len(shape.heads)}")
def test_each_head_can_be_chosen_and_no_other(shape: Any) -> None:
    one, several = WORD[shape.family]
    for place, head in enumerate(shape.heads):
        chosen = shape.with_head(head)
        assert (chosen.head, chosen.head_index) == (head, place)
        assert chosen.with_head(shape.head) == shape
    with pytest.raises(ModelError, match=f"This {shape.family} has no {one} 'x': there are "):
        shape.with_head("x")
    with pytest.raises(ModelError, match=f"several {several}: choose one of {', '.join(shape.heads)}"):
        _ = shape.with_head(None).head_index


@pytest.mark.parametrize("kind", [MACEConfig, DPA3Config])
@pytest.mark.parametrize("heads", [(), ("a", "a")])
def test_heads_have_names_of_their_own(kind: Any, heads: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="need different names"):
        kind(heads=heads, head=None)

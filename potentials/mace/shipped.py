"""Models that come with the package."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

from atomml.checkpoint import load_model_file

if TYPE_CHECKING:
    from atomml.model import Potential

__all__ = ["tiny_organic"]


def tiny_organic() -> Potential:
    """``mace-tiny-organic``: molecules of H, C, N, O, F, S and Cl near B3LYP-D3BJ/def2-SVP.

    Made by the recipe in ``examples/mace-tiny-organic``: first the surface of GFN2-xTB, then some labels of
    density functional theory. Neutral closed shells; its errors are in the guide of models.

    Raises:
        CheckpointError: The file that came with the package is damaged.
    """
    file = resources.files("atomml.potentials.mace") / "mace-tiny-organic.safetensors"
    with resources.as_file(file) as path:
        model = load_model_file(path, dtype="float64", device="cpu")  # constants keep their digits
    model.info = replace(model.info, name="mace-tiny-organic")
    return model

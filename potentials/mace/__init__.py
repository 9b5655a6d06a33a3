"""MACE: equivariant message passing of many-body order, on e3nn; reads the weights of mace-torch."""

from __future__ import annotations

from atomml.potentials.mace.config import MACEConfig
from atomml.potentials.mace.mace_torch import from_mace_torch
from atomml.potentials.mace.model import MACE

__all__ = ["MACE", "MACEConfig", "from_mace_torch"]

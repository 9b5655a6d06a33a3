"""DPA3: message passing on atoms, bonds and angles; reads the weights of DeePMD-kit."""

from __future__ import annotations

from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.model import DPA3

__all__ = ["DPA3", "DPA3Config"]

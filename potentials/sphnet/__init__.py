"""SPHNet: Kohn-Sham matrices of molecules from their geometry."""

from __future__ import annotations

from atomml.potentials.sphnet.config import SPHNetConfig
from atomml.potentials.sphnet.model import SPHNet

__all__ = ["SPHNet", "SPHNetConfig"]

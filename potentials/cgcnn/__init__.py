"""CGCNN: crystal graph convolutional networks (Xie and Grossman, Phys. Rev. Lett. 120, 145301, 2018)."""

from __future__ import annotations

from atomml.potentials.cgcnn.model import CGCNN

__all__ = ["CGCNN"]

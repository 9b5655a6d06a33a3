"""ALIGNN: the atomistic line graph neural network (Choudhary and DeCost, npj Comput. Mater. 7, 185, 2021)."""

from __future__ import annotations

from atomml.potentials.alignn.model import ALIGNN

__all__ = ["ALIGNN"]

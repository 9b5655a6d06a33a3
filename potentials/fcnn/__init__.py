"""A fully connected network on descriptors, or on the learned features of a potential."""

from __future__ import annotations

from atomml.potentials.fcnn.model import FCNN

__all__ = ["FCNN"]

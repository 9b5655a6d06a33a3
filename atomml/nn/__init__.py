"""Differentiable parts that models share: bases, cutoffs, gated MLPs, sums over segments."""

from __future__ import annotations

from atomml.nn.bases import BesselBasis, FourierBasis, polynomial_cutoff
from atomml.nn.gated_mlp import GatedMLP
from atomml.nn.segment import segment_sum

__all__ = ["BesselBasis", "FourierBasis", "GatedMLP", "polynomial_cutoff", "segment_sum"]

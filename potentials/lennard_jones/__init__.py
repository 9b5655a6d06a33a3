"""Lennard-Jones: the cheap model with closed answers, and the worked example of how to add a model."""

from __future__ import annotations

from atomml.potentials.lennard_jones.model import LennardJones, argon, smooth_switch

__all__ = ["LennardJones", "argon", "smooth_switch"]

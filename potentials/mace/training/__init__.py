"""MACE's training path on the CPU: fused sums and products, weight gradients of forces by tangents."""

from __future__ import annotations

from atomml.potentials.mace.training.path import TrainingMACE

__all__ = ["TrainingMACE"]

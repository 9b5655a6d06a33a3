"""CHGNet's training path on the CPU: forces from the fast path, their weight gradients by tangents."""

from __future__ import annotations

from atomml.potentials.chgnet.training.path import TrainingCHGNet

__all__ = ["TrainingCHGNet"]

"""DPA3's training path on the CPU: forces from the fast path, their weight gradients by tangents."""

from __future__ import annotations

from atomml.potentials.dpa3.training.path import TrainingDPA3

__all__ = ["TrainingDPA3"]

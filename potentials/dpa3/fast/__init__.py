"""DPA3 without autograd on the CPU: fused kernels over edges and angles, and their way back."""

from __future__ import annotations

from atomml.potentials.dpa3.fast.path import FastDPA3

__all__ = ["FastDPA3"]

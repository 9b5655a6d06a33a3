"""CHGNet's inference path on the CPU: folded weights, fused kernels, an analytic way back."""

from __future__ import annotations

from atomml.potentials.chgnet.fast.path import FastCHGNet
from atomml.potentials.chgnet.fast.topology import Geometry

__all__ = ["FastCHGNet", "Geometry"]

"""CHGNet's inference path on the CPU: folded weights, fused kernels, an analytic way back."""

from __future__ import annotations

from atomml.potentials.chgnet.fast.engine import FastCHGNet, Geometry

__all__ = ["FastCHGNet", "Geometry"]

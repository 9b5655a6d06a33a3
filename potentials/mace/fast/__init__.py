"""MACE on the CPU: radial networks as splines, fused messages and products, an analytic way back."""

from __future__ import annotations

from atomml.potentials.mace.fast.path import FastMACE

__all__ = ["FastMACE"]

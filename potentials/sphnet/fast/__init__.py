"""Tensor products of SPHNet on the CPU: fused kernels, forwards and back."""

from __future__ import annotations

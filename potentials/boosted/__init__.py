"""Gradient-boosted trees on descriptors (XGBoost, Chen and Guestrin, KDD 2016)."""

from __future__ import annotations

from atomml.potentials.boosted.model import BoostedTrees, xgboost_module

__all__ = ["BoostedTrees", "xgboost_module"]

"""Density functionals in torch: closed forms, and learned ones, for PySCF's self-consistent fields."""

from __future__ import annotations

from atomml.potentials.xc.closed_forms import CLOSED_FORMS, Mixture, closed_form

__all__ = ["CLOSED_FORMS", "Mixture", "closed_form"]

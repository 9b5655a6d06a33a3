"""Units that are named in more than one place."""

from __future__ import annotations

__all__ = ["GPA"]

GPA = 160.21766208
"""GPa in one eV/Å³ (CODATA 2014, as in ase.units)."""

"""Units that are named in more than one place."""

from __future__ import annotations

__all__ = ["GPA", "KCAL_PER_HARTREE"]

GPA = 160.21766208
"""GPa in one eV/Å³ (CODATA 2014, as in ase.units)."""

KCAL_PER_HARTREE = 627.5094740631
"""kcal/mol in one Hartree (CODATA 2018)."""

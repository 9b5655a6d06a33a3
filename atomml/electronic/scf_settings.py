"""What of a self-consistent field can be chosen; nothing heavy is imported, for ``--help`` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from atomml.options import option

__all__ = ["ScfSettings"]


@dataclass(frozen=True)
class ScfSettings:
    """What of a self-consistent field can be chosen."""

    grid: int = option(3, "level of PySCF's integration grid", minimum=0, maximum=9)
    conv_tol: float = option(1e-9, "change of the energy at which an SCF has converged", unit="Eh", above=0)
    max_cycle: int = option(100, "most cycles of an SCF", minimum=1)
    density_fit: bool = option(False, "approximate two-electron integrals by density fitting")

"""What of a self-consistent field can be chosen; nothing heavy is imported, for ``--help`` reads it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from atomml.options import option

__all__ = ["ScfSettings", "ScfTolerance", "scf_settings"]


@dataclass(frozen=True)
class ScfTolerance:
    """When a self-consistent field has converged."""

    conv_tol: float = option(1e-9, "change of the energy at which an SCF has converged", unit="Eh", above=0)


@dataclass(frozen=True)
class ScfSettings(ScfTolerance):
    """What of a self-consistent field can be chosen; options of whatever converges one inherit from it."""

    grid: int = option(3, "level of PySCF's integration grid", minimum=0, maximum=9)
    max_cycle: int = option(100, "most cycles of an SCF", minimum=1)
    density_fit: bool = option(False, "approximate two-electron integrals by density fitting")


def scf_settings(options: ScfSettings) -> ScfSettings:
    """The settings among the fields of options that inherit from them."""
    return ScfSettings(**{entry.name: getattr(options, entry.name) for entry in fields(ScfSettings)})

"""Units that files keep labels in, as factors to ASE's: eV, Å, eV/Å, eV/Å³."""

from __future__ import annotations

from ase import units

__all__ = ["ENERGY", "FORCE", "STRESS"]

_PER_MOL = 1.0 / units.mol
_BOHR = units.Bohr

ENERGY: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": units.Hartree,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal * _PER_MOL,
    "kJ/mol": units.kJ * _PER_MOL,
}
"""Factor from each unit of energy to eV (CODATA 2014, as ASE has them)."""

FORCE: dict[str, float] = {
    "eV/Å": 1.0,
    "meV/Å": 1e-3,
    "eV/nm": 0.1,
    "Ha/bohr": units.Hartree / _BOHR,
    "Ry/bohr": units.Rydberg / _BOHR,
    "Ha/Å": units.Hartree,
    "kcal/mol/Å": units.kcal * _PER_MOL,
    "kJ/mol/Å": units.kJ * _PER_MOL,
    "kJ/mol/nm": units.kJ * _PER_MOL * 0.1,
}
"""Factor from each unit of force to eV/Å."""

STRESS: dict[str, float] = {
    "eV/Å³": 1.0,
    "GPa": units.GPa,
    "kbar": 0.1 * units.GPa,
    "bar": 1e-4 * units.GPa,
    "Ha/bohr³": units.Hartree / _BOHR**3,
    "Ry/bohr³": units.Rydberg / _BOHR**3,
}
"""Factor from each unit of stress to eV/Å³."""

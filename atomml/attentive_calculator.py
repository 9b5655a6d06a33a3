"""What every ASE calculator of the suite watches beside ASE: charge, spin and bonds of a structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["AttentiveCalculator"]

_BESIDE = ("charge", "spin", "bonds")


class AttentiveCalculator(Calculator):  # type: ignore[misc]
    """An ASE calculator that answers anew when charge, spin or bonds in ``atoms.info`` have changed."""

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE does not look at charge, spin and bonds."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is not None and _beside(atoms) != _beside(self.atoms):
            return [*changes, "info"]
        return changes


def _beside(atoms: Atoms) -> tuple[Any, ...]:
    """What of ``info`` an answer may depend on."""
    return tuple(atoms.info.get(name) for name in _BESIDE)

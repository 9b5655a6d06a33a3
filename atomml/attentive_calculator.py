"""What every ASE calculator of the suite watches beside ASE: charge, spin and bonds of a structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["AttentiveCalculator", "beside"]

_PLAIN = {"positions", "numbers", "momenta", "tags", "masses"}
"""Arrays that come with atoms and of which, positions and numbers apart, no answer depends."""

_BESIDE = ("charge", "spin", "bonds")


class AttentiveCalculator(Calculator):  # type: ignore[misc]
    """An ASE calculator that answers anew when charge, spin or bonds in ``atoms.info`` have changed."""

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE does not look at charge, spin and bonds."""
        if self.atoms is not None and _unmoved(atoms, self.atoms):
            changes: list[str] = []  # soon said; ASE asks some ten times for each step of an optimiser
        else:
            changes = super().check_state(atoms, tol)
        if self.atoms is not None and beside(atoms) != beside(self.atoms):
            return [*changes, "info"]
        return changes


def _unmoved(atoms: Atoms, known: Atoms) -> bool:
    """Whether all that ASE compares is the same to the bit; False says nothing."""
    if not atoms.arrays.keys() | known.arrays.keys() <= _PLAIN:
        return False
    pairs = (
        (atoms.arrays["positions"], known.arrays["positions"]),
        (atoms.arrays["numbers"], known.arrays["numbers"]),
        (atoms.cell.array, known.cell.array),
        (atoms.pbc, known.pbc),
    )
    return all(ours.shape == theirs.shape and bool((ours == theirs).all()) for ours, theirs in pairs)


def beside(atoms: Atoms) -> tuple[Any, ...]:
    """What of ``info`` an answer may depend on."""
    return tuple(atoms.info.get(name) for name in _BESIDE)

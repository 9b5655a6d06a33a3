"""Self-consistent fields started from a predicted matrix: never another state, never slower unnoticed.

Every Fock matrix that is built is counted, those of the prior and of the check among them: PySCF's own count
of cycles leaves out the one that it builds before the first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.electronic.orbital_levels import inverse_root

__all__ = ["POOR", "CountedPotential", "ScfRun", "commutator", "run_scf"]

Array = NDArray[np.float64]


POOR = 0.5
"""Hartree: a density that commutes worse with its own Fock matrix is no good start.

PySCF's default densities of six small molecules have 0.76 to 1.01 (PBE, def2-SVP).
"""


@dataclass
class ScfRun:
    """One self-consistent field.

    Attributes:
        energy: Hartree.
        converged: Whether it did.
        cycles: PySCF's count.
        fock_builds: All Fock matrices, whatever they were built for.
        seconds: Wall time, the guess included.
        guess: What it was started from.
        homo, lumo: Hartree.
        density: ``(n, n)``, or ``(2, n, n)`` with spin.
    """

    energy: float
    converged: bool
    cycles: int
    fock_builds: int
    seconds: float
    guess: str
    homo: float
    lumo: float
    density: Array = field(repr=False)


class CountedPotential:
    """Counts a mean field's Fock builds from here on, and gives the first one again instead of repeating it.

    PySCF builds the Fock matrix of the guess before its first cycle: where a check has built it, it is there.
    """

    def __init__(self, field_: Any) -> None:
        self.count = 0
        self._field, self._own = field_, vars(field_).get("get_veff")
        self._build = field_.get_veff
        self._known: tuple[Array, Any] | None = None
        field_.get_veff = self

    def __call__(self, mol: Any = None, dm: Any = None, *arguments: Any, **named: Any) -> Any:
        """As the mean field's own ``get_veff``."""
        if self._known is not None and dm is not None and np.array_equal(self._known[0], dm):
            return self._known[1]
        self.count += 1
        found = self._build(mol, dm, *arguments, **named)
        if self._known is None and dm is not None:
            self._known = np.array(dm, copy=True), found
        return found

    def release(self) -> None:
        """Give the mean field its own ``get_veff`` back: copies of it are to build by their own settings."""
        if self._own is None:
            del self._field.get_veff
        else:
            self._field.get_veff = self._own


def commutator(field_: Any, density: Array, fock: Array | None = None) -> float:
    """Largest element of ``FDS - SDF`` in an orthonormal basis, Hartree: 0 for a converged density.

    Args:
        field_: PySCF's mean field.
        density: ``(n, n)``, or ``(2, n, n)`` with spin.
        fock: The density's Fock matrix; it is built if None.
    """
    overlap = np.asarray(field_.get_ovlp())
    fock = np.asarray(field_.get_fock(dm=density)) if fock is None else fock
    error = fock @ density @ overlap
    root = inverse_root(overlap)
    return float(np.abs(root @ (error - np.swapaxes(error, -1, -2)) @ root).max())


def run_scf(
    field_: Any, density: Array | None, guess: str, *, check: bool = True, spent: float = 0.0, builds: int = 0
) -> ScfRun:
    """Converge a mean field from a density, or from PySCF's default.

    A guess that commutes with its own Fock matrix worse than PySCF's default densities do is dropped for the
    default: a bad guess costs that one build, a good one nothing, for the SCF goes on with it.

    Args:
        field_: PySCF's mean field.
        density: The guess; None for the default.
        guess: What to call it.
        check: Whether to look at the guess first.
        spent: Seconds that the guess took.
        builds: Fock matrices that the guess took.
    """
    started = time.perf_counter()
    potential = CountedPotential(field_)
    try:
        if density is not None and check:
            worse = commutator(field_, density)
            if not worse < POOR:
                density, guess = None, f"default ({guess} dropped: commutator {worse:.2g} Eh)"
        field_.kernel(dm0=density)
        if not field_.converged and density is not None:
            density, guess = None, f"default ({guess} did not converge)"
            field_.kernel(dm0=None)
    finally:
        potential.release()
    levels, occupied = np.asarray(field_.mo_energy), np.asarray(field_.mo_occ) > 0
    return ScfRun(
        energy=float(field_.e_tot),
        converged=bool(field_.converged),
        cycles=int(field_.cycles),
        fock_builds=potential.count + builds,
        seconds=time.perf_counter() - started + spent,
        guess=guess,
        homo=float(levels[occupied].max()),
        lumo=float(levels[~occupied].min()) if (~occupied).any() else float("inf"),
        density=np.asarray(field_.make_rdm1(), dtype=np.float64),
    )

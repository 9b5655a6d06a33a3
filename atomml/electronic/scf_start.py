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

__all__ = ["ScfRun", "commutator", "counted_scf", "run_scf"]

Array = NDArray[np.float64]


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
        density: ``(n, n)``.
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


def counted_scf(field_: Any) -> list[int]:
    """Count a mean field's Fock builds from here on, in the one element of the list that is returned."""
    count = [0]
    original = field_.get_veff

    def get_veff(*arguments: Any, **named: Any) -> Any:
        """As before, counted."""
        count[0] += 1
        return original(*arguments, **named)

    field_.get_veff = get_veff
    return count


def commutator(field_: Any, density: Array) -> float:
    """Largest element of ``FDS - SDF`` in the orthonormal basis, Hartree: 0 for a converged density."""
    from scipy.linalg import sqrtm

    overlap = field_.get_ovlp()
    fock = np.asarray(field_.get_fock(dm=density))
    error = fock @ density @ overlap
    root = np.linalg.inv(np.real(sqrtm(overlap)))
    return float(np.abs(root @ (error - error.T) @ root).max())


def run_scf(
    field_: Any, density: Array | None, guess: str, *, check: bool = True, spent: float = 0.0, builds: int = 0
) -> ScfRun:
    """Converge a mean field from a density, or from PySCF's default.

    A guess whose first Fock matrix commutes worse with it than that of PySCF's default density typically does
    is dropped for the default, so that a bad guess costs one build.

    Args:
        field_: PySCF's mean field, closed shells.
        density: The guess; None for the default.
        guess: What to call it.
        check: Whether to look at the guess first; its build is used by nobody else, and counted.
        spent: Seconds that the guess took.
        builds: Fock matrices that the guess took.
    """
    started = time.perf_counter()
    count = counted_scf(field_)
    if density is not None and check:
        worse = commutator(field_, density)
        if not worse < _POOR:
            density, guess = None, f"default ({guess} dropped: commutator {worse:.2g} Eh)"
    field_.kernel(dm0=density)
    if not field_.converged and density is not None:
        density, guess = None, f"default ({guess} did not converge)"
        field_.kernel(dm0=None)
    occupied = field_.mol.nelectron // 2
    levels = field_.mo_energy
    return ScfRun(
        energy=float(field_.e_tot),
        converged=bool(field_.converged),
        cycles=int(field_.cycles),
        fock_builds=count[0] + builds,
        seconds=time.perf_counter() - started + spent,
        guess=guess,
        homo=float(levels[occupied - 1]),
        lumo=float(levels[occupied]) if len(levels) > occupied else float("inf"),
        density=np.asarray(field_.make_rdm1(), dtype=np.float64),
    )


_POOR = 0.5
"""Hartree. PySCF's default densities of organic molecules have commutators of 0.1 to 0.4."""

"""One calculation: a structure, what was computed for it, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LABELS", "Entry", "Labels"]

LABELS = ("energy", "forces", "stress", "magmoms")
"""Names of what an entry can be labelled with, as they stand in :class:`Labels`."""


@dataclass(frozen=True)
class Labels:
    """What a calculation says of a structure; ASE's units and signs. None where it says nothing.

    Attributes:
        energy: Total energy of the structure, eV.
        forces: ``(n_atoms, 3)`` float64, eV/Å.
        stress: ``(3, 3)`` float64, eV/Å³, symmetric, positive under tension.
        magmoms: ``(n_atoms,)`` float64, μB.
    """

    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    magmoms: NDArray[np.float64] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Which labels there are."""
        return tuple(name for name in LABELS if getattr(self, name) is not None)


@dataclass(frozen=True)
class Entry:
    """One structure of a data set with its labels and its provenance.

    Attributes:
        atoms: The structure, without calculator or labels; total charge and spin (unpaired
            electrons) in ``atoms.info["charge"]`` and ``["spin"]`` where they are known.
        labels: What was computed for it.
        source: The file that it came from, as it was given.
        frame: Its place in that file, from 0.
        group: Configuration type, such as ``AIMD-NVT``; "" if the file says none.
        trajectory: Which run it belongs to: entries of one trajectory follow each other in time
            by ``frame``; "" for a structure that stands alone.
        method: Exact level of theory with versions; "" if unknown.
        weight: Weight of the whole entry in a loss.
        matrices: Symmetric ``(n_orbitals, n_orbitals)`` float64 matrices in PySCF's order by name:
            ``hamiltonian``, and priors (``minao-pbe``, ``minao``), Hartree; ``density`` of both spins.
        head: Which of a model's heads it belongs to; "" for the one that answers.
    """

    atoms: Atoms
    labels: Labels = field(default_factory=Labels)
    source: str = ""
    frame: int = 0
    group: str = ""
    trajectory: str = ""
    method: str = ""
    weight: float = 1.0
    head: str = ""
    matrices: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The entry as an error names it."""
        return f"{self.source or 'structure'}, frame {self.frame}"

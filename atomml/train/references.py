"""Reference energies of the elements: from isolated atoms, by least squares, or refitted onto a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from atomml.data.entry import Entry
from atomml.errors import OptionError

__all__ = ["ReferenceFit", "fit_references", "is_isolated_atom", "isolated_energies"]

_GROUPS = ("isolatedatom", "isolated_atom", "isolated atom")


@dataclass(frozen=True)
class ReferenceFit:
    """What a least-squares fit of energies onto compositions found.

    Attributes:
        energies: eV by atomic number.
        rank: Rank of the compositions.
        residual: Root mean square of what the fit leaves, eV/atom.
    """

    energies: dict[int, float]
    rank: int
    residual: float

    @property
    def unique(self) -> bool:
        """Whether the compositions tell all elements apart."""
        return self.rank == len(self.energies)

    def sentence(self) -> str:
        """What was found, as a line of the report."""
        shifts = ", ".join(f"{chemical_symbols[z]} {e:+.4f}" for z, e in self.energies.items())
        text = f"{shifts} eV/atom, leaving {1000 * self.residual:.1f} meV/atom"
        if not self.unique:
            text += (
                f"; the {len(self.energies)} elements come in {self.rank} independent compositions only, so "
                "the smallest such energies were taken"
            )
        return text


def fit_references(numbers: Sequence[NDArray[np.integer]], energies: NDArray[np.float64]) -> ReferenceFit:
    """Energies of the elements whose sum over each structure comes closest to its energy.

    Minimises the squared deviation per atom; of all solutions of compositions that cannot tell elements
    apart (SiO2 alone, say), the one of smallest norm.

    Args:
        numbers: Atomic numbers of each structure.
        energies: ``(n_structures,)`` eV.

    Raises:
        OptionError: No structure.
    """
    if len(numbers) == 0:
        raise OptionError("No structure has an energy that reference energies could be fitted to.")
    elements = np.unique(np.concatenate(list(numbers)))
    sizes = np.array([len(one) for one in numbers], dtype=np.float64)
    counts = np.array([[(one == z).sum() for z in elements] for one in numbers]) / sizes[:, None]
    per_atom = energies / sizes
    solution, _, rank, _ = np.linalg.lstsq(counts, per_atom, rcond=1e-8)
    residual = float(np.sqrt(np.mean((counts @ solution - per_atom) ** 2)))
    found = {int(z): float(e) for z, e in zip(elements, solution, strict=True)}
    return ReferenceFit(found, int(rank), residual)


def is_isolated_atom(entry: Entry) -> bool:
    """Whether the entry is one atom in a vacuum: not periodic, or called so. A one-atom crystal is none."""
    named = entry.group.lower() in _GROUPS
    return len(entry.atoms) == 1 and (named or not entry.atoms.pbc.any())


def isolated_energies(entries: Mapping[int, Entry] | Sequence[Entry]) -> dict[int, float]:
    """Energy of each element's isolated atom in the data, eV by atomic number.

    Raises:
        OptionError: An element has two that differ by more than 1 meV.
    """
    found: dict[int, float] = {}
    for entry in entries.values() if isinstance(entries, Mapping) else entries:
        if not is_isolated_atom(entry) or entry.labels.energy is None:
            continue
        number, energy = int(entry.atoms.numbers[0]), entry.labels.energy
        if abs(found.setdefault(number, energy) - energy) > 1e-3:
            raise OptionError(
                f"{entry.where}: the isolated {chemical_symbols[number]} atom has {energy:.4f} eV here and "
                f"{found[number]:.4f} eV before: keep one of them."
            )
    return found

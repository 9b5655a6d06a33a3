"""Counts and statistics of labels, gathered one entry at a time in constant memory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.units import GPa

from atomml.data.entry import LABELS, Entry

__all__ = ["LabelStatistics"]


class _Running:
    """Number, mean, spread and range of numbers that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._m2 = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Take one more value (Welford, Technometrics 4, 419, 1962)."""
        self.n += 1
        change = value - self.mean
        self.mean += change / self.n
        self._m2 += change * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def summary(self) -> dict[str, float | int]:
        """Number, mean, standard deviation and range of what was added."""
        return {
            "n": self.n,
            "mean": self.mean,
            "std": math.sqrt(self._m2 / self.n),
            "min": self.low,
            "max": self.high,
        }


class LabelStatistics:
    """What a set's header says of it: sizes, elements, groups, labels and their ranges."""

    def __init__(self) -> None:
        self._labels: Counter[str] = Counter()
        self._elements: Counter[int] = Counter()
        self._groups: Counter[str] = Counter()
        self._n_atoms = 0
        self._square_force, self._n_components = 0.0, 0
        self._running = {
            name: _Running()
            for name in ("energy_eV_per_atom", "largest_force_eV_per_A", "pressure_GPa", "largest_magmom_muB")
        }

    def add(self, entry: Entry) -> None:
        """Take note of an entry."""
        labels, n_atoms = entry.labels, len(entry.atoms)
        self._n_atoms += n_atoms
        self._labels.update(labels.names)
        self._elements.update(set(entry.atoms.numbers.tolist()))
        self._groups[entry.group] += 1
        if labels.energy is not None:
            self._running["energy_eV_per_atom"].add(labels.energy / n_atoms)
        if labels.forces is not None:
            squares = np.einsum("ij,ij->i", labels.forces, labels.forces)
            self._square_force += float(squares.sum())
            self._n_components += 3 * n_atoms
            self._running["largest_force_eV_per_A"].add(math.sqrt(float(squares.max())))
        if labels.stress is not None:
            self._running["pressure_GPa"].add(-float(np.trace(labels.stress)) / 3 / GPa)
        if labels.magmoms is not None:
            self._running["largest_magmom_muB"].add(float(np.abs(labels.magmoms).max()))

    def summary(self) -> dict[str, Any]:
        """Counts and ranges as JSON holds them; elements and groups are numbers of entries."""
        statistics: dict[str, Any] = {
            name: running.summary() for name, running in self._running.items() if running.n
        }
        if self._n_components:
            statistics["force_rms_eV_per_A"] = math.sqrt(self._square_force / self._n_components)
        return {
            "n_atoms": self._n_atoms,
            "label_counts": {name: self._labels[name] for name in LABELS},
            "elements": {chemical_symbols[z]: n for z, n in sorted(self._elements.items())},
            "groups": dict(sorted(self._groups.items())),
            "statistics": statistics,
        }

"""What ``evaluate`` says of a committee's uncertainty, gathered structure by structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from atomml.data.calibration import Calibration
    from atomml.data.entry import Entry

__all__ = ["Spreads"]


class Spreads:
    """Spreads of a committee beside its errors: of forces on atoms, and of energies per atom less shifts."""

    def __init__(self) -> None:
        self._sigma: list[np.ndarray] = []
        self._errors: list[np.ndarray] = []
        self._structures: list[int] = []
        self._energy_sigma: dict[int, float] = {}

    def add(self, place: int, entry: Entry, found: Mapping[str, Any]) -> None:
        """Take the answers for one structure; those of a single model have no spread and are passed over."""
        if "energy_std" in found and entry.labels.energy is not None:
            self._energy_sigma[place] = 1000 * float(found["energy_std"]) / len(entry.atoms)
        if "forces_std" in found and entry.labels.forces is not None:
            off = 1000 * (np.asarray(found["forces"], dtype=np.float64) - entry.labels.forces)
            self._sigma.append(1000 * np.asarray(found["forces_std"], dtype=np.float64))
            self._errors.append(np.linalg.norm(off, axis=1))
            self._structures += [place] * len(off)

    def calibrations(self, shifted: Mapping[int, float], seed: int) -> dict[str, Calibration]:
        """By quantity, as far as there is enough to say something.

        Args:
            shifted: Error of the energy per atom less the fitted shifts, meV/atom, by structure.
            seed: Of the halves of the data.
        """
        from atomml.data.calibration import calibrate

        places = sorted({*self._structures, *self._energy_sigma})
        order = np.random.default_rng([seed, 15]).permutation(len(places))
        half = {place: bool(order[k] % 2) for k, place in enumerate(places)}
        found: dict[str, Calibration | None] = {}
        if self._sigma:
            halves = np.array([half[place] for place in self._structures])
            sigma, errors = np.concatenate(self._sigma), np.concatenate(self._errors)
            found["force_vectors_meV_per_A"] = calibrate(sigma, errors, halves, dimensions=3)
        both = [place for place in places if place in self._energy_sigma and place in shifted]
        if both:
            found["shifted_energy_meV_per_atom"] = calibrate(
                np.array([self._energy_sigma[place] for place in both]),
                np.array([shifted[place] for place in both]),
                np.array([half[place] for place in both]),
            )
        return {name: one for name, one in found.items() if one is not None}

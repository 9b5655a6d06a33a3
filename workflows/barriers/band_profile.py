"""Energy along a path, and whether the forces along it integrate to the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Profile"]

_TOLERANCE_EV = 0.01
_COARSE = 0.05
_WRONG = 0.15
_CURVE_POINTS = 201


@dataclass(frozen=True)
class Profile:
    """What is known of the energy along a path.

    Attributes:
        distances: ``(n,)`` Å from the start along the path, in the space of all atoms.
        energies: ``(n,)`` eV.
        slopes: ``(n,)`` eV/Å: less the force along the path, whose direction is that of a cubic spline
            through the images.
        work: ``(n,)`` eV: the integral of the slopes up to each image.
    """

    distances: Array
    energies: Array
    slopes: Array
    work: Array

    @classmethod
    def of(cls, images: Sequence[Atoms]) -> Profile:
        """The profile of images with calculators, whose positions do not jump across a boundary."""
        positions = np.array([image.positions.ravel() for image in images])
        forces = np.array([image.get_forces().ravel() for image in images])
        energies = np.array([image.get_potential_energy() for image in images])
        return cls.from_arrays(positions, energies, forces)

    @classmethod
    def from_arrays(cls, positions: Array, energies: Array, forces: Array) -> Profile:
        """The profile of ``(n, 3 n_atoms)`` positions (Å) and forces (eV/Å) and ``(n,)`` energies (eV)."""
        from scipy.interpolate import CubicSpline

        steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        distances = np.concatenate([[0.0], np.cumsum(steps)])
        tangents = CubicSpline(distances, positions)(distances, 1)
        slopes = -(forces * tangents).sum(axis=1)
        work = CubicSpline(distances, slopes).antiderivative()(distances)
        return cls(distances, energies, slopes, work)

    @property
    def highest(self) -> int:
        """Number of the highest image."""
        return int(self.energies.argmax())

    @property
    def mismatch(self) -> float:
        """Largest difference between the energies and the work done against the forces, eV."""
        return float(np.abs(self.energies - self.energies[0] - self.work).max())

    @property
    def is_consistent(self) -> bool:
        """Whether they agree within 10 meV or 15 % of the path's range of energies, as 3 images do."""
        return self._within(_WRONG)

    @property
    def is_fine(self) -> bool:
        """Whether they agree within 10 meV or 5 % of the path's range of energies, as 5 to 9 images do."""
        return self._within(_COARSE)

    def _within(self, part: float) -> bool:
        return self.mismatch <= max(_TOLERANCE_EV, part * float(np.ptp(self.energies)))

    def minima_between(self) -> list[int]:
        """Images lower than both neighbours by more than 10 meV."""
        inner = self.energies[1:-1]
        lower = np.minimum(self.energies[:-2], self.energies[2:]) - inner > _TOLERANCE_EV
        return [int(number) + 1 for number in np.flatnonzero(lower)]

    def rows(self) -> list[dict[str, Any]]:
        """A line for each image."""
        return [
            {
                "image": number,
                "distance_A": float(self.distances[number]),
                "energy_eV": float(self.energies[number]),
                "above_start_eV": float(self.energies[number] - self.energies[0]),
                "from_forces_eV": float(self.work[number]),
                "slope_eV_per_A": float(self.slopes[number]),
            }
            for number in range(len(self.energies))
        ]

    def curve(self) -> list[dict[str, float]]:
        """Two smooth curves from the start's energy on, for the picture.

        ``above_start_eV`` goes through energies and slopes by cubic Hermite; ``from_forces_eV`` is the
        integral of the slopes alone.
        """
        from scipy.interpolate import CubicHermiteSpline, CubicSpline

        spline = CubicHermiteSpline(self.distances, self.energies - self.energies[0], self.slopes)
        work = CubicSpline(self.distances, self.slopes).antiderivative()
        grid = np.linspace(0.0, float(self.distances[-1]), _CURVE_POINTS)
        return [
            {"distance_A": float(x), "above_start_eV": float(y), "from_forces_eV": float(w)}
            for x, y, w in zip(grid, spline(grid), work(grid), strict=True)
        ]

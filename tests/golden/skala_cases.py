"""Points and densities, by formula, at which Skala is compared with its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CENTRES", "directions", "points"]

Array = NDArray[np.float64]

CENTRES = np.array([[0.0, 0.0, 0.0], [0.0, 1.43, 1.11], [0.0, -1.43, 1.11]])
_N = 400


def points(spin: int) -> tuple[Array, Array, Array]:
    """Densities of exponentials about the nuclei: variables, coordinates and weights of the points."""
    random = np.random.default_rng(7)
    coords = CENTRES[random.integers(0, 3, _N)] + random.standard_normal((_N, 3)) * random.uniform(
        0.1, 4, (_N, 1)
    )
    weights = random.uniform(0.001, 0.4, _N)
    density, slope = np.zeros(_N), np.zeros((3, _N))
    for centre, charge, decay in zip(CENTRES, (8.0, 1.0, 1.0), (3.0, 2.0, 2.0), strict=True):
        away = coords - centre
        distance = np.sqrt((away**2).sum(axis=1))
        part = charge * decay**3 / (8 * np.pi) * np.exp(-decay * distance)
        density += part
        slope -= decay * part * (away / distance[:, None]).T
    kinetic = (slope**2).sum(axis=0) / (8 * density) + 0.5 * density ** (5 / 3)
    whole = np.vstack([density, slope, kinetic])
    if not spin:
        return whole, coords, weights
    share = 0.5 + 0.3 * np.sin(coords[:, 0])
    return np.stack([whole * share, whole * (1 - share)]), coords, weights


def directions(spin: int) -> dict[str, Any]:
    """Along which derivatives are compared; small where densities are."""
    random = np.random.default_rng(11)
    rho, coords, weights = points(spin)
    return {
        "rho": random.standard_normal(rho.shape) * np.abs(rho),
        "coords": random.standard_normal(coords.shape),
        "weights": random.standard_normal(weights.shape),
    }

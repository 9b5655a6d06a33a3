"""The mean squared displacement, the diffusion coefficient in it, and whether it is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atomml.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atomml.workflows.dynamics.trajectories import Trajectory

    Array = NDArray[np.float64]

__all__ = ["FRAMES_PER_BLOCK", "Estimate", "estimate", "hop_length", "moves", "squared_displacement"]

FRAMES_PER_BLOCK = 20
_SLOPE = 0.2  # how far the exponent of the MSD may be from 1
_LARGEST_ERROR = 0.5  # of D
_LONE_HOP = 2.5  # Å, where one atom of an element has no neighbour to hop towards


@dataclass(frozen=True)
class Estimate:
    """A diffusion coefficient and what speaks for it.

    Attributes:
        diffusivity: Å²/ps.
        error: Standard error, from the scatter of the blocks.
        exponent: Of the MSD as a power of time: 1 if atoms diffuse, 2 if they fly, 0 if they stay.
        msd: Mean squared displacement over half the run, Å².
        times: ``(n,)`` ps.
        curve: ``(n,)`` Å² at those times, averaged over all starting times.
        why_not: Why it is no diffusion coefficient yet; "" if it is one.
    """

    diffusivity: float
    error: float
    exponent: float
    msd: float
    times: Array
    curve: Array
    why_not: str = ""


def squared_displacement(positions: Array, n_lags: int) -> Array:
    """``(n_lags,)`` Å²: ``<|x(t + lag) - x(t)|²>`` over atoms and all pairs of frames.

    By Fourier transforms, as in V. Calandrini et al., Collection SFN 12, 201 (2011), section 4.2.

    Args:
        positions: ``(n_frames, n, 3)`` Å.
        n_lags: Lags, from 0.
    """
    x = positions - positions[:1]
    n_frames, n_atoms = x.shape[:2]
    length = 1 << (2 * n_frames - 1).bit_length()
    products = np.zeros(n_frames)
    for atom in range(n_atoms):
        some = np.fft.rfft(x[:, atom], n=length, axis=0)
        power = (some.real**2 + some.imag**2).sum(axis=1)
        products += np.fft.irfft(power, n=length)[:n_frames]
    squares = (x**2).sum(axis=(1, 2))
    left = np.concatenate([[0.0], np.cumsum(squares)])
    lags = np.arange(n_lags)
    ends = left[n_frames - lags] + (left[n_frames] - left[lags])
    msd: Array = (ends - 2 * products[:n_lags]) / (n_frames - lags) / n_atoms
    return np.maximum(msd, 0.0)


def moves(frames: Trajectory) -> tuple[Array, float]:
    """``(n_frames, n, 3)`` Å with the centre of mass at rest, and how far it had drifted, Å.

    In a cell that changes, fractional coordinates are put into the mean cell, so that a cell that breathes
    moves no atom.
    """
    positions, cells = frames.positions, frames.cells
    if frames.pbc.all() and np.ptp(cells, axis=0).max() > 1e-9:
        fractional = np.linalg.solve(np.swapaxes(cells, 1, 2), np.swapaxes(positions, 1, 2))
        positions = np.swapaxes(fractional, 1, 2) @ cells.mean(axis=0)
    centre = np.einsum("i,fix->fx", frames.masses, positions) / frames.masses.sum()
    drift = float(np.linalg.norm(centre[-1] - centre[0]))
    return positions - centre[:, None], drift


def estimate(
    positions: Array, interval: float, *, fit: tuple[float, float], blocks: int, hop: float, label: str
) -> Estimate:
    """D by the slope of the MSD in independent blocks of a run, with tests of whether atoms diffuse.

    Args:
        positions: ``(n_frames, n, 3)`` Å, without the drift.
        interval: ps between frames.
        fit: Times over which the slope is taken, as parts of a block.
        blocks: Number of blocks.
        hop: Å; atoms that move less than that have not diffused.
        label: What to call the run in an error.

    Raises:
        StructureError: Too few frames for the blocks.
    """
    n_frames = len(positions)
    size = n_frames // blocks
    if size < FRAMES_PER_BLOCK:
        raise StructureError(
            f"{label} has {n_frames} frames, and {blocks} blocks need {blocks * FRAMES_PER_BLOCK}: run "
            "longer, or write frames more often."
        )
    first, last = max(int(fit[0] * size), 1), max(int(fit[1] * size), 3)
    lags = np.arange(first, last + 1)
    slopes = []
    for number in range(blocks):
        msd = squared_displacement(positions[number * size : (number + 1) * size], last + 1)
        slopes.append(float(np.polyfit(lags * interval, msd[lags], 1)[0]) / 6)
    value, error = float(np.mean(slopes)), float(np.std(slopes, ddof=1) / np.sqrt(blocks))
    curve = squared_displacement(positions, n_frames // 2 + 1)
    times: Array = np.arange(len(curve), dtype=np.float64) * interval
    exponent = _exponent(curve, first, max(n_frames // 4, first + 3))
    found = Estimate(value, error, exponent, float(curve[-1]), times, curve)
    return Estimate(value, error, exponent, found.msd, times, curve, _why_not(found, hop))


def hop_length(frames: Trajectory, element: str) -> float:
    """Mean distance of an element's atoms to the nearest other one in the first frame, Å."""
    from ase.geometry import get_distances

    chosen = frames.positions[0][frames.of_element(element)]
    if len(chosen) < 2:
        return _LONE_HOP
    distances = get_distances(chosen, cell=frames.cells[0], pbc=frames.pbc)[1]
    np.fill_diagonal(distances, np.inf)
    return float(distances.min(axis=1).mean())


def _exponent(curve: Array, first: int, last: int) -> float:
    """Slope of ln MSD over ln t, at times evenly spaced in the logarithm."""
    chosen = np.unique(np.rint(np.geomspace(first, min(last, len(curve) - 1), 30)).astype(int))
    if not (curve[chosen] > 0).all():
        return 0.0
    return float(np.polyfit(np.log(chosen), np.log(curve[chosen]), 1)[0])


def _why_not(found: Estimate, hop: float) -> str:
    if found.exponent > 1 + _SLOPE:
        return f"the MSD grows as time to the {found.exponent:.2f}: atoms still fly, they do not diffuse yet"
    if found.msd < hop**2:
        return f"atoms move {found.msd:.2g} Å² in half the run, less than a hop ({hop:.2f} Å) squared"
    if found.exponent < 1 - _SLOPE:
        return (
            f"the MSD grows as time to the {found.exponent:.2f}: atoms rattle where they are, or too few hop"
        )
    if not found.error <= _LARGEST_ERROR * found.diffusivity:
        return f"the blocks scatter by {found.error / abs(found.diffusivity or 1):.0%} of their mean"
    return ""

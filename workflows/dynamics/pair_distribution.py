"""Radial distribution functions of a trajectory, counted pair by pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import StructureError
from atomml.files import write_table
from atomml.md.rdf import RadialDistribution
from atomml.md.state import System
from atomml.run import RunFolder
from atomml.workflows.dynamics.trajectories import Trajectory, column_rows
from atomml.workflows.dynamics.trajectory_analysis import RdfOptions, RdfResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["check", "measure"]

_SMOOTH = 0.1  # Å: what wiggles faster is noise of a histogram, no shell
_FIRST = 0.2  # of the highest peak: lower ones before it are noise


def check(frames: Trajectory, options: RdfOptions) -> None:
    """Refuse frames without a density.

    Raises:
        StructureError: They are not periodic in three directions.
    """
    if not frames.pbc.all() or not (np.abs(np.linalg.det(frames.cells)) > 0).all():
        raise StructureError(
            f"{frames.label} is not periodic in three directions, so it has no density that a distribution "
            "could refer to: give a periodic trajectory."
        )


def measure(frames: Trajectory, options: RdfOptions, folder: RunFolder) -> RdfResult:
    """Count the pairs of all frames, and write ``rdf.csv``, ``neighbours.csv`` and ``pairs.csv``."""
    n_bins = max(round(options.cutoff / options.bin_width), 1)
    counted = RadialDistribution(frames.numbers, options.cutoff, n_bins)
    for number in range(frames.n_frames):
        counted.add(_system(frames, number))
        if number % 50 == 49:
            folder.event("frames", step=number + 1, of=frames.n_frames)
    _warn_of_images(frames, options.cutoff, folder)
    result = _result(frames, counted, options, n_bins)
    radii = counted.radii
    curves = {f"g_{name}": curve for name, curve in result.curves.items()}
    write_table(folder.file("rdf.csv"), column_rows({"r_A": radii, **curves}))
    write_table(folder.file("neighbours.csv"), column_rows({"r_A": radii + radii[0], **result.neighbours}))
    write_table(folder.file("pairs.csv"), result.pairs)
    return result


def _result(frames: Trajectory, counted: RadialDistribution, options: RdfOptions, n_bins: int) -> RdfResult:
    volume = float(np.abs(np.linalg.det(frames.cells)).mean())
    counts = {symbol: int(frames.of_element(symbol).sum()) for symbol in frames.symbols}
    partial, n_atoms = counted.curves(), len(frames.numbers)
    curves = {"all": _total(partial, counts)} | (partial if len(counts) > 1 else {})
    shells = 4.0 / 3.0 * np.pi * np.diff(np.linspace(0.0, options.cutoff, n_bins + 1) ** 3)
    neighbours: dict[str, Array] = {"all": np.cumsum(n_atoms / volume * shells * curves["all"])}
    for name in partial if len(counts) > 1 else ():
        first, second = name.split("-")
        for one, other in dict.fromkeys(((first, second), (second, first))):
            neighbours[f"{one}-{other}"] = np.cumsum(counts[other] / volume * shells * partial[name])
    result = RdfResult(
        formula=frames.formula,
        n_frames=frames.n_frames,
        density=n_atoms / volume,
        radii=counted.radii,
        curves=curves,
        neighbours=neighbours,
    )
    result.pairs = [
        _pair(name, curve, counted.radii, neighbours, options.shell) for name, curve in curves.items()
    ]
    return result


def _system(frames: Trajectory, number: int) -> System:
    return System(
        numbers=frames.numbers,
        masses=frames.masses[:, None],
        pbc=frames.pbc,
        mobile=np.ones((len(frames.numbers), 3), dtype=np.bool_),
        positions=frames.positions[number],
        momenta=np.zeros_like(frames.positions[number]),
        cell=frames.cells[number],
    )


def _total(partial: dict[str, Array], counts: dict[str, int]) -> Array:
    """All pairs together: the partial ones weighted by the concentrations of both elements."""
    n_atoms = sum(counts.values())
    total: Array = np.zeros_like(next(iter(partial.values())))
    for name, curve in partial.items():
        first, second = name.split("-")
        total += (1 if first == second else 2) * counts[first] * counts[second] / n_atoms**2 * curve
    return total


def _pair(
    name: str, curve: Array, radii: Array, neighbours: dict[str, Array], shell: float | None
) -> dict[str, Any]:
    """One line of ``pairs``."""
    first, end = _first_shell(curve, radii)
    row: dict[str, Any] = {
        "pair": name,
        "first_peak_A": None if first is None else float(radii[first]),
        "peak_height": None if first is None else float(curve[first]),
    }
    within = shell if shell is not None else (None if end is None else float(radii[end]))
    row["shell_A"] = within
    backwards = "-".join(reversed(name.split("-")))
    for key, direction in (("neighbours", name), ("neighbours_reversed", backwards)):
        row[key] = (
            None if within is None else float(np.interp(within, radii + radii[0], neighbours[direction]))
        )
    return row


def _first_shell(curve: Array, radii: Array) -> tuple[int | None, int | None]:
    """Bins of the first peak and of the minimum after it; None where there is none within the cutoff."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(curve, max(_SMOOTH / (2 * radii[0]), 0.5), mode="nearest")
    rising = np.diff(smooth) > 0
    peaks = [n for n in range(1, len(smooth) - 1) if rising[n - 1] and not rising[n]]
    peaks = [n for n in peaks if smooth[n] >= _FIRST * smooth.max()]
    if not peaks:
        return None, None
    start = peaks[0]
    later = [n for n in range(start + 1, len(smooth) - 1) if rising[n] and not rising[n - 1]]
    near = slice(max(start - 2, 0), start + 3)
    return near.start + int(curve[near].argmax()), later[0] if later else None


def _warn_of_images(frames: Trajectory, cutoff: float, folder: RunFolder) -> None:
    """Say where the distribution sees the periodic images of the same atoms."""
    cell = frames.cells[0]
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    half = float(np.abs(np.linalg.det(cell)) / areas.max()) / 2
    if cutoff > half:
        folder.warn(
            f"Beyond {half:.2f} Å, half the distance of the cell's closest faces, the distribution repeats "
            "what periodicity puts there: take a larger cell for a fluid."
        )

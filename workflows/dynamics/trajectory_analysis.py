"""What a trajectory says of structure and vibrations: ``atomml rdf`` and ``atomml vdos``, as functions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.options import option
from atomml.result import Result, quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["RdfOptions", "RdfResult", "VdosOptions", "VdosResult", "rdf", "vdos"]


@dataclass(frozen=True)
class RdfOptions:
    """Options of ``rdf``."""

    cutoff: float = option(8.0, "largest distance", unit="Å", above=0, maximum=50)
    bin_width: float = option(0.05, "width of a bin of distances", unit="Å", above=0, maximum=1)
    shell: float | None = option(
        None, "distance up to which neighbours are counted; else the first minimum of each pair", unit="Å"
    )
    skip: int = option(0, "frames left out at the beginning", minimum=0)
    stride: int = option(1, "take every so many frames", minimum=1)


@dataclass(kw_only=True)
class RdfResult(Result):
    """What ``rdf`` returns.

    Attributes:
        formula: Of the atoms.
        n_frames: Frames that were counted.
        density: Atoms per volume, 1/Å³.
        pairs: A line for each pair of elements, ``all`` first: ``first_peak_A`` and its height, the
            ``shell_A`` up to which neighbours are counted, and how many ``neighbours`` of the second an
            atom of the first has there, and the other way round.
        radii: ``(n_bins,)`` Å.
        curves: ``(n_bins,)`` g(r) by pair.
        neighbours: ``(n_bins,)`` neighbours of the pair's second element within the bin's outer edge of an
            atom of its first; key ``A-B``, both ways round.
    """

    formula: str = ""
    n_frames: int = 0
    density: float = quantity("1/Å^3", default=0.0)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    radii: Array | None = field(default=None, metadata={"summary": False}, repr=False)
    curves: dict[str, Array] = field(default_factory=dict, metadata={"summary": False}, repr=False)
    neighbours: dict[str, Array] = field(default_factory=dict, metadata={"summary": False}, repr=False)


@dataclass(frozen=True)
class VdosOptions:
    """Options of ``vdos``."""

    correlation_time: float | None = option(
        None,
        "longest time of the autocorrelation; sets the resolution; else 5 ps or a quarter of the run",
        unit="ps",
    )
    window: str = option(
        "hann", "how the autocorrelation is let go to zero", choices=("hann", "gaussian", "none")
    )
    interval: float | None = option(
        None, "time between frames; else as the trajectory says", unit="fs", above=0
    )
    remove_drift: bool = option(True, "take out the motion of the centre of mass")
    skip: int = option(0, "frames left out at the beginning", minimum=0)
    stride: int = option(1, "take every so many frames", minimum=1)


@dataclass(kw_only=True)
class VdosResult(Result):
    """What ``vdos`` returns.

    Attributes:
        formula: Of the atoms.
        n_frames: Frames.
        interval: Time between them, fs.
        temperature: Mean kinetic temperature, K.
        states: Integral of the density of states: three for each atom.
        mean_frequency: THz.
        peak_frequency: Where the density is highest, THz.
        resolution: Full width at half maximum of a sharp line, THz.
        highest_frequency: End of the axis, 1 / (2 interval), THz.
        states_by_element: Integral by element; three for each of its atoms where energy is equipartitioned.
        frequencies: ``(n,)`` THz.
        density: ``(n,)`` states per THz.
        densities: ``(n,)`` by element; they add up to ``density``.
        lags: ``(n,)`` fs.
        correlation: ``(n,)`` mass-weighted velocity autocorrelation, 1 at zero.
    """

    formula: str = ""
    n_frames: int = 0
    interval: float = quantity("fs", default=0.0)
    temperature: float | None = quantity("K", default=None)
    states: float = 0.0
    mean_frequency: float = quantity("THz", default=0.0)
    peak_frequency: float = quantity("THz", default=0.0)
    resolution: float = quantity("THz", default=0.0)
    highest_frequency: float = quantity("THz", default=0.0)
    states_by_element: dict[str, float] = field(default_factory=dict)
    frequencies: Array | None = field(default=None, metadata={"summary": False}, repr=False)
    density: Array | None = field(default=None, metadata={"summary": False}, repr=False)
    densities: dict[str, Array] = field(default_factory=dict, metadata={"summary": False}, repr=False)
    lags: Array | None = field(default=None, metadata={"summary": False}, repr=False)
    correlation: Array | None = field(default=None, metadata={"summary": False}, repr=False)


def rdf(
    trajectory: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    options: RdfOptions | None = None,
    **overrides: Any,
) -> RdfResult:
    """Radial distribution functions of all atoms and of each pair of elements, and numbers of neighbours.

    ``g_ab(r) = V n_ab(r) / (N_a N_b 4π r² dr)`` averaged over frames: 1 far away in a fluid. Integrated with
    the density over all space it gives the number of other atoms, so of N atoms of an ideal gas
    ``(N - 1) / N`` everywhere. An atom's own periodic images count, as they do in a crystal.

    Args:
        trajectory: A file, a run folder of ``md``, or a list of ``ase.Atoms``; one structure will do.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        options: All options at once.
        **overrides: Fields of :class:`RdfOptions`, over those of ``options``.

    Raises:
        StructureError: Frames that are not periodic in three directions, or no frames.
        InputError: Another thing about the trajectory or an option that is wrong.
    """
    from atomml.workflows.dynamics import pair_distribution

    return _on_trajectory(
        "rdf", pair_distribution, trajectory, options or RdfOptions(), overrides, out, resume, overwrite
    )


def vdos(
    trajectory: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    options: VdosOptions | None = None,
    **overrides: Any,
) -> VdosResult:
    """The vibrational density of states: the spectrum of the mass-weighted velocity autocorrelation.

    J. M. Dickey and A. Paskin, Phys. Rev. 188, 1407 (1969). It is normalised to 3N states, whatever the
    temperature; a harmonic crystal in equilibrium gives its phonon density of states.

    Args:
        trajectory: A file, a run folder of ``md``, or a list of ``ase.Atoms``; with velocities.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        options: All options at once.
        **overrides: Fields of :class:`VdosOptions`, over those of ``options``.

    Raises:
        StructureError: Fewer than 4 frames, frames without velocities, or atoms that do not move.
        InputError: Another thing about the trajectory or an option that is wrong.
    """
    from atomml.workflows.dynamics import vibrational_spectrum

    return _on_trajectory(
        "vdos", vibrational_spectrum, trajectory, options or VdosOptions(), overrides, out, resume, overwrite
    )


def _on_trajectory(
    command: str,
    how: Any,
    trajectory: Any,
    options: Any,
    overrides: Mapping[str, Any],
    out: str | Path | None,
    resume: bool,
    overwrite: bool,
) -> Any:
    """Read, check, open the run folder, measure, write summary and report; ``how`` checks and measures."""
    from atomml.workflows.dynamics.trajectories import read_trajectory
    from atomml.workflows.run_record import finish_run, open_with_options

    started = time.perf_counter()
    chosen: Any = build_options(type(options), as_config(options) | dict(overrides))
    frames = read_trajectory(trajectory, skip=chosen.skip, stride=chosen.stride)
    how.check(frames, chosen)
    with open_with_options(
        out, command, chosen, resume=resume, overwrite=overwrite, structures=[frames.label]
    ) as folder:
        result = how.measure(frames, chosen, folder)
        seconds = time.perf_counter() - started
        finish_run(folder, result, model=None, inputs=[frames.record()], seconds=seconds)
        return result

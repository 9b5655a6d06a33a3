"""The vibrational density of states: the spectrum of the velocities' autocorrelation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atomml.errors import OptionError, StructureError
from atomml.files import write_table
from atomml.run import RunFolder
from atomml.workflows.dynamics.trajectories import Trajectory, column_rows
from atomml.workflows.dynamics.trajectory_analysis import VdosOptions, VdosResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["autocorrelation", "check", "measure", "spectrum"]

_SERIES_AT_ONCE = 64
_ALIASED = 0.01  # share of the states in the last twentieth of the axis that means more lie beyond it
# Full width at half maximum of a line, times the length of the window that made it.
_WIDTHS = {"hann": 1.0, "gaussian": 1.14, "none": 0.60}


def autocorrelation(velocities: Array, n_lags: int) -> Array:
    """``(n_lags,)``: sum over series of ``<v(s) v(s + lag)>``, every pair of frames used.

    Args:
        velocities: ``(n_frames, n_series)``.
        n_lags: Lags, from 0.
    """
    n_frames = len(velocities)
    length = 1 << (n_frames + n_lags).bit_length()
    power = np.zeros(length // 2 + 1)
    for start in range(0, velocities.shape[1], _SERIES_AT_ONCE):
        some = np.fft.rfft(velocities[:, start : start + _SERIES_AT_ONCE], n=length, axis=0)
        power += (some.real**2 + some.imag**2).sum(axis=1)
    return np.fft.irfft(power, n=length)[:n_lags] / (n_frames - np.arange(n_lags))


def spectrum(correlation: Array, interval: float, window: str) -> tuple[Array, Array]:
    """Frequencies in THz, and the cosine transform of a windowed autocorrelation in units per THz.

    Its integral by trapezoids over the axis is exactly the correlation at lag 0, whatever the window: on
    this grid every cosine but the first sums to nothing.

    Args:
        correlation: ``(n,)`` at lags 0, 1, ... intervals.
        interval: fs.
        window: ``hann``, ``gaussian`` (which falls to 1 % at the end) or ``none``.
    """
    from scipy.fft import dct

    n = len(correlation)
    lag = np.arange(n) / n
    shape = {
        "hann": np.cos(np.pi / 2 * lag) ** 2,
        "gaussian": np.exp(np.log(0.01) * lag**2),
        "none": np.ones(n),
    }[window]
    padded = np.zeros(4 * n + 1)
    padded[:n] = correlation * shape
    step = 1000.0 / (2 * interval * (len(padded) - 1))  # THz
    frequencies: Array = np.arange(len(padded), dtype=np.float64) * step
    density: Array = np.asarray(dct(padded, type=1), dtype=np.float64) * (2 * interval / 1000.0)
    return frequencies, density


def check(frames: Trajectory, options: VdosOptions) -> float:
    """The interval of the frames in fs, if a spectrum can be had of them.

    Raises:
        StructureError: Fewer than 4 frames, or frames without velocities.
        InputError: No interval, or one that changes.
        OptionError: A correlation time that is longer than the trajectory.
    """
    if frames.n_frames < 4:
        raise StructureError(f"{frames.label} has {frames.n_frames} frames: a spectrum needs more.")
    if frames.velocities is None:
        raise StructureError(
            f"{frames.label} has no velocities (momenta): write them into the trajectory, as atomml md does."
        )
    interval = frames.interval(options.interval)
    longest = (frames.n_frames - 1) * interval / 1000
    if options.correlation_time is not None and not 0 < options.correlation_time <= longest:
        raise OptionError(
            f"correlation-time is {options.correlation_time:g} ps and the trajectory {longest:g} ps long: "
            "give less than that, a tenth of it if you can."
        )
    return interval


def measure(frames: Trajectory, options: VdosOptions, folder: RunFolder) -> VdosResult:
    """Correlate, transform, and write ``vdos.csv`` and ``autocorrelation.csv``.

    Raises:
        StructureError: No atom moves.
    """
    interval = frames.interval(options.interval)
    n_lags = _lags(frames.n_frames, interval, options.correlation_time)
    correlations = _correlations(frames, n_lags, options.remove_drift)
    total: Array = np.sum(list(correlations.values()), axis=0)
    if not total[0] > 0:
        raise StructureError(f"{frames.label}: no atom moves; a spectrum needs motion.")
    scale = 3 * len(frames.numbers) / total[0]
    frequencies, density = spectrum(total * scale, interval, options.window)
    densities = {
        symbol: spectrum(values * scale, interval, options.window)[1]
        for symbol, values in correlations.items()
    }
    lags: Array = np.arange(n_lags, dtype=np.float64) * interval
    result = VdosResult(
        formula=frames.formula,
        n_frames=frames.n_frames,
        interval=interval,
        temperature=frames.temperature(),
        states=_integral(frequencies, density),
        mean_frequency=_integral(frequencies, frequencies * density) / _integral(frequencies, density),
        peak_frequency=float(frequencies[density.argmax()]),
        resolution=_WIDTHS[options.window] / (n_lags * interval / 1000),
        highest_frequency=float(frequencies[-1]),
        states_by_element={symbol: _integral(frequencies, values) for symbol, values in densities.items()},
        frequencies=frequencies,
        density=density,
        densities=densities,
        lags=lags,
        correlation=total / total[0],
    )
    _warn_of_aliases(frequencies, density, interval, folder)
    _warn_of_noise(frames, n_lags, folder)
    by_element = {f"{symbol}_states_per_THz": values for symbol, values in densities.items()}
    states = {"all_states_per_THz": density, **(by_element if len(by_element) > 1 else {})}
    write_table(folder.file("vdos.csv"), column_rows({"frequency_THz": frequencies, **states}))
    columns = {"time_fs": lags, "velocity_autocorrelation": total / total[0]}
    write_table(folder.file("autocorrelation.csv"), column_rows(columns))
    return result


def _correlations(frames: Trajectory, n_lags: int, remove_drift: bool) -> dict[str, Array]:
    """Mass-weighted velocity autocorrelation by element."""
    assert frames.velocities is not None
    velocities = frames.velocities
    if remove_drift:
        velocities = velocities - frames.drift_velocity()[:, None]
    found = {}
    for symbol in frames.symbols:
        chosen = frames.of_element(symbol)
        weighted = velocities[:, chosen] * np.sqrt(frames.masses[chosen])[:, None]
        found[symbol] = autocorrelation(weighted.reshape(frames.n_frames, -1), n_lags)
    return found


def _lags(n_frames: int, interval: float, time_ps: float | None) -> int:
    """How many lags: those asked for, else 5 ps or a quarter of the trajectory."""
    if time_ps is not None:
        return int(np.clip(round(time_ps * 1000 / interval), 2, n_frames))
    return int(np.clip(round(5000 / interval), 2, max(n_frames // 4, 2)))


def _integral(x: Array, y: Array) -> float:
    return float(np.trapezoid(y, x))


def _warn_of_aliases(frequencies: Array, density: Array, interval: float, folder: RunFolder) -> None:
    last = frequencies > 0.95 * frequencies[-1]
    share = abs(_integral(frequencies[last], density[last])) / _integral(frequencies, density)
    if share > _ALIASED:
        folder.warn(
            f"{100 * share:.1f} % of the states lie at the end of the axis ({frequencies[-1]:.3g} THz), so "
            f"more lie beyond and are folded back: write frames closer than {interval:g} fs (md --every)."
        )


def _warn_of_noise(frames: Trajectory, n_lags: int, folder: RunFolder) -> None:
    if n_lags * 4 > frames.n_frames:
        folder.warn(
            f"The run is only {frames.n_frames / n_lags:.1f} times as long as the autocorrelation, so the "
            "spectrum is noisy: run longer, or take a shorter --correlation-time."
        )

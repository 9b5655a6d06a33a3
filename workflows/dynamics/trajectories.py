"""Trajectories as arrays: from a file or a run folder of ``md``, unwrapped, with times and velocities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import FileFormatError, InputError, StructureError
from atomml.workflows.inputs import input_record, split_index, structures_of

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.data.structures import Frame

    Array = NDArray[np.float64]

__all__ = ["Trajectory", "column_rows", "is_trajectory", "read_trajectory", "trajectory_file"]

_FILE = "trajectory.extxyz"
_UNEVEN = 1e-3  # of an interval: times are written with enough digits for less


@dataclass
class Trajectory:
    """Frames of the same atoms.

    Attributes:
        label: Where it came from, for messages.
        numbers: ``(n,)`` atomic numbers.
        masses: ``(n,)`` amu.
        pbc: ``(3,)``.
        positions: ``(n_frames, n, 3)`` Å; followed across periodic boundaries.
        cells: ``(n_frames, 3, 3)`` Å.
        velocities: ``(n_frames, n, 3)`` Å/fs, or None.
        times: ``(n_frames,)`` fs, or None where the file says nothing of time.
        magmoms: ``(n_frames, n)`` μB, or None.
        path: The file, if it came from one.
        first: The first frame.
    """

    label: str
    numbers: NDArray[np.int64]
    masses: Array
    pbc: NDArray[np.bool_]
    positions: Array
    cells: Array
    velocities: Array | None
    times: Array | None
    magmoms: Array | None
    path: Path | None = None
    first: Atoms | None = field(default=None, repr=False)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    @property
    def formula(self) -> str:
        """Of the atoms."""
        from ase.formula import Formula

        counts = {symbol: int(self.of_element(symbol).sum()) for symbol in self.symbols}
        return str(Formula.from_dict(counts).format("hill"))

    @property
    def symbols(self) -> list[str]:
        """Elements in the order of their numbers."""
        from ase.data import chemical_symbols

        return [chemical_symbols[number] for number in np.unique(self.numbers)]

    def of_element(self, symbol: str) -> NDArray[np.bool_]:
        """``(n,)`` mask of an element's atoms."""
        from ase.data import atomic_numbers

        return self.numbers == atomic_numbers[symbol]

    def interval(self, given: float | None = None) -> float:
        """Time from frame to frame, fs.

        Args:
            given: What somebody says it is; over what the file says.

        Raises:
            InputError: Nobody says, or frames are not evenly spaced.
        """
        if self.n_frames < 2:
            raise StructureError(f"{self.label} has one frame: a time needs two or more.")
        if given is not None:
            return given
        if self.times is None:
            raise InputError(
                f"{self.label} does not say how far apart its frames are (time_fs): give --interval in fs."
            )
        steps = np.diff(self.times)
        if not steps[0] > 0 or np.abs(steps - steps[0]).max() > _UNEVEN * steps[0]:
            frame = int(np.abs(steps - steps[0]).argmax()) + 1
            raise InputError(
                f"{self.label}: frame {frame} does not follow the one before by the interval of the others "
                "(time_fs): give a trajectory with evenly spaced frames."
            )
        return float(self.times[-1] - self.times[0]) / (self.n_frames - 1)

    def temperature(self) -> float | None:
        """Mean kinetic temperature, K, the centre of mass taken to be at rest; None without velocities."""
        if self.velocities is None:
            return None
        from ase import units

        moving = self.velocities - self.drift_velocity()[:, None]
        kinetic = 0.5 * (self.masses[:, None] * moving**2).sum() / self.n_frames / units.fs**2
        n_dof = max(3 * (len(self.numbers) - 1), 1)
        return float(2 * kinetic / (n_dof * units.kB))

    def drift_velocity(self) -> Array:
        """``(n_frames, 3)`` Å/fs of the centre of mass."""
        assert self.velocities is not None
        return np.einsum("i,fix->fx", self.masses, self.velocities) / self.masses.sum()

    def record(self) -> dict[str, Any]:
        """What ``summary.json`` says of this input."""
        return input_record(self.path, n_frames=self.n_frames)


def column_rows(columns: Mapping[str, Array]) -> list[dict[str, float]]:
    """Columns of equal length as the rows of a table."""
    table = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(float, values), strict=True)) for values in table]


def trajectory_file(source: str | Path) -> str | Path:
    """The file of a trajectory: itself, or the one in a run folder.

    Raises:
        FileFormatError: A folder without one.
    """
    path, index = split_index(source)
    if not path.is_dir():
        return source
    if not (path / _FILE).is_file():
        raise FileFormatError(f"{path} holds no {_FILE}: name a run folder of md, or a file.")
    return path / _FILE if index == ":" else f"{path / _FILE}@{index}"


def is_trajectory(source: Any) -> bool:
    """Whether it is a run folder, a file with several frames, or a list of structures."""
    if isinstance(source, Trajectory):
        return True
    if not isinstance(source, str | Path):
        return isinstance(source, Sequence)
    if split_index(source)[0].is_dir():
        return True
    frames = structures_of(source)
    next(frames, None)
    return next(frames, None) is not None


def read_trajectory(source: Any, *, skip: int = 0, stride: int = 1) -> Trajectory:
    """A trajectory from a file, a run folder of ``md``, or a list of ``ase.Atoms``.

    Positions are followed across periodic boundaries: from frame to frame an atom goes the shortest way.

    Args:
        source: The trajectory; ``FILE@START:STOP:STEP`` takes a part.
        skip: Frames left out at the beginning.
        stride: Take every so many.

    Raises:
        FileFormatError: It cannot be read.
        StructureError: No frames are left, or a frame has other atoms than the first; names it.
    """
    if isinstance(source, Trajectory):
        return source
    frames, label, path = _frames(source)
    kept = [frame for number, frame in enumerate(frames) if number >= skip and (number - skip) % stride == 0]
    if not kept:
        raise StructureError(f"{label} has no frames beyond the {skip} that are skipped: skip fewer.")
    _check_same_atoms(kept, label)
    first = kept[0].atoms
    cells = np.array([frame.atoms.cell.array for frame in kept])
    positions = np.array([frame.atoms.positions for frame in kept])
    return Trajectory(
        label=label,
        numbers=np.array(first.numbers, dtype=np.int64),
        masses=np.array(first.get_masses(), dtype=np.float64),
        pbc=np.array(first.pbc, dtype=np.bool_),
        positions=_followed(positions, cells, first.pbc),
        cells=cells,
        velocities=_velocities(kept),
        times=_times(kept),
        magmoms=_magmoms(kept),
        path=path,
        first=first,
    )


def _frames(source: Any) -> tuple[Iterable[Frame], str, Path | None]:
    """Frames one by one, what to call them, and the file."""
    from atomml.data.structures import Frame, read_structures

    if isinstance(source, str | Path):
        path, index = split_index(trajectory_file(source))
        return read_structures(path, index=index, validate=False), str(source), path
    if not isinstance(source, Iterable):
        raise InputError(
            f"{type(source).__name__} is no trajectory: give a file, a run folder, or a list of structures."
        )
    frames = (Frame(Path(), number, atoms) for number, atoms in enumerate(source))
    return frames, "the trajectory", None


def _check_same_atoms(frames: Sequence[Frame], label: str) -> None:
    first = frames[0].atoms
    for frame in frames:
        if not np.array_equal(frame.atoms.numbers, first.numbers):
            raise StructureError(
                f"{label}: frame {frame.index} has other atoms than frame {frames[0].index}: give a "
                "trajectory of the same atoms in the same order."
            )
        if not np.isfinite(frame.atoms.positions).all():
            raise StructureError(f"{label}: frame {frame.index} has a position that is not finite.")


def _followed(positions: Array, cells: Array, pbc: NDArray[np.bool_]) -> Array:
    """The positions without the jumps of atoms that were put back into the cell."""
    if not pbc.any():
        return positions
    full = cells + np.where(np.abs(cells).sum(axis=2, keepdims=True) > 0, 0.0, np.eye(3))
    fractional = np.linalg.solve(np.swapaxes(full, 1, 2), np.swapaxes(positions, 1, 2))
    fractional = np.swapaxes(fractional, 1, 2)
    jumps = np.where(pbc, np.rint(np.diff(fractional, axis=0)), 0.0)
    if not jumps.any():
        return positions
    shifts = np.concatenate([np.zeros((1, *jumps.shape[1:])), np.cumsum(jumps, axis=0)])
    return positions - shifts @ full


def _velocities(frames: Sequence[Frame]) -> Array | None:
    from ase import units

    if not all(frame.atoms.has("momenta") for frame in frames):
        return None
    return np.array([frame.atoms.get_velocities() for frame in frames]) * units.fs


def _times(frames: Sequence[Frame]) -> Array | None:
    for key, scale in (("time_fs", 1.0), ("time_ps", 1000.0)):
        if all(isinstance(frame.atoms.info.get(key), int | float) for frame in frames):
            return np.array([float(frame.atoms.info[key]) * scale for frame in frames])
    return None


def _magmoms(frames: Sequence[Frame]) -> Array | None:
    moments = [getattr(frame.atoms.calc, "results", {}).get("magmoms") for frame in frames]
    if any(moment is None or len(moment) != len(frames[0].atoms) for moment in moments):
        return None
    return np.array(moments, dtype=np.float64)

"""A few frames of a long extended-XYZ file, without reading the rest of it into memory."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import FileFormatError
from atomml.report.decimation import evenly_spaced

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Sample", "sample_extxyz"]

MAX_VALUES = 6


@dataclass(frozen=True)
class Sample:
    """Evenly spaced frames of a trajectory.

    Attributes:
        frames: The structures read; those with a position that is not finite are left out.
        indices: Their numbers in the file, from 0.
        total: How many whole frames the file has.
    """

    frames: list[Atoms]
    indices: list[int]
    total: int

    def values(self) -> dict[str, list[float]]:
        """Numbers that every frame carries (``info``, the energy), by name, at most six."""
        numbers = [_numbers(atoms) for atoms in self.frames]
        names = [name for name in numbers[0] if all(name in one for one in numbers)] if numbers else []
        return {name: [one[name] for one in numbers] for name in names[:MAX_VALUES]}


def sample_extxyz(path: Path, limit: int) -> Sample:
    """At most ``limit`` frames of ``path``, evenly spaced, the first and the last among them.

    A torn last frame (the run was killed while it wrote) is passed over.

    Raises:
        FileFormatError: A frame does not begin with its number of atoms, or ASE cannot read it.
    """
    from ase.io import read

    starts = _frame_starts(path)
    chosen = evenly_spaced(len(starts) - 1, limit)
    frames, indices = [], []
    with path.open("rb") as stream:
        for number in chosen:
            stream.seek(starts[number])
            text = stream.read(starts[number + 1] - starts[number]).decode("utf-8", "replace")
            try:
                atoms = read(io.StringIO(text), format="extxyz", index=0)
            except Exception as error:  # ASE's reader raises whatever the malformed text leads it to
                raise FileFormatError(f"{path}, frame {number}: not extended XYZ ({error}).") from error
            if np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all():
                frames.append(atoms)
                indices.append(number)
    return Sample(frames, indices, len(starts) - 1)


def _frame_starts(path: Path) -> list[int]:
    """Byte offsets of the whole frames, and of what follows the last of them."""
    starts, position = [0], 0
    with path.open("rb") as stream:
        for count in iter(stream.readline, b""):
            if not count.strip():
                break
            if not count.strip().isdigit():
                raise FileFormatError(
                    f"{path}, frame {len(starts) - 1}: no number of atoms at its beginning."
                )
            position += len(count)
            line = count
            for _ in range(int(count) + 1):
                line = stream.readline()
                if not line:
                    return starts
                position += len(line)
            if not line.endswith(b"\n"):  # torn, or complete but for the end of its line: not to be trusted
                return starts
            starts.append(position)
    return starts


def _numbers(atoms: Atoms) -> dict[str, float]:
    found: dict[str, Any] = dict(atoms.info)
    results = getattr(atoms.calc, "results", {}) or {}
    if "energy" in results:
        found["energy_eV"] = results["energy"]
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    }

"""Files that grow as the run goes, and can be cut back to where a restart file left them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from ase.data import chemical_symbols

from atomml.errors import CheckpointError
from atomml.md.state import Array, System

__all__ = ["GrowingFile", "frame_text", "log_line"]


class GrowingFile:
    """Appends whole records to a file of known length.

    What a killed run wrote after its last restart file, whole records or torn ones, is cut
    off when the file is opened again.

    Args:
        path: The file; made if it does not exist.
        size: Bytes to keep.

    Raises:
        CheckpointError: The file is shorter than ``size``: somebody changed it.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self._stream = path.open("ab", buffering=0)
        try:
            self.truncate(size)
        except BaseException:
            self._stream.close()
            raise

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def truncate(self, size: int) -> None:
        """Cut the file back to ``size`` bytes."""
        present = os.fstat(self._stream.fileno()).st_size
        if present < size:
            raise CheckpointError(
                f"{self.path} has {present} bytes where the restart file expects {size}: "
                "it was changed or lost; start again with --overwrite."
            )
        self._stream.truncate(size)
        self._size = size

    def append(self, text: str) -> None:
        """Write one record at the end."""
        data = memoryview(text.encode())
        self._size += len(data)
        while data:
            data = data[self._stream.write(data) :]

    def sync(self) -> None:
        """Make what was written outlive a power cut."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_text(system: System, info: Mapping[str, float], magmoms: Array | None = None) -> str:
    """One extended-XYZ frame: species, unwrapped positions, momenta, forces, and magnetic moments if given.

    Args:
        system: The frame; the cell is left out where no direction is periodic.
        info: Numbers for the comment line, by key.
        magmoms: ``(n,)`` μB.
    """
    columns = [system.positions, system.momenta, system.force_array]
    properties = "species:S:1:pos:R:3:momenta:R:3:forces:R:3"
    if magmoms is not None:
        columns.append(magmoms[:, None])
        properties += ":magmoms:R:1"
    comment = [f"Properties={properties}", *(f"{key}={_number(value)}" for key, value in info.items())]
    if system.pbc.any():
        lattice = " ".join(f"{value:.10f}" for value in system.cell.ravel().tolist())
        comment.insert(0, f'Lattice="{lattice}"')
    if system.stress is not None:
        comment.append(
            'stress="' + " ".join(f"{value:.10g}" for value in system.stress.ravel().tolist()) + '"'
        )
    comment.append('pbc="' + " ".join("T" if periodic else "F" for periodic in system.pbc) + '"')
    row = "{:<2s}" + " {:.8f}" * sum(column.shape[1] for column in columns)
    symbols = (chemical_symbols[number] for number in system.numbers.tolist())
    table = np.concatenate(columns, axis=1).tolist()
    lines = [row.format(symbol, *values) for symbol, values in zip(symbols, table, strict=True)]
    return "\n".join([str(system.n_atoms), " ".join(comment), *lines, ""])


def log_line(columns: Sequence[str], row: Mapping[str, float]) -> str:
    """One line of CSV; a number keeps all its digits, NaN is an empty field."""
    return ",".join(_number(row[name]) for name in columns) + "\n"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else repr(float(value))

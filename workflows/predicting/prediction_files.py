"""The files of ``predict``: appended batch by batch, cut back to the last whole batch on resume."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import FileFormatError
from atomml.files import write_atomic_with
from atomml.run import RunFolder, read_events
from atomml.units import GPA

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "AppendedFiles", "PredictionFiles", "read_rows", "row_of"]

COLUMNS = (
    "input",
    "frame",
    "formula",
    "n_atoms",
    "energy_eV",
    "energy_per_atom_eV",
    "max_force_eV_per_A",
    "pressure_GPa",
    "magmom_muB",
    "energy_std_eV",
    "max_force_std_eV_per_A",
    "error",
)
_CSV, _XYZ = "results.csv", "predictions.extxyz"
_PARTS = {"atom_features": ".atom-features.part", "structure_features": ".structure-features.part"}
_COUNTS = ".feature-counts.part"


class AppendedFiles:
    """Files of a run folder that grow batch by batch, and say in the events how far they are whole.

    Attributes:
        done: Structures whose batches were committed.
        events: What each committed batch said, in order.
    """

    def __init__(self, run: RunFolder, names: Sequence[str]) -> None:
        """Open the files; what a killed run wrote after its last commit is cut off."""
        self.run = run
        self.paths = {name: run.file(name) for name in names}
        self.events = [event for event in read_events(run.path) if event["event"] == "batch"]
        self.done = self._cut_back()
        self._descriptors = {
            name: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            for name, path in self.paths.items()
        }

    def append(self, name: str, data: bytes) -> None:
        """Add bytes to the end of a file."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptors[name], view) :]

    def commit(self, of: int | None, **facts: Any) -> None:
        """Say in the events how far the files go; a resumed run starts there."""
        self.run.event("batch", step=self.done, of=of, sizes=self.sizes(), **facts)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: path.stat().st_size for name, path in self.paths.items()}

    def close(self) -> None:
        """Close the files; they are whole up to the last batch."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}

    def _cut_back(self) -> int:
        """Cut the files to the last committed batch and return how many structures they hold."""
        sizes = self.events[-1]["sizes"] if self.events else {}
        for name, path in self.paths.items():
            size = sizes.get(name, 0)
            if path.exists():
                if path.stat().st_size < size:
                    raise FileFormatError(
                        f"{path} is shorter than the run left it: start anew with --overwrite."
                    )
                os.truncate(path, size)
            elif size:
                raise FileFormatError(f"{path} is missing: start the run anew with --overwrite.")
        return int(self.events[-1]["step"]) if self.events else 0


class PredictionFiles(AppendedFiles):
    """``results.csv``, ``predictions.extxyz`` and, if asked for, ``features.npz`` of a run folder."""

    def __init__(self, run: RunFolder, features: bool) -> None:
        super().__init__(run, [_CSV, _XYZ, *([*_PARTS.values(), _COUNTS] if features else [])])
        if self.sizes()[_CSV] == 0:
            self.append(_CSV, _csv_line(COLUMNS))

    def write(
        self, rows: Sequence[Mapping[str, Any]], frames: str, features: Sequence[Mapping[str, Any]]
    ) -> None:
        """Append one batch: its rows, its frames as text, and features of each structure."""
        self.append(_XYZ, frames.encode())
        self.append(_CSV, b"".join(_csv_line([row.get(name) for name in COLUMNS]) for row in rows))
        for entry in features:
            for name, part in _PARTS.items():
                self.append(part, _float32(entry[name]).tobytes())
            self.append(_COUNTS, len(entry["atom_features"]).to_bytes(8, "little"))
        self.done += len(rows)

    def write_features(self, n_atom_channels: int, n_structure_channels: int) -> None:
        """``features.npz`` from its parts: a row per atom, a row per structure, and where each begins."""
        import numpy as np

        counts = np.fromfile(self.paths[_COUNTS], dtype="<u8").astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shapes = {
            "atom_features": (int(offsets[-1]), n_atom_channels),
            "structure_features": (len(counts), n_structure_channels),
        }

        def write(stream: Any) -> None:
            """The parts as members of one npz archive."""
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name, shape in shapes.items():
                    _store(archive, name, self.paths[_PARTS[name]], shape)
                with archive.open(_entry("offsets"), "w") as target:
                    np.lib.format.write_array(target, offsets)

        write_atomic_with(self.run.file("features.npz"), write)

    def discard_parts(self) -> None:
        """Delete what ``features.npz`` was made of; the last thing that a run does."""
        for name in (*_PARTS.values(), _COUNTS):
            self.run.file(name).unlink(missing_ok=True)


def row_of(source: str, frame: int, atoms: Atoms, results: Mapping[str, Any]) -> dict[str, Any]:
    """One row of ``results.csv``; what the model or the structure does not have is None."""
    import numpy as np

    energy = float(results["energy"])
    stress, magmoms, spread = (results.get(name) for name in ("stress", "magmoms", "forces_std"))
    return {
        "input": source,
        "frame": frame,
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "energy_eV": energy,
        "energy_per_atom_eV": energy / len(atoms),
        "max_force_eV_per_A": float(np.linalg.norm(results["forces"], axis=1).max()),
        "pressure_GPa": None if stress is None else float(-np.mean(np.asarray(stress)[:3]) * GPA),
        "magmom_muB": None if magmoms is None else float(np.sum(magmoms)),
        "energy_std_eV": results.get("energy_std"),
        "max_force_std_eV_per_A": None if spread is None else float(np.max(spread)),
        "error": None,
    }


def read_rows(folder: Path, most: int) -> list[dict[str, Any]]:
    """The first rows of a folder's ``results.csv``, numbers as numbers, empty cells as None."""
    with (folder / _CSV).open(encoding="utf-8", newline="") as stream:
        rows = list(islice(csv.DictReader(stream), most))
    words, whole = ("input", "formula", "error"), ("frame", "n_atoms")
    kinds = {name: str if name in words else int if name in whole else float for name in COLUMNS}
    return [{name: kinds[name](cell) if cell else None for name, cell in row.items()} for row in rows]


def _csv_line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        ["" if value is None else repr(value) if isinstance(value, float) else value for value in values]
    )
    return text.getvalue().encode()


def _float32(values: Any) -> NDArray[np.float32]:
    import numpy as np

    return np.ascontiguousarray(values, dtype="<f4")


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without the time of day: the same features give the same bytes."""
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))


def _store(archive: zipfile.ZipFile, name: str, part: Path, shape: tuple[int, int]) -> None:
    """Copy a raw part into the archive behind the header of a numpy file."""
    import shutil

    import numpy as np

    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with archive.open(_entry(name), "w", force_zip64=True) as target, part.open("rb") as source:
        np.lib.format.write_array_header_2_0(target, header)
        shutil.copyfileobj(source, target)

"""DeePMD-kit's npy trees: ``type.raw``, ``type_map.raw``, ``set.*/coord.npy`` ..., read without pickle.

Lengths in Å, energies in eV, forces in eV/Å, virials in eV with DeePMD's sign (minus the stress
times the volume). Systems of mixed type (``real_atom_types.npy``) are read too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

from atomml.data.structures import Frame
from atomml.errors import FileFormatError

__all__ = ["deepmd_files", "is_deepmd_tree", "read_deepmd_tree"]

_WIDTHS = {"box": 9, "energy": 1, "virial": 9}


def is_deepmd_tree(path: Path) -> bool:
    """Whether a folder is a system of DeePMD-kit in npy layout."""
    return (path / "type.raw").is_file() and any(path.glob("set.*/coord.npy"))


def deepmd_files(path: Path) -> list[Path]:
    """The files that a system is made of, in a fixed order."""
    single = [path / name for name in ("nopbc", "type.raw", "type_map.raw")]
    return [file for file in single if file.is_file()] + sorted(path.glob("set.*/*.npy"))


def read_deepmd_tree(path: Path) -> Iterator[Frame]:
    """Yield the frames of a system, sets in the order of their names.

    Raises:
        FileFormatError: A missing file, arrays that do not fit each other, a type without element.
    """
    types = _types(path)
    elements = _elements(path)
    index = 0
    for folder in sorted(path.glob("set.*")):
        coordinates = _array(folder, "coord", 3 * len(types))
        if coordinates is None:
            raise FileFormatError(f"{folder} holds no coord.npy: add it.")
        n_frames = len(coordinates)
        arrays = {name: _array(folder, name, width, n_frames) for name, width in _WIDTHS.items()}
        arrays["force"] = _array(folder, "force", 3 * len(types), n_frames)
        mixed = _array(folder, "real_atom_types", len(types), n_frames)
        for row in range(n_frames):
            kinds = types if mixed is None else mixed[row].astype(int)
            frame = {name: None if array is None else array[row] for name, array in arrays.items()}
            yield Frame(path, index, _atoms(path, kinds, elements, coordinates[row], frame))
            index += 1


def _atoms(
    path: Path,
    kinds: NDArray[Any],
    elements: list[int],
    coordinates: NDArray[Any],
    frame: dict[str, NDArray[Any] | None],
) -> Atoms:
    if kinds.min() < 0 or kinds.max() >= len(elements):
        raise FileFormatError(f"{path}: type {kinds.max()} is not in type_map.raw: add its element.")
    numbers = np.array(elements)[kinds]
    periodic = frame["box"] is not None and not (path / "nopbc").is_file()
    cell = frame["box"].reshape(3, 3) if periodic and frame["box"] is not None else None
    atoms = Atoms(numbers, coordinates.reshape(-1, 3).astype(np.float64), cell=cell, pbc=periodic)
    results: dict[str, Any] = {}
    if frame["energy"] is not None:
        results["energy"] = float(frame["energy"][0])
    if frame["force"] is not None:
        results["forces"] = frame["force"].reshape(-1, 3).astype(np.float64)
    if frame["virial"] is not None and periodic:
        atoms.info["virial"] = frame["virial"].reshape(3, 3).astype(np.float64)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _types(path: Path) -> NDArray[np.int64]:
    try:
        types = np.array([int(word) for word in (path / "type.raw").read_text("utf-8").split()])
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path / 'type.raw'} is no list of types: mend it.") from error
    if not len(types):
        raise FileFormatError(f"{path / 'type.raw'} names no atoms: mend it.")
    return types


def _elements(path: Path) -> list[int]:
    file = path / "type_map.raw"
    if not file.is_file():
        raise FileFormatError(
            f"{path} has no type_map.raw, so its elements are unknown: add one, a symbol a line."
        )
    symbols = file.read_text("utf-8").split()
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
    if unknown:
        raise FileFormatError(f"{file} names {unknown[0]!r}, which is no element: mend it.")
    return [atomic_numbers[symbol] for symbol in symbols]


def _array(folder: Path, name: str, width: int, n_frames: int | None = None) -> NDArray[Any] | None:
    """``(n_frames, width)`` of a file, memory-mapped; None if there is no such file."""
    file = folder / f"{name}.npy"
    if not file.is_file():
        return None
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FileFormatError(f"{file} is no plain array of NumPy's: take another copy.") from error
    if array.dtype.kind not in "fi" or array.ndim < 1 or array.size != len(array) * width:
        raise FileFormatError(
            f"{file} has the shape {array.shape} where {width} numbers a frame are meant: mend it."
        )
    if n_frames is not None and len(array) != n_frames:
        raise FileFormatError(f"{file} has {len(array)} frames where coord.npy has {n_frames}: mend the set.")
    return array.reshape(len(array), width)

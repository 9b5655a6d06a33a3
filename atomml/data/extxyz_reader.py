"""Strict reading of XYZ and extended XYZ, one frame at a time, in memory bounded by one frame.

What makes a file wrong is said with its line: counts that do not fit, columns too few or too
many, names given twice, words where numbers belong, text that is not UTF-8. ASE reads much of
this in silence and returns something else than was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers

from atomml.data.key_values import INTEGER, REAL, parse_pairs
from atomml.errors import AtomMLError, FileFormatError

__all__ = ["read_extxyz"]

_LONGEST_LINE = 1 << 26  # bytes; a longer line is no line of text
_ARRAY_NAMES = {"pos": "positions", "Z": "numbers", "species": "symbols", "charge": "charges"}
_TRUTH = {"T": True, "F": False, "True": True, "False": False}
_ATOM_RESULTS = {
    "forces": 3,
    "energies": 1,
    "magmoms": None,
    "charges": 1,
    "stresses": None,
    "born_effective_charges": 9,
}
_TOTAL_RESULTS = {
    "energy": 1,
    "free_energy": 1,
    "stress": 9,
    "magmom": None,
    "dipole": 3,
    "polarization": 3,
    "dielectric_tensor": 9,
}
_NEVER_NAN = ("forces", "energies", "momenta", "masses", "stresses", "initial_charges", "initial_magmoms")


@dataclass(frozen=True)
class _Column:
    """One entry of ``Properties``: its name in the file and in ASE, its type, its width."""

    name: str
    array: str
    kind: str
    width: int


def read_extxyz(stream: IO[bytes], name: str) -> Iterator[Atoms]:
    """Yield each frame of an XYZ or extended XYZ file.

    Args:
        stream: The file's bytes; read forwards only.
        name: What to call the file in errors.

    Raises:
        FileFormatError: Names the file, the frame and the line.
    """
    line = 0
    for index in range(1 << 62):
        where = f"{name}, frame {index}"
        head = _next_line(stream, where, line + 1)
        if not head.strip():
            _refuse_rest(stream, where, line + 1, first=index == 0)
            return
        n_atoms = _count(head, where, line + 1)
        comment = _next_line(stream, where, line + 2)
        if not comment:
            raise FileFormatError(f"{where}: the file ends after the number of atoms: add the missing lines.")
        raw = list(islice(iter(lambda: stream.readline(_LONGEST_LINE), b""), n_atoms))
        if len(raw) < n_atoms:
            raise FileFormatError(
                f"{where}: {n_atoms} atoms are announced on line {line + 1} and {len(raw)} follow: "
                "the file is cut short or the count is wrong."
            )
        try:
            yield _frame(comment, raw, line + 3)
        except AtomMLError as error:
            raise type(error)(f"{where}: {_sentence(error)}") from error
        line += 2 + n_atoms


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith(".") else f"{text}: mend the file."


def _next_line(stream: IO[bytes], where: str, number: int) -> str:
    return _decode(stream.readline(_LONGEST_LINE), where, number)


def _decode(data: bytes, where: str, number: int) -> str:
    where = f"{where}: " if where else ""
    if b"\0" in data:
        raise FileFormatError(f"{where}line {number} holds binary data: give a text file.")
    if number == 1:
        data = data.removeprefix(b"\xef\xbb\xbf")  # a byte order mark says only that this is UTF-8
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{where}line {number} is not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8."
        ) from error


def _count(head: str, where: str, number: int) -> int:
    text = head.strip()
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise FileFormatError(
            f"{where}: line {number} should be the number of atoms but is {_short(text)}: "
            "mend the count before it or remove what does not belong."
        )
    if int(text) == 0:
        raise FileFormatError(
            f"{where}: line {number} announces no atoms: give at least one or drop the frame."
        )
    return int(text)


def _refuse_rest(stream: IO[bytes], where: str, number: int, first: bool) -> None:
    """After the last frame only blank lines may follow; before the first, nothing may be missing."""
    while data := stream.readline(_LONGEST_LINE):
        if data.strip():
            raise FileFormatError(
                f"{where}: line {number} is blank where a number of atoms should be, and more follows: "
                "remove the blank line or what comes after it."
            )
    if first:
        raise FileFormatError(f"{where}: the file holds no atoms: give a file with at least one frame.")


def _short(text: str) -> str:
    return ascii(text[:40] + ("..." if len(text) > 40 else ""))


def _frame(comment: str, raw: list[bytes], first_line: int) -> Atoms:
    """One frame from its comment and the bytes of its atom lines."""
    text = b"".join(raw)
    if b"\0" in text or not text.isascii():
        lines = [_decode(line, "", first_line + i) for i, line in enumerate(raw)]
    else:
        lines = text.decode().split("\n")[: len(raw)]
    info = _parse_comment(comment)
    columns = _columns(info.pop("Properties", "species:S:1:pos:R:3"))
    exact = b"_" not in text and text.isascii()  # Python reads 1_0 and digits of any script as numbers
    arrays = _arrays(columns, [line.split() for line in lines], exact, first_line)
    return _atoms(info, arrays)


def _parse_comment(comment: str) -> dict[str, Any]:
    """Pairs of an extended comment; a plain one, with no pairs in it, is kept as text."""
    comment = comment.strip()
    if not re.search(r"\b(Lattice|Properties)\s*=", comment, re.IGNORECASE) and not _only_pairs(comment):
        return {"comment": comment} if comment else {}
    info = parse_pairs(comment)
    for key in info:
        for proper in ("Lattice", "Properties", "pbc"):
            if key.lower() == proper.lower() and key != proper:
                raise FileFormatError(
                    f"the comment line says {key}, which would be passed over: write {proper}."
                )
    if not isinstance(info.get("Properties", ""), str):
        raise FileFormatError("Properties is not of the form name:type:columns:...")
    return info


def _only_pairs(comment: str) -> bool:
    return bool(comment) and all("=" in word for word in re.sub(r'"[^"]*"|\'[^\']*\'', "", comment).split())


def _columns(properties: str) -> list[_Column]:
    parts = properties.split(":")
    if len(parts) % 3:
        raise FileFormatError(f"Properties {_short(properties)} is not made of name:type:columns triples")
    columns = []
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind not in ("R", "I", "S", "L") or not re.fullmatch(r"[1-9][0-9]{0,4}", width) or not name:
            raise FileFormatError(
                f"Properties says {_short(f'{name}:{kind}:{width}')}, which is no name, type (R, I, S or L) "
                "and number of columns"
            )
        columns.append(_Column(name, _ARRAY_NAMES.get(name, name), kind, int(width)))
    _check_columns(columns)
    return columns


def _check_columns(columns: list[_Column]) -> None:
    wanted = {"symbols": ("S", 1), "numbers": ("I", 1), "positions": ("R", 3)}
    wanted |= {name: ("R", width) for name, width in _ATOM_RESULTS.items() if width}
    seen: set[str] = set()
    for column in columns:
        if column.array in seen:
            raise FileFormatError(f"Properties gives the column {column.name} twice")
        seen.add(column.array)
        kind, width = wanted.get(column.array, (column.kind, column.width))
        if (column.kind, column.width) != (kind, width) and not (kind == "R" and column.kind == "I"):
            given = f"{column.name}:{column.kind}:{column.width}"
            raise FileFormatError(f"Properties says {given} where {column.name}:{kind}:{width} is meant")
    if "positions" not in seen or not seen & {"symbols", "numbers"}:
        raise FileFormatError("Properties names no positions (pos:R:3) or no elements (species:S:1 or Z:I:1)")


def _arrays(
    columns: list[_Column], rows: list[list[str]], exact: bool, first_line: int
) -> dict[str, np.ndarray[Any, Any]]:
    """The named arrays; each row has been split into words."""
    expected = sum(column.width for column in columns)
    for i, row in enumerate(rows):
        if len(row) != expected:
            raise FileFormatError(
                f"line {first_line + i} (atom {i}) has {len(row)} columns where Properties names {expected}"
                if row
                else f"line {first_line + i} is blank where atom {i} should be"
            )
    words = list(zip(*rows, strict=True))
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    start = 0
    for column in columns:
        parts = [_convert(words[start + i], column, exact, first_line) for i in range(column.width)]
        start += column.width
        array = parts[0] if column.width == 1 else np.stack(parts, axis=1)
        if column.array in _NEVER_NAN and array.dtype.kind == "f" and not np.isfinite(array).all():
            atom = int(np.argwhere(~np.isfinite(array))[0][0])
            raise FileFormatError(f"{column.name} of atom {atom} on line {first_line + atom} is not finite")
        arrays[column.array] = array
    return arrays


def _convert(words: Sequence[str], column: _Column, exact: bool, first_line: int) -> np.ndarray[Any, Any]:
    if column.kind == "S":
        return np.array(words)
    try:
        if column.kind == "L":
            return np.array([_TRUTH[word] for word in words])
        if not exact:
            _insist(words, REAL if column.kind == "R" else INTEGER)
        if column.kind == "R":
            return np.array(list(map(float, words)))
        return np.array(list(map(int, words)), dtype=np.int64)
    except (ValueError, KeyError, OverflowError):
        atom = next(i for i, word in enumerate(words) if not _fits(word, column.kind))
    wanted = {"R": "a number", "I": "a 64-bit integer", "L": "T or F"}[column.kind]
    raise FileFormatError(
        f"{column.name} of atom {atom} on line {first_line + atom} is {_short(words[atom])}, not {wanted}"
    )


def _insist(words: Sequence[str], pattern: re.Pattern[str]) -> None:
    if not all(pattern.fullmatch(word) for word in words):
        raise ValueError


def _fits(word: str, kind: str) -> bool:
    if kind == "L":
        return word in _TRUTH
    if kind == "R":
        return REAL.fullmatch(word) is not None
    return INTEGER.fullmatch(word) is not None and abs(int(word)) <= np.iinfo(np.int64).max


def _atoms(info: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Atoms:
    numbers = _numbers(arrays.pop("symbols", None), arrays.pop("numbers", None))
    lattice = info.pop("Lattice", None)
    cell = None if lattice is None else lattice.T
    pbc = _pbc(info.pop("pbc", cell is not None))
    atoms = Atoms(numbers, positions=arrays.pop("positions"), cell=cell, pbc=pbc)
    _constrain(atoms, arrays.pop("move_mask", None))
    results = _results(info, arrays, len(atoms))
    for name, array in arrays.items():
        atoms.set_array(name, array)
    atoms.info = info
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _numbers(
    symbols: np.ndarray[Any, Any] | None, numbers: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    if symbols is None:
        if numbers is None or ((numbers < 0) | (numbers > 118)).any():
            bad = 0 if numbers is None else int(np.argmax((numbers < 0) | (numbers > 118)))
            raise FileFormatError(f"Z of atom {bad} is no atomic number")
        return numbers
    table = {symbol: atomic_numbers.get(str(symbol).capitalize(), -1) for symbol in set(symbols.tolist())}
    found = np.array([table[symbol] for symbol in symbols.tolist()])
    if (found < 0).any():
        atom = int(np.argmax(found < 0))
        raise FileFormatError(f"species of atom {atom} is {_short(str(symbols[atom]))}, which is no element")
    if numbers is not None and (numbers != found).any():
        atom = int(np.argmax(numbers != found))
        raise FileFormatError(f"species and Z of atom {atom} disagree ({symbols[atom]} and {numbers[atom]})")
    return found


def _pbc(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "i" and np.isin(array, (0, 1)).all():
        array = array.astype(bool)
    if array.dtype.kind != "b" or array.shape not in ((), (3,)):
        raise FileFormatError(f"pbc is {_short(str(value))} where three of T and F are meant")
    return array


def _constrain(atoms: Atoms, move_mask: np.ndarray[Any, Any] | None) -> None:
    """``move_mask``: T where an atom, or an atom's coordinate, may move."""
    if move_mask is None:
        return
    from ase.constraints import FixAtoms, FixCartesian  # slow to import

    if move_mask.dtype.kind not in "bi" or (move_mask.ndim == 2 and move_mask.shape[1] != 3):
        raise FileFormatError("move_mask is not one or three columns of T and F")
    fixed = ~move_mask.astype(bool)
    if fixed.ndim == 1:
        atoms.set_constraint(FixAtoms(mask=fixed))
        return
    patterns = sorted({tuple(row) for row in fixed.tolist() if any(row)})
    rows = [(np.flatnonzero((fixed == pattern).all(axis=1)), pattern) for pattern in patterns]
    atoms.set_constraint([FixCartesian(indices, mask=pattern) for indices, pattern in rows])


def _results(info: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]], n_atoms: int) -> dict[str, Any]:
    """Take out of info and arrays what a calculator would give, as ASE does."""
    results: dict[str, Any] = {}
    for name in [name for name in _ATOM_RESULTS if name in arrays]:
        array = arrays.pop(name)
        if array.dtype.kind not in "fi":
            raise FileFormatError(f"{name} is not a column of numbers")
        results[name] = array.reshape(n_atoms, 3, 3) if name == "born_effective_charges" else array
    for name, size in _TOTAL_RESULTS.items():
        if name not in info:
            continue
        value = info.pop(name)
        array = np.asarray(value)
        if array.dtype.kind not in "fi" or (size and array.size != size) or not np.isfinite(array).all():
            raise FileFormatError(
                f"{name} in the comment line is {_short(str(value))}, not {size or 1} finite numbers"
            )
        results[name] = _voigt(array) if name == "stress" else value
    if "virial" in info and not np.isfinite(info["virial"]).all():
        raise FileFormatError("virial in the comment line is not finite")
    return results


def _voigt(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """xx, yy, zz, yz, xz, xy; a matrix that is not symmetric is no stress."""
    if np.abs(matrix - matrix.T).max() > 0.01 * np.abs(matrix).max():
        raise FileFormatError("stress in the comment line is not a symmetric matrix")
    return matrix[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]

"""VASP's POSCAR and CONTCAR, read strictly.

Written here because ASE guesses the elements of an old-style file from its title, or from other
files in the same folder, allocates whatever number of atoms is announced, and does not look at
what follows the last atom.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from atomml.errors import FileFormatError

__all__ = ["parse_poscar"]


def parse_poscar(text: str) -> Atoms:
    """The structure of a POSCAR; periodic in three directions.

    Selective dynamics become constraints. Velocities after a blank line are passed over.

    Raises:
        FileFormatError: Names the line, counted from 1; the caller adds the file.
    """
    lines = text.rstrip().split("\n")
    scale = _reals(lines, 1, (1, 3), "the scale")
    cell = np.array([_reals(lines, i, (3,), "a cell vector") for i in (2, 3, 4)])
    symbols, counts = _species(lines)
    line = 7
    selective = _word(lines, line)[:1] in "sS" and _word(lines, line) != ""
    line += selective
    cartesian = _mode(lines, line)
    line += 1
    n_atoms = sum(counts)
    if n_atoms > len(lines) - line:
        raise FileFormatError(
            f"line 7 announces {n_atoms} atoms and {max(len(lines) - line, 0)} lines follow: "
            "the file is cut short or the counts are wrong."
        )
    rows = [_atom(lines, line + i, i, selective) for i in range(n_atoms)]
    _refuse_more_atoms(lines, line + n_atoms, n_atoms)
    factor = _factor(scale, cell)
    positions = np.array([row[0] for row in rows])
    positions = positions * factor if cartesian else positions @ (cell * factor)
    numbers = np.repeat([atomic_numbers[symbol] for symbol in symbols], counts)
    atoms = Atoms(numbers, positions=positions, cell=cell * factor, pbc=True)
    if selective:
        _constrain(atoms, [row[1] for row in rows])
    return atoms


def _words(lines: list[str], line: int) -> list[str]:
    if line >= len(lines):
        raise FileFormatError(f"the file ends before line {line + 1}: add the missing lines.")
    return re.split(r"[#!]", lines[line], maxsplit=1)[0].split()


def _word(lines: list[str], line: int) -> str:
    words = _words(lines, line)
    return words[0] if words else ""


def _reals(lines: list[str], line: int, allowed: Sequence[int], what: str) -> np.ndarray:
    words = _words(lines, line)
    try:
        values = [float(word) for word in words[: max(allowed)] if "_" not in word]
    except ValueError:
        values = []
    if len(values) == 2 and 1 in allowed:  # a scale with a remark
        values = values[:1]
    if len(values) not in allowed or not np.isfinite(values).all():
        raise FileFormatError(
            f"line {line + 1} should hold {what} but is {lines[line][:40]!a}: mend that line."
        )
    return np.array(values)


def _species(lines: list[str]) -> tuple[list[str], list[int]]:
    """Elements and their counts, from lines 6 and 7."""
    words = _words(lines, 5)
    if words and words[0].isdigit():
        raise FileFormatError("line 6 holds counts and no line names the elements: insert a line of symbols.")
    symbols = [re.split(r"[_/.]", word)[0].capitalize() for word in words]  # Si_pv and Si/hash are Si
    unknown = [word for word, symbol in zip(words, symbols, strict=True) if atomic_numbers.get(symbol, 0) < 1]
    if unknown or not symbols:
        found = ascii(unknown[0][:20]) if unknown else "no element"
        raise FileFormatError(f"line 6 should name the elements but has {found}: write their symbols.")
    counts = _words(lines, 6)
    if len(counts) != len(symbols) or not all(
        re.fullmatch(r"[0-9]{1,15}", word, re.ASCII) for word in counts
    ):
        raise FileFormatError(
            f"line 7 should hold {len(symbols)} counts but is {lines[6][:40]!a}: give one each."
        )
    numbers = [int(word) for word in counts]
    if sum(numbers) == 0:
        raise FileFormatError("line 7 announces no atoms: give at least one.")
    return symbols, numbers


def _mode(lines: list[str], line: int) -> bool:
    """True for Cartesian coordinates, False for direct ones."""
    word = _word(lines, line)
    if word[:1] not in tuple("CcKkDd"):
        raise FileFormatError(
            f"line {line + 1} should say Direct or Cartesian but is {lines[line][:40]!a}: write it."
        )
    return word[0] in "CcKk"


def _atom(lines: list[str], line: int, atom: int, selective: bool) -> tuple[np.ndarray, list[bool]]:
    """Coordinates, and for selective dynamics which of them are fixed."""
    coordinates = _reals(lines, line, (3,), f"the coordinates of atom {atom}")
    if not selective:
        return coordinates, []
    flags = [word.strip(".")[:1].upper() for word in _words(lines, line)[3:6]]
    if len(flags) != 3 or not set(flags) <= {"T", "F"}:
        raise FileFormatError(f"line {line + 1} lacks the three T or F of selective dynamics: add them.")
    return coordinates, [flag == "F" for flag in flags]


def _refuse_more_atoms(lines: list[str], line: int, n_atoms: int) -> None:
    if line < len(lines) and re.match(r"\s*[-+]?[0-9.]+(\s+[-+]?[0-9.]+){2}", lines[line]):
        raise FileFormatError(
            f"line {line + 1} holds one more atom than the {n_atoms} announced on line 7: mend the counts."
        )


def _factor(scale: np.ndarray, cell: np.ndarray) -> np.ndarray | float:
    """What to multiply lengths with; a negative scale is the volume (VASP manual, POSCAR)."""
    if len(scale) == 3 and (scale > 0).all():
        return scale
    volume = abs(float(np.linalg.det(cell)))
    if len(scale) == 3 or scale[0] == 0 or (scale[0] < 0 and volume == 0):
        raise FileFormatError("line 2 holds a scale that cannot be: write 1.0, or a volume below zero.")
    return float(scale[0]) if scale[0] > 0 else float((-scale[0] / volume) ** (1 / 3))


def _constrain(atoms: Atoms, fixed: list[list[bool]]) -> None:
    from ase.constraints import FixAtoms, FixScaled  # slow to import

    mask = np.array(fixed)
    whole = np.flatnonzero(mask.all(axis=1))
    constraints: list[FixAtoms | FixScaled] = [FixAtoms(whole)] if len(whole) else []
    for pattern in sorted({tuple(row) for row in mask.tolist() if any(row) and not all(row)}):
        constraints.append(FixScaled(np.flatnonzero((mask == pattern).all(axis=1)), mask=pattern))
    atoms.set_constraint(constraints)

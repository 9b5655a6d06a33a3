"""Labels from the user's own: any ASE calculator, or any program that reads and writes extended XYZ."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.entry import Labels
from atomml.data.label import Labelled
from atomml.errors import AtomMLError, FileFormatError, LabelError, OptionError
from atomml.foreign_calculator import ForeignCalculator, make_calculator
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CalculatorEngine", "CommandEngine", "is_calculator_name", "is_command", "runs_code"]

_MOVED = 1e-4
"""Å by which a program's output may differ from what it was given: the digits of common formats."""


def is_calculator_name(method: str) -> bool:
    """Whether it is written as ``ase:MODULE:CLASS``."""
    return method.startswith("ase:")


def is_command(method: str) -> bool:
    """Whether it names a program: its first word is on the path, or a file that may be executed.

    Models come first: ``chgnet`` is one, though the package of that name installs a program too.
    """
    from atomml.registry import find_entry

    try:
        words = shlex.split(method)
    except ValueError:
        return False
    if not words or method.endswith(".safetensors") or find_entry(method) is not None:
        return False
    return shutil.which(words[0]) is not None


def runs_code(method: str) -> bool:
    """Whether labelling by this method runs code that the caller names."""
    return is_calculator_name(method) or (method.lower() not in ("gfn1", "gfn2") and is_command(method))


class CalculatorEngine:
    """An ASE calculator by ``ase:MODULE:CLASS``.

    Args:
        name: Of the class.
        settings: Its keyword arguments; part of the method's name.

    Raises:
        ModelError: Another form, no such class, or one that makes no calculator.
        OptionError: A keyword that the class does not take, or it cannot be made with these.
        MissingExtraError: The module cannot be imported.
    """

    def __init__(self, name: str, settings: Mapping[str, Any] | None = None) -> None:
        given = dict(settings or {})
        self._calculator = ForeignCalculator(make_calculator(name, given), name)
        self.method = " ".join([name, *(f"{key}={value!r}" for key, value in sorted(given.items()))])

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`; what a calculator can take only it knows."""
        validate_atoms(atoms, where)

    def label(self, atoms: Atoms) -> Labelled:
        """Energy, forces, and the stress of a cell if the calculator has one.

        Raises:
            LabelError: The calculator failed.
        """
        asked = atoms.copy()
        asked.set_constraint()  # a label is the force itself, of atoms that are held too
        asked.calc = self._calculator
        stress = None
        try:
            energy, forces = float(asked.get_potential_energy()), np.array(asked.get_forces())
            if asked.pbc.all() and "stress" in self._calculator.implemented_properties:
                with suppress(NotImplementedError):  # it may have one of other structures
                    stress = np.array(asked.get_stress(voigt=False))
        except (AtomMLError, NotImplementedError) as error:
            raise LabelError(f"{self.method} failed: {' '.join(str(error).split())}") from error
        return Labelled(_finite(Labels(energy, forces, stress, None), self.method), self.method)


class CommandEngine:
    """A program that is called as ``COMMAND IN.extxyz OUT.extxyz`` for each structure.

    IN holds the structure, with ``charge`` and ``spin`` if it has any; OUT must hold the same atoms in the
    same order with ``energy`` (eV), ``forces`` (eV/Å) and, of a cell, ``stress`` (eV/Å³) if there is one.
    No shell reads the command. The last word that is a file is part of the method's name by its digest, so
    that a changed script is another method.

    Args:
        command: The program and its first words.
        time_limit: Seconds after which it is stopped, with all that it started; 0 for never.

    Raises:
        OptionError: No such program.
    """

    def __init__(self, command: str, time_limit: float = 0.0) -> None:
        self._time_limit = time_limit or None
        self._words = shlex.split(command)
        if not self._words or shutil.which(self._words[0]) is None:
            raise OptionError(f"There is no program {command!r}: give a file that may be executed.")
        files = [Path(word) for word in self._words if Path(word).is_file()]
        digest = f" sha256={hashlib.sha256(files[-1].read_bytes()).hexdigest()[:16]}" if files else ""
        self.method = f"command {' '.join(self._words)}{digest}"

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`."""
        validate_atoms(atoms, where)

    def label(self, atoms: Atoms) -> Labelled:
        """What the program writes.

        Raises:
            LabelError: It failed, took too long, or wrote no label of these atoms.
        """
        from ase.io import write

        with tempfile.TemporaryDirectory(prefix="atomml-label-") as folder:
            given, wanted = Path(folder, "in.extxyz"), Path(folder, "out.extxyz")
            bare = atoms.copy()
            bare.calc = None
            write(given, bare, format="extxyz")
            self._run([*self._words, str(given), str(wanted)])
            if not wanted.is_file():
                raise LabelError(f"{self._words[0]} wrote no {wanted.name}: its second argument says where.")
            return Labelled(_finite(self._read(wanted, atoms), self.method), self.method)

    def _run(self, words: list[str]) -> None:
        """Run it to its end; it and all that it started end where we stop waiting."""
        program = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            out, err = program.communicate(timeout=self._time_limit)
        except subprocess.TimeoutExpired:
            raise LabelError(
                f"{self._words[0]} had not ended after {self._time_limit:g} s (--time-limit) and was stopped."
            ) from None
        finally:
            if program.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
                program.communicate()
        if program.returncode:
            last = (err.strip() or out.strip() or "no message").splitlines()[-1]
            raise LabelError(f"{self._words[0]} ended with code {program.returncode}: {last[:300]}")

    def _read(self, file: Path, atoms: Atoms) -> Labels:
        from atomml.data.label_keys import LabelKeys, entries_of
        from atomml.data.structures import read_structures

        try:
            entries = list(entries_of(read_structures(file, validate=False), LabelKeys(), unlabelled=True))
        except FileFormatError as error:
            raise LabelError(f"What {self._words[0]} wrote cannot be read: {error}") from error
        if len(entries) != 1 or not np.array_equal(entries[0].atoms.numbers, atoms.numbers):
            raise LabelError(
                f"{self._words[0]} wrote other atoms than it was given: it must keep their order."
            )
        if np.abs(entries[0].atoms.positions - atoms.positions).max() > _MOVED:
            raise LabelError(
                f"{self._words[0]} moved the atoms: a label is of the structure as it was given."
            )
        labels = entries[0].labels
        if labels.energy is None or labels.forces is None:
            raise LabelError(f"{self._words[0]} wrote no energy or no forces.")
        return labels


def _finite(labels: Labels, method: str) -> Labels:
    """The labels themselves.

    Raises:
        LabelError: A number that is none.
    """
    for name in labels.names:
        if not np.isfinite(getattr(labels, name)).all():
            raise LabelError(f"{method} gave a label that is not finite ({name}).")
    return labels

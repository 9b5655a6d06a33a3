"""Did the electrons converge? What the output of a DFT program says of each of its ionic steps.

An ionic relaxation that did not converge still has right energies and forces for each of its
structures; a self-consistent field that did not converge has not. Only the latter counts here.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError, iterparse

from atomml.data.structures import open_plain

__all__ = ["RunRecord", "inspect_run", "program_of"]

_HEAD = 1 << 16  # bytes of a file in which a program names itself
_BANNERS = {
    b"Program PWSCF": "espresso",
    b"CP2K|": "cp2k",
    b"Invoking FHI-aims": "aims",
    b"O   R   C   A": "orca",
}
_VASP_NAMES = re.compile(r"OUTCAR", re.IGNORECASE)
_XML_NAMES = re.compile(r"vasprun.*\.xml$", re.IGNORECASE)


@dataclass(frozen=True)
class RunRecord:
    """What the output of a run says of itself.

    Attributes:
        program: ``vasp-xml``, ``vasp-out``, ``espresso``, ``cp2k``, ``aims`` or ``orca``.
        converged: One truth per self-consistent field, in order.
        finished: Whether the run came to its end; False for one that was cut short.
        method: Level of theory, as far as it is known.
    """

    program: str
    converged: tuple[bool, ...]
    finished: bool
    method: str = ""


@dataclass(frozen=True)
class _Markers:
    """Lines by which a text output is read; the last verdict before a ``step`` is that step's."""

    good: tuple[bytes, ...]
    bad: tuple[bytes, ...]
    step: tuple[bytes, ...]
    finished: bytes
    unless_said: bool


_MARKERS = {
    "vasp-out": _Markers(
        good=(b"EDIFF is reached",),
        bad=(b"EDIFF was not reached",),
        step=(b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM",),
        finished=b"General timing and accounting",
        unless_said=True,
    ),
    "espresso": _Markers(
        good=(b"convergence has been achieved",),
        bad=(b"convergence NOT achieved",),
        step=(b"convergence has been achieved", b"convergence NOT achieved"),
        finished=b"JOB DONE",
        unless_said=False,
    ),
    "cp2k": _Markers(
        good=(b"SCF run converged", b"outer SCF loop converged"),
        bad=(b"SCF run NOT converged", b"outer SCF loop FAILED"),
        step=(b"ENERGY| Total FORCE_EVAL",),
        finished=b"PROGRAM ENDED AT",
        unless_said=False,
    ),
    "aims": _Markers(
        good=(b"Self-consistency cycle converged.",),
        bad=(b"Self-consistency cycle not yet converged",),
        step=(b"| Total energy of the DFT / Hartree-Fock s.c.f. calculation",),
        finished=b"Have a nice day.",
        unless_said=False,
    ),
    "orca": _Markers(
        good=(b"SCF CONVERGED AFTER",),
        bad=(b"SCF NOT CONVERGED", b"not fully converged"),
        step=(b"FINAL SINGLE POINT ENERGY",),
        finished=b"ORCA TERMINATED NORMALLY",
        unless_said=False,
    ),
}
_ITERATION = re.compile(rb"Iteration\s+\d+\(\s*(\d+)\)")
_NELM = re.compile(rb"NELM\s*=\s*(\d+)")
_METHOD_LINES = {
    "vasp-out": re.compile(rb"\s(GGA|METAGGA|ENCUT|LHFCALC|LDAU)\s*=\s*(\S+)"),
    "espresso": re.compile(rb"(Exchange-correlation|kinetic-energy cutoff)\s*=\s*(\S+)"),
}


def program_of(path: Path) -> str:
    """Which program wrote an output file: a key of :class:`RunRecord`'s ``program``, or "" if none known."""
    name = path.name
    if _XML_NAMES.search(re.sub(r"\.(gz|bz2|xz)$", "", name)):
        return "vasp-xml"
    if _VASP_NAMES.search(name):
        return "vasp-out"
    try:
        with open_plain(path) as stream:
            head = stream.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return ""
    return next((program for banner, program in _BANNERS.items() if banner in head), "")


def inspect_run(path: Path) -> RunRecord | None:
    """What the output of a DFT run says of its convergence; None for any other file.

    Args:
        path: The file, compressed or not. It is read once, line by line.
    """
    program = program_of(path)
    if not program:
        return None
    with open_plain(path) as stream:
        return _inspect_xml(stream) if program == "vasp-xml" else _inspect_text(stream, program)


def _inspect_text(stream: IO[bytes], program: str) -> RunRecord:
    markers = _MARKERS[program]
    verdicts: list[bool] = []
    verdict: bool | None = None
    iterations, most = 0, 1 << 30  # VASP 5 says nothing when it gives up after NELM iterations
    finished = False
    method: dict[str, str] = {}
    pattern = _METHOD_LINES.get(program)
    for line in stream:
        if any(mark in line for mark in markers.good):
            verdict = True
        elif any(mark in line for mark in markers.bad):
            verdict = False
        if program == "vasp-out":
            if found := _ITERATION.search(line):
                iterations = int(found[1])
            elif found := _NELM.search(line):
                most = int(found[1])
        if any(mark in line for mark in markers.step):
            unsaid = markers.unless_said and iterations < most
            verdicts.append(unsaid if verdict is None else verdict)
            verdict, iterations = None, 0
        finished = finished or markers.finished in line
        if pattern is not None and not verdicts and (found := pattern.search(line)):
            method.setdefault(found[1].decode(), found[2].decode("ascii", "replace"))
    return RunRecord(program, tuple(verdicts), finished, _method(program, method))


def _inspect_xml(stream: IO[bytes]) -> RunRecord:
    """vasprun.xml: a step whose electronic loop took all of NELM iterations did not converge."""
    verdicts: list[bool] = []
    method: dict[str, str] = {}
    most, finished = 1 << 30, False
    wanted = ("GGA", "METAGGA", "ENMAX", "LHFCALC", "LDAU")
    try:
        for _, element in iterparse(stream, events=("end",)):
            if element.tag == "parameters":
                named: dict[str, Any] = {
                    item.get("name", ""): (item.text or "").strip() for item in element.iter("i")
                }
                most = int(named.get("NELM") or most)
                method = {name: named[name] for name in wanted if named.get(name) not in (None, "", "F")}
            elif element.tag == "calculation":
                n_steps = len(element.findall("scstep"))
                if element.find("energy") is not None:
                    verdicts.append(0 < n_steps < most)
                element.clear()
            elif element.tag == "modeling":
                finished = True
    except ParseError:  # a run that was killed, or still goes on
        pass
    return RunRecord("vasp-xml", tuple(verdicts), finished, _method("vasp-xml", method))


def _method(program: str, found: dict[str, str]) -> str:
    """``VASP GGA=PE ENCUT=520``."""
    names = {"vasp-xml": "VASP", "vasp-out": "VASP", "espresso": "Quantum ESPRESSO", "cp2k": "CP2K"}
    name = names.get(program, program)
    parts = [f"{'ENCUT' if key == 'ENMAX' else key}={value}" for key, value in sorted(found.items())]
    return " ".join([name, *parts])

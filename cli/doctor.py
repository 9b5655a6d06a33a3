"""``atomml doctor``: versions, device, threads, pairs of versions known not to work, a self-test."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from atomml.cli.parsing import Parser

__all__ = ["run"]

EXIT_FAILED = 1
_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "ase",
    "pymatgen",
    "chgnet",
    "vesin",
    "numba",
    "safetensors",
    "spglib",
    "matplotlib",
    "dgl",
    "rdkit",
    "phonopy",
    "e3nn",
    "mace-torch",
)
# Energy of rock-salt NaCl, a = 5.7 Å, two atoms, by CHGNet 0.3.0 as the chgnet package 0.4.2 gives it.
_REFERENCE_EV = -7.335951
_REFERENCE_TOLERANCE_EV = 2e-5  # float32, two atoms; the parity that the model promises is 1e-5 eV/atom
_PATHS_TOLERANCE = 2e-4  # eV/Å between two float32 paths, as far as float32 itself is off


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, the verdict (``ok``, ``warning``, ``bad``), and what to do."""

    what: str
    verdict: str
    detail: str


def run(name: str, argv: Sequence[str]) -> int:
    """Print the findings; returns 1 if one of them is bad."""
    parser = Parser(
        "atomml doctor", "Versions, device, threads, known-bad pairs, and a two-second self-test."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="print only what is not ok")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    found = parser.parse(argv)
    from dataclasses import asdict

    from atomml.cli.display import print_json, say, table

    findings = [*_system(), *_versions(), *_pairs(installed_versions()), *_self_test()]
    bad = any(finding.verdict == "bad" for finding in findings)
    if found.json:
        print_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        shown = [f for f in findings if not (found.quiet and f.verdict == "ok")]
        if shown:
            say(table([], [[f.what, f.verdict, f.detail] for f in shown]).rstrip("\n"))
        if not found.quiet:
            say("something is wrong: see the lines marked bad." if bad else "all is well.")
    return EXIT_FAILED if bad else 0


def installed_versions() -> dict[str, str]:
    """Version of each package that matters and is installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _system() -> list[Finding]:
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("device", "ok", device),
        Finding("threads", "ok", f"torch {torch.get_num_threads()}, processors {_processors()}"),
    ]


def _processors() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> list[Finding]:
    from atomml import __version__

    text = ", ".join(f"{name} {found}" for name, found in installed_versions().items())
    return [Finding("atomml", "ok", __version__), Finding("packages", "ok", text)]


def _pairs(installed: dict[str, str]) -> list[Finding]:
    """Pairs of versions that are known not to work together, each with what to do."""
    found = []
    for what, is_bad, advice in _KNOWN_BAD:
        packages = what.split(" with ")
        if all(package in installed for package in packages) and is_bad(*(installed[p] for p in packages)):
            versions = " with ".join(f"{package} {installed[package]}" for package in packages)
            found.append(Finding(versions, "warning", advice))
    return found or [Finding("pairs", "ok", "no pair of versions that is known not to work")]


def _number(text: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` as (2, 13, 0)."""
    digits = (part for part in text.split("+")[0].split("."))
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in digits)


_KNOWN_BAD: tuple[tuple[str, Callable[..., bool], str], ...] = (
    (
        "dgl with torch",
        lambda dgl, torch: _number(dgl) > (1, 1, 3) and _number(torch) > (2, 4),
        "DGL's libraries after 1.1.3 are built for older torch: pip install dgl==1.1.3",
    ),
    (
        "e3nn with mace-torch",
        lambda e3nn, mace: _number(e3nn) > (0, 4, 4),
        "mace-torch needs e3nn 0.4.4: give it an environment of its own",
    ),
    (
        "dgl with numpy",
        lambda dgl, numpy: _number(dgl) < (1, 1, 3) and _number(numpy) >= (2,),
        "DGL before 1.1.3 needs numpy below 2: pip install dgl==1.1.3",
    ),
)


def _self_test() -> list[Finding]:
    """Energy against a stored number, and the fast path against the plain one, on two atoms."""
    import time

    from ase.build import bulk

    from atomml.errors import AtomMLError
    from atomml.graph import GraphBuilder
    from atomml.registry import DEFAULT_MODEL, load_model

    started = time.perf_counter()
    try:
        model = load_model(DEFAULT_MODEL, dtype="float32", device="cpu")
        build = GraphBuilder.for_model(model)
        energy = float(model.predict(build(bulk("NaCl", "rocksalt", a=5.7))).energy)
        rattled = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
        rattled.rattle(0.1, seed=0)
        graph = build(rattled)
        plain, auto = model.predict(graph, path="plain"), model.predict(graph)
    except (AtomMLError, RuntimeError, OSError) as error:
        return [Finding("self-test", "bad", " ".join(str(error).split()))]
    off = abs(energy - _REFERENCE_EV)
    assert plain.forces is not None
    assert auto.forces is not None
    apart = max(
        float((plain.forces - auto.forces).abs().max()), abs(float(plain.energy - auto.energy)) / len(rattled)
    )
    seconds = time.perf_counter() - started
    return [
        Finding(
            f"{DEFAULT_MODEL} on NaCl",
            "ok" if off <= _REFERENCE_TOLERANCE_EV else "bad",
            f"{energy:.6f} eV, stored {_REFERENCE_EV:.6f} eV",
        ),
        Finding(
            "fast and plain path",
            "ok" if apart <= _PATHS_TOLERANCE else "bad",
            f"{apart:.1e} eV/Å apart ({seconds:.1f} s in all)",
        ),
    ]

"""``atomml dft energy|optimize|functionals|train|evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from atomml.cli.parsing import Parser
from atomml.cli.run_group import call_shown, named, parse_group, refuse_resume
from atomml.cli.subcommands import Subcommand, run_subcommand
from atomml.errors import OptionError

__all__ = ["SUBCOMMANDS", "run", "run_energy", "run_evaluate", "run_functionals", "run_optimize", "run_train"]

SUBCOMMANDS = {
    "energy": Subcommand("atomml.cli.dft:run_energy", "energy, forces, levels and dipole of a molecule"),
    "optimize": Subcommand("atomml.cli.dft:run_optimize", "its geometry"),
    "train": Subcommand("atomml.cli.dft:run_train", "a learned functional, on self-consistent energies"),
    "evaluate": Subcommand("atomml.cli.dft:run_evaluate", "errors of a functional's reaction energies"),
    "functionals": Subcommand("atomml.cli.dft:run_functionals", "the closed forms"),
}


def run(name: str, argv: Sequence[str]) -> int:
    """Find the subcommand and run it; returns the exit code."""
    summary = "Density functionals of the suite in PySCF's self-consistent fields."
    return run_subcommand("dft", summary, SUBCOMMANDS, argv)


def run_energy(name: str, argv: Sequence[str]) -> int:
    """``atomml dft energy MOLECULE --functional pbe``."""
    from atomml.workflows.dft_energy import DFTEnergyOptions, dft_energy

    parser = Parser("atomml dft energy", "Energy, forces, levels and dipole of a molecule.")
    return _one_molecule("energy", parser, DFTEnergyOptions, dft_energy, argv)


def run_optimize(name: str, argv: Sequence[str]) -> int:
    """``atomml dft optimize MOLECULE --functional pbe``."""
    from atomml.workflows.dft_energy import DFTOptimizeOptions, dft_optimize

    parser = Parser("atomml dft optimize", "Relax a molecule by a density functional.")
    return _one_molecule("optimize", parser, DFTOptimizeOptions, dft_optimize, argv)


def run_train(name: str, argv: Sequence[str]) -> int:
    """``atomml dft train REACTIONS.yaml --valid OTHERS.yaml``."""
    from atomml.workflows.functional_training import FunctionalTrainOptions, train_functional

    parser = Parser("atomml dft train", "Train a functional; every energy is that of its own SCF.")
    parser.add_argument(
        "reactions", nargs="?", metavar="REACTIONS.yaml", help="species and reaction energies"
    )
    parser.add_argument("--valid", default=argparse.SUPPRESS, metavar="FILE", help="to choose weights by")
    beside = ("reactions", "valid")
    found, values = parse_group("dft train", parser, FunctionalTrainOptions, argv, beside)
    given = named(found, "dft train", beside)
    if "reactions" not in given:
        raise OptionError("atomml dft train needs a file of reactions.")
    if found.dry_run:
        raise OptionError("--dry-run is not offered here.")
    return call_shown("dft train", found, train_functional, resume=found.resume, **given, **values)


def run_evaluate(name: str, argv: Sequence[str]) -> int:
    """``atomml dft evaluate REACTIONS.yaml --functional pbe``."""
    from atomml.workflows.functional_training import SelfConsistent, evaluate_functional

    parser = Parser("atomml dft evaluate", "Self-consistent errors of a functional on reaction energies.")
    parser.add_argument(
        "reactions", nargs="?", metavar="REACTIONS.yaml", help="species and reaction energies"
    )
    parser.add_argument("--functional", default=argparse.SUPPRESS, metavar="F", help="closed form or file")
    beside = ("reactions", "functional")
    found, values = parse_group("dft evaluate", parser, SelfConsistent, argv, beside)
    given = named(found, "dft evaluate", beside)
    _refuse(found, "evaluate")
    if not {"reactions", "functional"} <= set(given):
        raise OptionError("atomml dft evaluate needs a file of reactions, and --functional.")
    return call_shown("dft evaluate", found, evaluate_functional, **given, **values)


def run_functionals(name: str, argv: Sequence[str]) -> int:
    """``atomml dft functionals``: names, parts and what PySCF calls the same."""
    from atomml.cli.display import print_json, say, table
    from atomml.potentials.xc.closed_forms import CLOSED_FORMS

    parser = Parser("atomml dft functionals", "List the closed forms.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    found = parser.parse(argv)
    if found.json:
        print_json(
            {n: {"parts": p, "exact_exchange": x, "pyscf": s} for n, (p, x, s) in CLOSED_FORMS.items()}
        )
        return 0
    rows = [
        [name, " + ".join(f"{w:g} {part}" for part, w in parts.items()), f"{exact:.0%}", pyscf]
        for name, (parts, exact, pyscf) in CLOSED_FORMS.items()
    ]
    say(table(["name", "parts", "exact exchange", "in PySCF"], rows).rstrip("\n"))
    return 0


def _one_molecule(name: str, parser: Parser, options: type, function: Any, argv: Sequence[str]) -> int:
    parser.add_argument("structures", nargs="*", metavar="MOLECULE", help="a file with one frame, or SMILES")
    found, values = parse_group(f"dft {name}", parser, options, argv, ("structures",))
    given = named(found, f"dft {name}", ("structures",))
    _refuse(found, name)
    molecules = given.pop("structures", [])
    if len(molecules) != 1:
        raise OptionError(f"atomml dft {name} takes one molecule: name its file, or FILE@INDEX.")
    return call_shown(f"dft {name}", found, function, structure=molecules[0], **given, **values)


def _refuse(found: argparse.Namespace, name: str) -> None:
    if found.dry_run:
        raise OptionError("--dry-run is not offered here.")
    refuse_resume(found, f"dft {name}")

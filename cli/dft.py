"""``atomml dft energy|optimize|label|train|evaluate|functionals``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from atomml.cli.parsing import Parser
from atomml.cli.run_group import call_shown, parse_needed, refuse_resume
from atomml.cli.subcommands import Subcommand, run_subcommand
from atomml.errors import OptionError

__all__ = [
    "SUBCOMMANDS",
    "run",
    "run_energy",
    "run_evaluate",
    "run_functionals",
    "run_label",
    "run_optimize",
    "run_train",
]

SUBCOMMANDS = {
    "energy": Subcommand("atomml.cli.dft:run_energy", "energy, forces, levels and dipole of a molecule"),
    "optimize": Subcommand("atomml.cli.dft:run_optimize", "its geometry"),
    "label": Subcommand("atomml.cli.dft:run_label", "reference energies by CCSD(T), FCI and others"),
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
    from atomml.workflows.electronic.dft_energy import DFTEnergyOptions, dft_energy

    parser = Parser("atomml dft energy", "Energy, forces, levels and dipole of a molecule.")
    return _one_molecule("dft energy", parser, DFTEnergyOptions, dft_energy, argv)


def run_optimize(name: str, argv: Sequence[str]) -> int:
    """``atomml dft optimize MOLECULE --functional pbe``."""
    from atomml.workflows.electronic.dft_energy import DFTOptimizeOptions, dft_optimize

    parser = Parser("atomml dft optimize", "Relax a molecule by a density functional.")
    return _one_molecule("dft optimize", parser, DFTOptimizeOptions, dft_optimize, argv)


def run_label(name: str, argv: Sequence[str]) -> int:
    """``atomml dft label MOLECULES --method 'ccsd(t)/cc-pvdz' --to reactions.yaml``."""
    from atomml.workflows.electronic.dft_label import DFTLabelOptions, dft_label

    parser = Parser("atomml dft label", "Reference energies of molecules and their atoms, for dft train.")
    parser.add_argument("structures", nargs="*", metavar="MOLECULE", help="files, FILE@INDEX, or SMILES")
    parser.add_argument("--to", default=argparse.SUPPRESS, metavar="FILE.yaml", help="the file to write")
    needs = "molecules, and --to FILE.yaml"
    beside = ("structures", "to")
    found, given, values = parse_needed("dft label", parser, DFTLabelOptions, argv, beside, needs)
    return call_shown("dft label", found, dft_label, resume=found.resume, **given, **values)


def run_train(name: str, argv: Sequence[str]) -> int:
    """``atomml dft train REACTIONS.yaml --valid OTHERS.yaml``."""
    from atomml.workflows.electronic.functional_training import FunctionalTrainOptions, train_functional

    parser = Parser("atomml dft train", "Train a functional; every energy is that of its own SCF.")
    _add_reactions(parser)
    parser.add_argument("--valid", default=argparse.SUPPRESS, metavar="FILE", help="to choose weights by")
    beside, needs = ("reactions", "valid"), "a file of reactions"
    found, given, values = parse_needed(
        "dft train", parser, FunctionalTrainOptions, argv, beside, needs, ("reactions",)
    )
    return call_shown("dft train", found, train_functional, resume=found.resume, **given, **values)


def run_evaluate(name: str, argv: Sequence[str]) -> int:
    """``atomml dft evaluate REACTIONS.yaml --functional pbe``."""
    from atomml.workflows.electronic.functional_evaluation import evaluate_functional
    from atomml.workflows.electronic.functional_fields import SelfConsistent

    parser = Parser("atomml dft evaluate", "Self-consistent errors of a functional on reaction energies.")
    _add_reactions(parser)
    parser.add_argument("--functional", default=argparse.SUPPRESS, metavar="F", help="name or file")
    beside, needs = ("reactions", "functional"), "a file of reactions, and --functional"
    found, given, values = parse_needed("dft evaluate", parser, SelfConsistent, argv, beside, needs)
    refuse_resume(found, "dft evaluate")
    return call_shown("dft evaluate", found, evaluate_functional, **given, **values)


def run_functionals(name: str, argv: Sequence[str]) -> int:
    """``atomml dft functionals``: names, parts and what PySCF calls the same; then what else is read."""
    from atomml.cli.display import print_json, say, table
    from atomml.potentials.xc.closed_forms import CLOSED_FORMS
    from atomml.potentials.xc.files import OTHERS

    parser = Parser("atomml dft functionals", "List the functionals.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    found = parser.parse(argv)
    if found.json:
        closed = {n: {"parts": p, "exact_exchange": x, "pyscf": s} for n, (p, x, s) in CLOSED_FORMS.items()}
        print_json(closed | {name: {"what": what} for name, what in OTHERS.items()})
        return 0
    rows = [
        [name, " + ".join(f"{w:g} {part}" for part, w in parts.items()), f"{exact:.0%}", pyscf]
        for name, (parts, exact, pyscf) in CLOSED_FORMS.items()
    ]
    say(table(["name", "parts", "exact exchange", "in PySCF"], rows).rstrip("\n"))
    say(table(["others", "what"], [list(pair) for pair in OTHERS.items()]).rstrip("\n"))
    return 0


def _add_reactions(parser: Parser) -> None:
    text = "species and reaction energies"
    parser.add_argument("reactions", nargs="?", metavar="REACTIONS.yaml", help=text)


def _one_molecule(command: str, parser: Parser, options: type, function: Any, argv: Sequence[str]) -> int:
    parser.add_argument("structures", nargs="*", metavar="MOLECULE", help="a file with one frame, or SMILES")
    needs = "one molecule: name its file, or FILE@INDEX"
    found, given, values = parse_needed(command, parser, options, argv, ("structures",), needs)
    refuse_resume(found, command)
    molecules = given.pop("structures")
    if len(molecules) != 1:
        raise OptionError(f"atomml {command} needs {needs}.")
    return call_shown(command, found, function, structure=molecules[0], **given, **values)

"""``atomml hamiltonian sample|label|import|train|evaluate|predict|scf``."""

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
    "run_evaluate",
    "run_import",
    "run_predict",
    "run_sample",
    "run_scf",
    "run_train",
]

SUBCOMMANDS = {
    "sample": Subcommand("atomml.cli.hamiltonian:run_sample", "geometries of molecules at a temperature"),
    "label": Subcommand("atomml.cli.data_label:run_matrices", "Kohn-Sham matrices of molecules by PySCF"),
    "import": Subcommand("atomml.cli.hamiltonian:run_import", "databases of QH9 and of the MD17 molecules"),
    "train": Subcommand("atomml.cli.hamiltonian:run_train", "a predictor from labelled molecules"),
    "evaluate": Subcommand("atomml.cli.hamiltonian:run_evaluate", "errors beside those of what is cheap"),
    "predict": Subcommand("atomml.cli.hamiltonian:run_predict", "levels, charges, dipole without an SCF"),
    "scf": Subcommand("atomml.cli.hamiltonian:run_scf", "the exact SCF from a prediction, in fewer cycles"),
}


def run(name: str, argv: Sequence[str]) -> int:
    """Find the subcommand and run it; returns the exit code."""
    summary = "Kohn-Sham matrices of molecules: labelled, learned, predicted, and the next SCF started from."
    return run_subcommand("hamiltonian", summary, SUBCOMMANDS, argv)


def run_sample(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian sample CCO --to frames.extxyz``."""
    from atomml.workflows.electronic.hamiltonian_sampling import HamiltonianSampleOptions, sample_geometries

    parser = Parser("atomml hamiltonian sample", "Geometries of molecules at a temperature.")
    parser.add_argument("structures", nargs="*", metavar="MOLECULE", help="files or SMILES")
    parser.add_argument("--to", default=argparse.SUPPRESS, metavar="FRAMES.extxyz", help="the file to write")
    beside, needs = ("structures", "to"), "molecules, and --to FRAMES.extxyz"
    found, given, values = parse_needed(
        "hamiltonian sample", parser, HamiltonianSampleOptions, argv, beside, needs
    )
    return call_shown("hamiltonian sample", found, sample_geometries, **given, **values)


def run_import(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian import QH9Stable.db --to set.lmdb``."""
    from atomml.workflows.electronic.hamiltonian_import import HamiltonianImportOptions, import_hamiltonians

    parser = Parser("atomml hamiltonian import", "Published sets of matrices into a store.")
    parser.add_argument("structures", nargs="*", metavar="FILE.db", help="a database of QH9 or SchNOrb")
    parser.add_argument("--to", default=argparse.SUPPRESS, metavar="SET.lmdb", help="the store to write")
    beside, needs = ("structures", "to"), "one database, and --to SET.lmdb"
    found, given, values = parse_needed(
        "hamiltonian import", parser, HamiltonianImportOptions, argv, beside, needs
    )
    paths = given.pop("structures")
    if len(paths) != 1:
        raise OptionError(f"atomml hamiltonian import needs {needs}.")
    return call_shown("hamiltonian import", found, import_hamiltonians, path=paths[0], **given, **values)


def run_train(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian train --train set.lmdb``."""
    from atomml.workflows.electronic.hamiltonian_training import HamiltonianTrainOptions

    parser = Parser("atomml hamiltonian train", "Train a predictor of Kohn-Sham matrices on molecules.")
    files = parser.add_argument_group("files, model and folder")
    for key, text in (
        ("train", "stores with matrices, as hamiltonian label writes them"),
        ("valid", "stores to validate on; else a part of --train is held out"),
        ("test", "stores to report errors on at the end"),
    ):
        files.add_argument(f"--{key}", nargs="+", default=argparse.SUPPRESS, metavar="SET", help=text)
    files.add_argument(
        "--model",
        default=argparse.SUPPRESS,
        metavar="FAMILY",
        help="sphnet-small or sphnet; hyperparameters stand below model: in --config",
    )
    beside, needs = ("train", "valid", "test", "model"), "molecules to train on: name stores with --train"
    found, given, values = parse_needed(
        "hamiltonian train", parser, HamiltonianTrainOptions, argv, beside, needs, ("train",)
    )
    from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian

    return call_shown("hamiltonian train", found, train_hamiltonian, resume=found.resume, **given, **values)


def run_evaluate(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian evaluate SET --model M``."""
    from atomml.workflows.electronic.hamiltonian_evaluation import (
        HamiltonianEvaluateOptions,
        evaluate_hamiltonian,
    )

    parser = Parser("atomml hamiltonian evaluate", "Errors of a predictor on labelled molecules.")
    given, values, found = _with_model("evaluate", parser, HamiltonianEvaluateOptions, argv, "SET")
    return call_shown(
        "hamiltonian evaluate", found, evaluate_hamiltonian, data=given.pop("structures"), **given, **values
    )


def run_predict(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian predict MOLECULE --model M``."""
    from atomml.workflows.electronic.hamiltonian_prediction import (
        HamiltonianPredictOptions,
        predict_hamiltonian,
    )

    parser = Parser("atomml hamiltonian predict", "Levels, charges, dipole and orbitals without an SCF.")
    given, values, found = _with_model("predict", parser, HamiltonianPredictOptions, argv, "MOLECULE")
    return call_shown("hamiltonian predict", found, predict_hamiltonian, **given, **values)


def run_scf(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian scf MOLECULE --model M``."""
    from atomml.workflows.electronic.hamiltonian_scf import HamiltonianScfOptions, scf_hamiltonian

    parser = Parser("atomml hamiltonian scf", "Converge molecules from predictions, and count what it takes.")
    given, values, found = _with_model("scf", parser, HamiltonianScfOptions, argv, "MOLECULE")
    return call_shown("hamiltonian scf", found, scf_hamiltonian, **given, **values)


def _with_model(
    name: str, parser: Parser, options: type, argv: Sequence[str], metavar: str
) -> tuple[dict[str, Any], dict[str, Any], argparse.Namespace]:
    """What is read, the model and the folder; options; the flags."""
    parser.add_argument(
        "structures", nargs="*", metavar=metavar, help="what to read; FILE@INDEX names frames"
    )
    parser.add_argument("--model", default=argparse.SUPPRESS, metavar="FILE", help="checkpoint of a training")
    command, needs = (
        f"hamiltonian {name}",
        "files to read (name files), and a checkpoint with --model",
    )
    found, given, values = parse_needed(command, parser, options, argv, ("structures", "model"), needs)
    refuse_resume(found, command)
    return given, values, found

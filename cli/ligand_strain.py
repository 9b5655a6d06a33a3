"""``atomml ligand-strain POSES --model M --out RUN``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atomml.cli.parsing import Parser, add_flags, calculator_settings, layers_of, resolve_flags
from atomml.cli.workflow import (
    SharedOptions,
    add_control_flags,
    set_threads,
    told,
    with_dispersion,
)
from atomml.config import OptionSpec, option_specs
from atomml.errors import OptionError
from atomml.workflows.ligands.pose_strain import DEFAULT_MODEL, LigandStrainOptions, check_choices

__all__ = ["Poses", "parse_poses", "run"]

_COMMAND = "ligand-strain"
_DEFAULTS = {"model": DEFAULT_MODEL, "seed": 0}
_SHOWN = 20
_COLUMNS = (
    *(
        "rank",
        "id",
        "strain_kcal_per_mol",
        "strain_refined_kcal_per_mol",
        "strain_committee_std_kcal_per_mol",
    ),
    *("strain_searches_std_kcal_per_mol", "search_converged", "left_basin", "passes", "torsions", "error"),
)
_ABOUT = (
    "Strain of docked or crystal poses: the energy of the pose, relaxed a little, over the unbound minimum "
    "of its ligand. Reads SD, MOL2, PDB (with --template) and Parquet; writes results.csv, results.parquet, "
    "poses.sdf, minima.sdf and report.html."
)


@dataclass
class Poses:
    """A command line of ``ligand-strain``, understood.

    Attributes:
        named: Poses, as they were named.
        values: Every option's value.
        found: How the command itself behaves.
        calculator: Keyword arguments for the class of ``--model ase:MODULE:CLASS``.
    """

    named: list[str]
    values: dict[str, Any]
    found: argparse.Namespace
    calculator: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run folder."""
        from atomml.run import default_folder

        out = self.values.get("out")
        return Path(out) if out else default_folder("ligand-strain", self.named[0])

    def model(self) -> Any:
        """The model as ``ligand_strain`` takes it."""
        model = self.values["model"]
        if not str(model).startswith("ase:"):
            return model
        from atomml.workflows.inputs import given_model

        allowed = self.found.allow_code or "model" in vars(self.found)
        return given_model(model, calculator=self.calculator, allow_code=allowed)


def parse_poses(
    prog: str, argv: Sequence[str], more: Mapping[str, OptionSpec], description: str
) -> tuple[Poses, dict[str, Any]]:
    """The command line of ``ligand-strain``, or of a command with the same words and options of its own.

    Args:
        prog: The command, as its help names it.
        argv: Its words.
        more: Its own options, beside those of ``ligand-strain``.
        description: For the help.

    Returns:
        The command, and the values of ``more``.

    Raises:
        OptionError: No poses, a wrong option.
    """
    own = option_specs(LigandStrainOptions)
    shared = {
        key: replace(spec, default=_DEFAULTS.get(key, spec.default))
        for key, spec in option_specs(SharedOptions).items()
        if key not in ("order", "orderings")
    }
    parser = Parser(prog, description)
    parser.add_argument("poses", nargs="*", metavar="POSES", help="files, folders, patterns")
    if more:
        add_flags(parser, more, f"options of {prog.split()[1]}")
    add_flags(parser, own, "options of ligand-strain")
    add_flags(parser, shared, "model and folder")
    add_control_flags(parser)
    found = parser.parse(argv)
    values = resolve_flags(own | dict(more) | shared, found, _COMMAND, extra=("poses", "calculator"))
    poses = _named(found)
    values["model"] = with_dispersion(values["model"], values.pop("dispersion"))
    settings = calculator_settings(found, _COMMAND, [values["model"]])
    ours = {key: values.pop(key) for key in more}
    return Poses(poses, values, found, settings), ours


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, compute, print the ranked table; returns the exit code."""
    command, _ = parse_poses(f"atomml {name}", argv, {}, _ABOUT)
    set_threads(threads := command.values.pop("threads"))
    return _dry_run(command) if command.found.dry_run else _carry_out(command, threads)


def _named(found: argparse.Namespace) -> list[str]:
    """The poses of the command line, else of the configuration.

    Raises:
        OptionError: There are none.
    """
    poses: Any = list(found.poses)
    for _, layer in layers_of(found, _COMMAND) if not poses else []:
        value = layer.get("poses", poses)
        poses = [value] if isinstance(value, str) else value
    if not poses:
        raise OptionError("atomml ligand-strain needs poses: name an SD, MOL2, PDB or Parquet file.")
    return [str(one) for one in poses]


def _carry_out(command: Poses, threads: int | None) -> int:
    from atomml.cli.display import run_shown
    from atomml.workflows import ligand_strain

    found = command.found
    options = {key: value for key, value in command.values.items() if key not in ("model", "out")}
    with run_shown(_COMMAND, found):
        result = ligand_strain(
            command.named,
            command.model(),
            out=command.folder,
            resume=found.resume,
            overwrite=found.overwrite,
            threads=threads,
            **options,
        )
    return told(result, found, _show)


def _show(result: Any) -> None:
    """The least strained poses first, those without a strain last; then what was counted."""
    from atomml.cli.display import print_results, say, table

    rows = sorted(result.rows, key=lambda row: row["rank"] or sys.maxsize)
    columns = [key for key in _COLUMNS if any(row[key] is not None for row in rows)]
    sys.stdout.write(table(columns, [[row[key] for key in columns] for row in rows[:_SHOWN]]))
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN} more in results.csv")
    print_results(result.results(), result.units())
    if result.folder is not None:
        say(f"written to {result.folder}/ (results.csv, poses.sdf, minima.sdf, report.html)")


def _dry_run(command: Poses) -> int:
    """How many poses, ligands and minimisations there would be."""
    from atomml.cli.display import say
    from atomml.config import build_options
    from atomml.workflows.inputs import given_model
    from atomml.workflows.ligands.ligand_run import plan

    values = command.values
    own = {key: value for key, value in values.items() if key in LigandStrainOptions.__dataclass_fields__}
    options = build_options(LigandStrainOptions, own)
    model = str(values["model"])
    if not model.startswith("ase:"):
        check_choices(options, given_model(model, dtype=values["dtype"], device=values["device"]))
    for line in plan(command.named, options):
        say(line)
    say(f"model {model}; nothing was written")
    return 0

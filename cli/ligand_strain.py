"""``atomml ligand-strain POSES --model M --out RUN``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from atomml.cli.parsing import Parser, add_flags, calculator_settings, layers_of, resolve_flags
from atomml.cli.workflow import (
    EXIT_NOT_CONVERGED,
    SharedOptions,
    add_control_flags,
    set_threads,
    with_dispersion,
)
from atomml.config import option_specs
from atomml.errors import OptionError
from atomml.workflows.ligands.pose_strain import DEFAULT_MODEL, LigandStrainOptions

__all__ = ["run"]

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


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, compute, print the ranked table; returns the exit code."""
    own = option_specs(LigandStrainOptions)
    shared = {
        key: replace(spec, default=_DEFAULTS.get(key, spec.default))
        for key, spec in option_specs(SharedOptions).items()
        if key not in ("order", "orderings")
    }
    parser = Parser("atomml ligand-strain", _ABOUT)
    parser.add_argument("poses", nargs="*", metavar="POSES", help="files, folders, patterns")
    add_flags(parser, own, "options of ligand-strain")
    add_flags(parser, shared, "model and folder")
    add_control_flags(parser)
    found = parser.parse(argv)
    values = resolve_flags(own | shared, found, name, extra=("poses", "calculator"))
    poses = _named(found, name)
    set_threads(threads := values.pop("threads"))
    values["model"] = with_dispersion(values["model"], values.pop("dispersion"))
    settings = calculator_settings(found, name, [values["model"]])
    if found.dry_run:
        return _dry_run(poses, values)
    return _carry_out(poses, values, settings, found, threads)


def _named(found: argparse.Namespace, name: str) -> list[str]:
    """The poses of the command line, else of the configuration.

    Raises:
        OptionError: There are none.
    """
    poses: Any = list(found.poses)
    for _, layer in layers_of(found, name) if not poses else []:
        value = layer.get("poses", poses)
        poses = [value] if isinstance(value, str) else value
    if not poses:
        raise OptionError("atomml ligand-strain needs poses: name an SD, MOL2, PDB or Parquet file.")
    return [str(one) for one in poses]


def _carry_out(
    poses: list[str],
    values: dict[str, Any],
    settings: dict[str, Any],
    found: argparse.Namespace,
    threads: int | None,
) -> int:
    from atomml.cli.display import print_json, run_shown
    from atomml.run import default_folder
    from atomml.workflows import ligand_strain

    model: Any = values.pop("model")
    if str(model).startswith("ase:"):
        from atomml.workflows.inputs import given_model

        allowed = found.allow_code or "model" in vars(found)
        model = given_model(model, calculator=settings, allow_code=allowed)
    out = values.pop("out") or default_folder("ligand-strain", poses[0])
    with run_shown("ligand-strain", found):
        result = ligand_strain(
            poses,
            model,
            out=out,
            resume=found.resume,
            overwrite=found.overwrite,
            threads=threads,
            **values,
        )
    if found.json:
        print_json(result.summary)
    elif not found.quiet:
        _show(result)
    return 0 if result.converged else EXIT_NOT_CONVERGED


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


def _dry_run(poses: list[str], values: dict[str, Any]) -> int:
    """How many poses, ligands and minimisations there would be."""
    from atomml.cli.display import say
    from atomml.config import build_options
    from atomml.workflows.inputs import given_model
    from atomml.workflows.ligands.ligand_run import plan

    own = {key: value for key, value in values.items() if key in LigandStrainOptions.__dataclass_fields__}
    options = build_options(LigandStrainOptions, own)
    model = str(values["model"])
    if not model.startswith("ase:"):
        given_model(model, dtype=values["dtype"], device=values["device"])
    for line in plan(poses, options):
        say(line)
    say(f"model {model}; nothing was written")
    return 0

"""``atomml data label FILES --method M --to set.lmdb``: flags from the options, progress, one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomml.cli.data import EXIT_WITH_FAILURES, parse_options, refuse_no_paths
from atomml.cli.parsing import Parser, layers_of
from atomml.cli.workflow import refuse_unnamed_code
from atomml.errors import OptionError

__all__ = ["run_label", "run_matrices"]

_MOST_ROWS = 20


def run_label(name: str, argv: Sequence[str]) -> int:
    """Parse, label, and show what came of it; returns the exit code."""
    return _run("data label", name, argv, {})


def run_matrices(name: str, argv: Sequence[str]) -> int:
    """``atomml hamiltonian label``: the same, and matrices are kept."""
    return _run("hamiltonian label", name, argv, {"hamiltonian": True})


def _run(command: str, name: str, argv: Sequence[str], fixed: dict[str, Any]) -> int:
    from atomml.workflows.datasets.label_plan import DataLabelOptions

    parser = Parser(
        f"atomml {command}",
        "Label structures by one method; resumable, in parallel, a crash costs one structure.",
        "Methods: FUNCTIONAL/BASIS (pbe/def2-svp), hf/BASIS, mp2/BASIS, gfn2, gfn1, or a model by name.",
    )
    parser.add_argument("paths", nargs="*", metavar="FILE", help="structures; FILE@INDEX names frames")
    parser.add_argument("--to", metavar="SET", help="set.lmdb or set.extxyz")
    parser.add_argument("--out", metavar="FOLDER", help="run folder; label-STEM if not given")
    parser.add_argument("--resume", action="store_true", help="go on in the folder of an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run and its set")
    parser.add_argument("--dry-run", action="store_true", help="read and check all, compute nothing")
    parser.add_argument(
        "--allow-code", action="store_true", help="let --config name a program or class that labels"
    )
    found, values = parse_options(name, parser, DataLabelOptions, argv, beside=("structures", "to"))
    values |= fixed
    refuse_unnamed_code(values.get("method"), found.allow_code or "method" in vars(found))
    for _, layer in layers_of(found, command):  # what is not on the command line may be in the file
        found.paths = found.paths or [str(path) for path in layer.get("structures") or []]
        found.to = found.to or layer.get("to")
    refuse_no_paths(name, found, "structures: name files")
    if found.dry_run:
        return _plan(found, DataLabelOptions(**values))
    if not found.to:
        raise OptionError("Say where to write with --to NAME.lmdb or --to NAME.extxyz.")
    return _label(found, values)


def _label(found: argparse.Namespace, values: dict[str, Any]) -> int:
    from atomml.cli.display import print_json, run_shown
    from atomml.workflows import label_data

    with run_shown("label", found):
        result = label_data(
            found.paths,
            to=found.to,
            out=_folder(found, values["shard"]),
            resume=found.resume,
            overwrite=found.overwrite,
            **values,
        )
    if found.json:
        print_json(result.summary)
    elif not found.quiet:
        _show(result)
    return 0 if result.converged else EXIT_WITH_FAILURES


def _folder(found: argparse.Namespace, shard: str | None) -> Path:
    """The run folder; each shard has its own."""
    from atomml.run import default_folder

    folder = Path(found.out) if found.out else default_folder("label", found.paths[0].rpartition("@")[0])
    if not found.out and "@" not in found.paths[0]:
        folder = default_folder("label", found.paths[0])
    if shard is None:
        return folder
    return folder.with_name(f"{folder.name}-{shard.replace('/', '-of-')}")


def _plan(found: argparse.Namespace, options: Any) -> int:
    from atomml.cli.display import print_json, print_results
    from atomml.workflows.datasets.label_plan import plan_labels

    plan = plan_labels(found.paths, options)
    told = {
        "method": plan.engine.method,
        "structures": plan.n_structures,
        "structures that the method cannot take": plan.n_refused,
    }
    if found.json:
        print_json({"command": "data label", **told})
    else:
        print_results(told, {})
    return 0


def _show(result: Any) -> None:
    from atomml.cli.display import print_results, say

    for failure in result.failures[:_MOST_ROWS]:
        say(f"no label: {failure['structure']}: {failure['error']}")
    if len(result.failures) > _MOST_ROWS:
        say(f"... and {len(result.failures) - _MOST_ROWS} more in failed.csv")
    print_results(result.results(), result.units())
    say(f"written to {result.output}; the run is in {result.folder}/")

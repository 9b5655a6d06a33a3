"""``atomml compare WORKFLOW STRUCTURE --model a --model b``; the flags are those of the workflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomml.cli.catalogue import WORKFLOWS, leading_workflow
from atomml.cli.parsing import Parser, add_flags, calculator_settings, resolve_flags
from atomml.cli.workflow import (
    SharedOptions,
    add_control_flags,
    marked_for_ordering,
    set_threads,
    told,
    with_dispersion,
)
from atomml.config import option_specs
from atomml.errors import OptionError
from atomml.workflows import OF_ONE_STRUCTURE

__all__ = ["run"]


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, run the workflow with each model, print one table; returns the exit code."""
    workflow = leading_workflow(argv, _KNOWN)
    own = WORKFLOWS[workflow].specs() if workflow else {}
    skip = {"model", *own}
    shared = {key: spec for key, spec in option_specs(SharedOptions).items() if key not in skip}
    parser = Parser(
        f"atomml compare {workflow or 'WORKFLOW'}",
        "One workflow with several models: a folder each, one table, the spread.",
        "" if workflow else f"{_KNOWN} 'atomml compare relax --help' lists the flags of relax.",
    )
    parser.add_argument(
        "structure", nargs="?", metavar="STRUCTURE", help="a file with one frame, or FILE@INDEX"
    )
    parser.add_argument(
        "--model", action="append", default=[], dest="models", help="a model; give two or more"
    )
    if own:
        add_flags(parser, own, f"options of {workflow}")
    add_flags(parser, shared, "models and folder")
    add_control_flags(parser)
    found = parser.parse(argv[1:] if workflow else argv)
    if workflow is None:
        raise OptionError(f"atomml compare needs a workflow first: {_KNOWN}")
    return _compare(
        workflow,
        found,
        resolve_flags(own | shared, found, name, extra=("workflow", "model", "structures", "calculator")),
    )


_KNOWN = f"there are {', '.join(OF_ONE_STRUCTURE)} (and evaluate --baseline compares two on data)."


def _compare(workflow: str, found: Any, values: dict[str, Any]) -> int:
    if found.structure is None:
        raise OptionError("atomml compare needs a structure: name a file.")
    if len(found.models) < 2:
        raise OptionError("A comparison needs two models or more: repeat --model.")
    (found.structure,) = marked_for_ordering([found.structure], values)
    set_threads(values.pop("threads"))
    correction = values.pop("dispersion")
    found.models = [with_dispersion(model, correction) for model in found.models]
    settings = calculator_settings(found, "compare", found.models)
    from atomml.cli.display import run_shown
    from atomml.run import default_folder
    from atomml.workflows import compare
    from atomml.workflows.inputs import given_model

    if found.dry_run:
        return _dry_run(workflow, found, values, settings)
    out = values.pop("out")
    folder = Path(out) if out else default_folder("compare", found.structure)
    with run_shown("compare", found):
        models = [
            given_model(name, calculator=settings, allow_code=True) if name.startswith("ase:") else name
            for name in found.models
        ]
        result = compare(
            workflow,
            found.structure,
            models,
            out=folder,
            resume=found.resume,
            overwrite=found.overwrite,
            **values,
        )
    return told(result, found, _show)


def _show(result: Any) -> None:
    from atomml.cli.display import say, table

    columns = list(result.rows[0]) if result.rows else []
    sys.stdout.write(table(columns, [list(row.values()) for row in result.rows]))
    say(f"written to {result.folder}/ (report.html)")


def _dry_run(workflow: str, found: Any, values: dict[str, Any], calculator: dict[str, Any]) -> int:
    """The plan of the workflow with each model."""
    from atomml.cli.display import logging_to_stderr, print_json
    from atomml.cli.dry_run import plan_report, print_plan
    from atomml.cli.workflow import Plan
    from atomml.run import default_folder

    folder = values["out"] or str(default_folder("compare", found.structure))
    reports = []
    with logging_to_stderr(found.quiet, found.debug):
        for model in found.models:
            settings = values | {"model": model, "out": folder}
            own = calculator if model.startswith("ase:") else {}
            plan = Plan(workflow, WORKFLOWS[workflow], [found.structure], settings, found, True, own)
            reports.append(plan_report(plan))
    if found.json:
        print_json({"command": "compare", "plans": reports})
        return 0
    for report in reports:
        print_plan(report, WORKFLOWS[workflow].specs())
    return 0

"""``atomml screen WORKFLOW STRUCTURES``; its flags are those of the workflow and those of a screen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomml.cli.catalogue import WORKFLOWS, leading_workflow
from atomml.cli.parsing import Parser, add_flags, calculator_settings, resolve_flags
from atomml.cli.workflow import (
    Plan,
    SharedOptions,
    add_control_flags,
    marked_for_ordering,
    named_structures,
    set_threads,
    told,
    with_dispersion,
)
from atomml.config import OptionSpec, option_specs
from atomml.errors import OptionError
from atomml.workflows import OF_ONE_STRUCTURE
from atomml.workflows.screens.screening import ScreenOptions

__all__ = ["Screening", "parse_screen", "run", "show_screen"]

_SHOWN = 20


@dataclass
class Screening:
    """A command line of a screen, understood.

    Attributes:
        workflow: What is done to each structure.
        structures: As they were named.
        values: Every option's value.
        found: How the command itself behaves.
        calculator: Keyword arguments for the class of ``--model ase:MODULE:CLASS``.
    """

    workflow: str
    structures: list[str]
    values: dict[str, Any]
    found: argparse.Namespace
    calculator: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.values.get("out") or f"screen-{self.workflow}")

    def plan(self, structures: list[str]) -> Plan:
        """The same as the command line of the workflow itself."""
        values = self.values | {"out": str(self.folder)}
        workflow, found = WORKFLOWS[self.workflow], self.found
        return Plan(self.workflow, workflow, structures, values, found, found.allow_code, self.calculator)


def parse_screen(
    name: str, argv: Sequence[str], more: dict[str, OptionSpec], description: str, also: Sequence[str] = ()
) -> tuple[Screening, dict[str, Any]]:
    """The command line of ``screen``, or of a command with the same words and options of its own.

    Args:
        name: The command.
        argv: Its words.
        more: Its own options, beside those of ``screen``.
        description: For the help.
        also: What else may stand first, for the help and errors.

    Returns:
        The screen, and the values of ``more``.

    Raises:
        OptionError: No workflow, no structures, a wrong option.
    """
    known = f"there are {', '.join((*OF_ONE_STRUCTURE, *also))}."
    workflow = leading_workflow(argv, known, also)
    own = WORKFLOWS[workflow].specs() if workflow else {}
    about = option_specs(ScreenOptions)
    shared = {key: spec for key, spec in option_specs(SharedOptions).items() if key not in own}
    epilog = "" if workflow else f"{known} 'atomml {name} relax --help' lists the flags of relax."
    parser = Parser(f"atomml {name} {workflow or 'WORKFLOW'}", description, epilog)
    parser.add_argument("structures", nargs="*", metavar="STRUCTURE", help="files, folders, patterns")
    if more:
        add_flags(parser, more, f"options of {name}")
    add_flags(parser, about, "options of the screen")
    if own:
        add_flags(parser, own, f"options of {workflow}")
    add_flags(parser, shared, "model and folder")
    add_control_flags(parser)
    found = parser.parse(argv[1:] if workflow else argv)
    if workflow is None:
        raise OptionError(f"atomml {name} needs a workflow first: {known}")
    extra = ("workflow", "structure", "structures", "calculator")
    values = resolve_flags(own | about | more | shared, found, "screen", extra=extra)
    structures = named_structures(found, "screen")
    if not structures:
        raise OptionError(f"atomml {name} needs structures: name files, folders or patterns.")
    structures = marked_for_ordering(structures, values)
    values["model"] = with_dispersion(values["model"], values.pop("dispersion"))
    settings = calculator_settings(found, "screen", [values["model"]])
    ours = {key: values.pop(key) for key in more}
    return Screening(workflow, list(structures), values, found, settings), ours


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, screen, print the table's head; returns the exit code."""
    about = "One workflow on thousands of structures: one table, failures kept as rows, any kill survived."
    screening, _ = parse_screen(name, argv, {}, about)
    values, found = dict(screening.values), screening.found
    set_threads(threads := values.pop("threads"))
    if found.dry_run:
        return _dry_run(screening)
    from atomml.cli.display import run_shown
    from atomml.workflows import screen

    model = screening.plan([]).model()
    values.pop("model")
    values.pop("out")
    with run_shown(f"screen {screening.workflow}", found):
        result = screen(
            screening.workflow,
            screening.structures,
            model,
            out=screening.folder,
            resume=found.resume,
            overwrite=found.overwrite,
            threads=threads,
            **values,
        )
    return told(result, found, show_screen)


def show_screen(result: Any) -> None:
    """The first selected rows, or the first of all, and what was counted."""
    from atomml.cli.display import print_results, say, table

    rows = result.selected or result.rows
    columns = [key for key in rows[0] if any(row.get(key) is not None for row in rows)] if rows else []
    columns = [key for key in columns if key != "warnings"]
    sys.stdout.write(table(columns, [[row.get(key) for key in columns] for row in rows[:_SHOWN]]))
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN} more")
    print_results({key: value for key, value in result.results().items() if value}, result.units())
    if result.folder is not None:
        say(f"written to {result.folder}/ (results.csv, report.html)")


def _dry_run(screening: Screening) -> int:
    """The plan of the workflow on the structures."""
    from atomml.cli.dry_run import dry_run
    from atomml.workflows.inputs import expand_sources

    return dry_run(screening.plan(expand_sources(screening.structures)))

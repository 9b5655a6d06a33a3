"""``atomml property vacancies|vacancies-train``: vacancies of many crystals, and their regressor."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from atomml.cli.parsing import Parser, add_flags, calculator_settings, resolve_flags
from atomml.cli.screen import show_screen
from atomml.cli.workflow import (
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
from atomml.workflows.defects.vacancy_survey import COMMAND, VacancySurveyOptions
from atomml.workflows.screens.screening import ScreenOptions

__all__ = ["run_train", "run_vacancies"]


def run_vacancies(name: str, argv: Sequence[str]) -> int:
    """``atomml property vacancies STRUCTURES --model M``; returns the exit code."""
    about = "A vacancy on every site of every crystal: E(defect) - E(perfect) + mu, a row for each."
    specs = {
        "options of property vacancies": option_specs(VacancySurveyOptions),
        "options of the screen": {k: v for k, v in option_specs(ScreenOptions).items() if k != "folders"},
    }
    given, values, found = _understood(COMMAND, about, argv, specs)
    if found.dry_run:
        return _dry_run(given, values, found)
    from atomml.cli.display import run_shown
    from atomml.workflows import survey_vacancies

    with run_shown(COMMAND, found):
        result = survey_vacancies(**given, resume=found.resume, overwrite=found.overwrite, **values)
    return told(result, found, show_screen)


def run_train(name: str, argv: Sequence[str]) -> int:
    """``atomml property vacancies-train sites.extxyz --model M``; returns the exit code."""
    from atomml.workflows.defects.site_regression_training import SiteRegressionOptions

    command = "property vacancies-train"
    about = "Learn vacancy formation energies from features of the sites of perfect crystals."
    specs = {f"options of {command}": option_specs(SiteRegressionOptions)}
    given, values, found = _understood(command, about, argv, specs)
    if found.dry_run:
        raise OptionError(f"--dry-run is not offered by atomml {command}, which is short.")
    if found.resume:
        raise OptionError(f"atomml {command} is short, and starts anew: leave --resume out.")
    from atomml.cli.display import print_json, print_results, run_shown, say
    from atomml.workflows import train_site_regressor

    given.pop("threads")
    with run_shown(command, found):
        result = train_site_regressor(**given, overwrite=found.overwrite, **values)
    if found.json:
        print_json(result.summary)
    elif not found.quiet:
        print_results(result.results(), result.units())
        say(f"written to {result.folder}/ (report.html)")
    return 0


def _understood(
    command: str, about: str, argv: Sequence[str], groups: dict[str, dict[str, OptionSpec]]
) -> tuple[dict[str, Any], dict[str, Any], argparse.Namespace]:
    """Structures, model and folder as the function takes them; the options; the flags."""
    own = {key: spec for specs in groups.values() for key, spec in specs.items()}
    shared = {key: spec for key, spec in option_specs(SharedOptions).items() if key not in own}
    parser = Parser(f"atomml {command}", about)
    parser.add_argument("structures", nargs="*", metavar="STRUCTURE", help="files, folders, patterns")
    for title, specs in groups.items():
        add_flags(parser, specs, title)
    add_flags(parser, shared, "model and folder")
    add_control_flags(parser)
    found = parser.parse(argv)
    values = resolve_flags(own | shared, found, command, extra=("structures", "calculator", "workflow"))
    named = named_structures(found, command)
    if not named:
        raise OptionError(f"atomml {command} needs crystals: name files, folders or patterns.")
    set_threads(threads := values.pop("threads"))
    model = with_dispersion(values.pop("model"), values.pop("dispersion"))
    settings = calculator_settings(found, command, [model])
    given = {
        "structures": marked_for_ordering(named, values),
        "model": _model(model, settings, found),
        "out": values.pop("out") or _folder(command, named),
        "threads": threads,
    }
    return given, values, found


def _dry_run(given: dict[str, Any], values: dict[str, Any], found: argparse.Namespace) -> int:
    """Print what the survey would compute and about how long it takes; returns 0."""
    from atomml.cli.display import logging_to_stderr, print_json, say, table
    from atomml.cli.dry_run import duration
    from atomml.workflows.defects.vacancy_survey_plan import plan_survey

    with logging_to_stderr(found.quiet, found.debug):
        plan = plan_survey(**given, **values)
    if found.json:
        print_json(plan)
        return 0
    sizes, seconds, step = plan["supercell_atoms"], plan["estimated_s"], plan["relaxation_step_s"]
    vacancies = ", ".join(f"{count} {element}" for element, count in plan["vacancies_by_element"].items())
    cells = None if sizes is None else f"{sizes['least']} to {sizes['most']}, median {sizes['median']:g}"
    rows = [
        ["crystals", plan["crystals"]],
        ["of which fail", plan["crystals_that_fail"] or None],
        ["vacancies", f"{plan['vacancies']} ({vacancies})" if vacancies else 0],
        ["atoms of a cell", cells],
        ["model", f"{plan['model']['name']} ({plan['model'].get('dtype', '-')})"],
        ["workers", plan["workers"]],
        ["time", None if seconds is None else f"about {duration(seconds)}, without relaxations"],
        ["a step of all relaxations", None if step is None else f"about {duration(step)}"],
        ["folder", f"{plan['out']}/" + (" (exists)" if plan["out_exists"] else "")],
    ]
    say("Plan (nothing is written):")
    say(table([], [["  " + name, value] for name, value in rows if value is not None]).rstrip("\n"))
    for failure in plan["failures"]:
        say(f"fails: {failure}")
    return 0


def _model(name: str, settings: dict[str, Any], found: argparse.Namespace) -> Any:
    """Its name, or an ASE calculator made from its class."""
    if not name.startswith("ase:"):
        return name
    from atomml.workflows.inputs import given_model

    allowed = found.allow_code or "model" in vars(found)
    return given_model(name, calculator=settings, allow_code=allowed)


def _folder(command: str, named: Sequence[str]) -> str:
    from atomml.run import default_folder

    return str(default_folder(command.replace(" ", "-"), named[0].partition("@")[0]))

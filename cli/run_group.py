"""What the subcommands of groups that write run folders share: flags, named inputs, the call, the table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from atomml.cli.parsing import Parser, add_flags, layers_of, resolve_flags
from atomml.cli.workflow import add_control_flags, set_threads
from atomml.config import option_specs
from atomml.errors import OptionError

__all__ = ["call_shown", "named", "parse_group", "parse_needed", "refuse_resume"]

_NOT_SHOWN = ("rows", "errors")


def parse_group(
    command: str, parser: Parser, options: type, argv: Sequence[str], beside: tuple[str, ...]
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Flags and option values of a subcommand that writes a run folder.

    Args:
        command: Group and subcommand.
        parser: Knows the subcommand's own arguments.
        options: The dataclass of its options.
        argv: Its arguments.
        beside: Keys that its configuration may hold beside the options.

    Raises:
        OptionError: A flag or option that does not exist, or a wrong value.
    """
    folder = f"run folder; {command.replace(' ', '-')}-STEM if not given"
    parser.add_argument("--out", default=argparse.SUPPRESS, metavar="FOLDER", help=folder)
    parser.add_argument("--threads", type=int, default=argparse.SUPPRESS, metavar="N", help="CPU threads")
    specs = option_specs(options)
    add_flags(parser, specs, f"options of {command}")
    add_control_flags(parser)
    found = parser.parse(argv)
    extra = (*beside, "out", "threads", "json", "quiet")
    return found, resolve_flags(specs, found, command, extra=extra)


def parse_needed(
    command: str,
    parser: Parser,
    options: type,
    argv: Sequence[str],
    beside: tuple[str, ...],
    needs: str,
    required: Sequence[str] = (),
) -> tuple[argparse.Namespace, dict[str, Any], dict[str, Any]]:
    """What every subcommand of such a group begins with: flags, what is beside the options, option values.

    Args:
        command: Group and subcommand.
        parser: Knows the subcommand's own arguments.
        options: The dataclass of its options.
        argv: Its arguments.
        beside: Keys that its configuration may hold beside the options.
        needs: What it needs, for the error.
        required: Those of ``beside`` that must be there; all of them if none are named.

    Raises:
        OptionError: A wrong flag or value, something missing, or ``--dry-run``, of which there is none.
    """
    found, values = parse_group(command, parser, options, argv, beside)
    given = named(found, command, beside)
    if found.dry_run:
        raise OptionError(f"--dry-run is not offered by atomml {command}.")
    if not all(given.get(key) for key in required or beside):
        raise OptionError(f"atomml {command} needs {needs}.")
    return found, given, values


def named(found: argparse.Namespace, command: str, keys: Sequence[str]) -> dict[str, Any]:
    """What is beside the options: flags over ``--set`` over the configuration."""
    given: dict[str, Any] = {}
    for _, layer in layers_of(found, command):
        given |= {key: layer[key] for key in (*keys, "out", "threads") if key in layer}
    flags = {key: value for key, value in vars(found).items() if value not in (None, [])}
    given |= {key: flags[key] for key in (*keys, "out", "threads") if key in flags}
    threads = given.pop("threads", None)
    set_threads(None if threads is None else int(threads))
    return given


def refuse_resume(found: argparse.Namespace, command: str) -> None:
    """Refuse ``--resume`` of a subcommand that keeps no state.

    Raises:
        OptionError: It was given.
    """
    if found.resume:
        raise OptionError(f"atomml {command} is short, and starts anew: leave --resume out.")


def call_shown(title: str, found: argparse.Namespace, function: Any, **given: Any) -> int:
    """Call the workflow under a progress bar, and print what it found; 3 where a part of it failed."""
    from atomml.cli.display import print_json, print_results, run_shown, say
    from atomml.run import default_folder

    read: Any = (
        given.get("structures")
        or given.get("data")
        or given.get("train")
        or given.get("path")
        or given.get("reactions")
        or given.get("structure")
    )
    first = str(read[0] if isinstance(read, list | tuple) else read)
    given.setdefault("out", str(default_folder(title.replace(" ", "-"), first.partition("@")[0])))
    with run_shown(title, found):
        result = function(overwrite=found.overwrite, **given)
    if not result.summary:  # a process beside the first one of a training: that one says everything
        return 0
    if found.json:
        print_json(result.summary)
    elif not found.quiet:
        shown = {key: value for key, value in result.results().items() if key not in _NOT_SHOWN}
        print_results(shown, result.units())
        say(f"written to {result.folder}/ (report.html)")
    return 0 if result.converged else 3

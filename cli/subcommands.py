"""Commands that are groups, such as ``atomml data`` and ``atomml hamiltonian``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from atomml.config import close_match
from atomml.errors import OptionError

__all__ = ["Subcommand", "run_subcommand"]


class Subcommand(NamedTuple):
    """A subcommand: ``module:function`` and one line of help.

    The function gets the name of the subcommand and its arguments, and returns the exit code.
    """

    target: str
    help: str


def run_subcommand(group: str, summary: str, known: Mapping[str, Subcommand], argv: Sequence[str]) -> int:
    """Find the subcommand and run it; returns the exit code.

    Raises:
        OptionError: There is no such subcommand; names the closest one.
    """
    arguments = list(argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_overview(group, summary, known))
        return 0 if arguments else 2
    action, *rest = arguments
    if action not in known:
        hint = close_match(action, known, f"there are {', '.join(known)}.")
        raise OptionError(f"There is no 'atomml {group} {action}'; {hint}")
    module, _, function = known[action].target.partition(":")
    return int(getattr(import_module(module), function)(action, rest))


def _overview(group: str, summary: str, known: Mapping[str, Subcommand]) -> str:
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {sub.help}" for name, sub in known.items()]
    return "\n".join(
        [
            f"usage: atomml {group} SUBCOMMAND ...",
            "",
            summary,
            "",
            "subcommands:",
            *lines,
            "",
            f"'atomml {group} SUBCOMMAND --help' says more.",
            "",
        ]
    )

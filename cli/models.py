"""``atomml models list|info|verify|add|remove``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from atomml.cli.parsing import Parser
from atomml.config import close_match
from atomml.errors import OptionError

__all__ = ["run"]


def run(name: str, argv: Sequence[str]) -> int:
    """Do what the first argument says; returns the exit code."""
    parser = Parser("atomml models", "What models there are, and models of your own.")
    parser.add_argument("action", metavar="|".join(_ACTIONS), help="what to do")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names or files")
    parser.add_argument("--name", help="name of an added model; else the stem of its file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing that the exit code does not")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    found = parser.parse(argv)
    if found.action not in _ACTIONS:
        hint = close_match(found.action, _ACTIONS, f"there are {', '.join(_ACTIONS)}.")
        raise OptionError(f"There is no 'atomml models {found.action}'; {hint}")
    if found.action != "list" and not found.models:
        raise OptionError(f"atomml models {found.action} needs a model: name one, or a file.")
    _ACTIONS[found.action](found)
    return 0


def _list(found: argparse.Namespace) -> None:
    from dataclasses import asdict

    from atomml.cli.display import print_json, say, table
    from atomml.registry import METHODS, model_entries

    entries = model_entries()
    if found.json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [[entry.name, ", ".join(entry.aliases), entry.source, entry.summary] for entry in entries]
    rows += [[name, "", "method", what] for name, what in METHODS.items()]
    say(table(["name", "also", "source", "what it is"], rows).rstrip("\n"))


def _info(found: argparse.Namespace) -> None:
    from atomml.cli.display import print_json, say, table
    from atomml.registry import model_card

    cards = [model_card(name) for name in found.models]
    if found.json:
        print_json(cards if len(cards) > 1 else cards[0])
        return
    units = {"cutoff": "Å", "bond_cutoff": "Å", "interaction_range": "Å"}
    for card in cards:
        rows = [
            [key.replace("_", " "), f"{_brief(value)} {units.get(key, '')}".strip()]
            for key, value in card.items()
            if value not in (None, "", [], ()) and key != "training"
        ]
        if card["training"]:
            from atomml.ancestry import card_lines

            rows += [list(line) for line in card_lines(card["training"])]
        say(table([], rows).rstrip("\n"))


def _brief(value: object) -> str:
    if isinstance(value, list):
        words = [str(item) for item in value]
        return f"{len(words)}: {' '.join(words)}" if len(words) > 5 else ", ".join(words)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _verify(found: argparse.Namespace) -> None:
    from atomml.cli.display import print_json, say
    from atomml.registry import verify_model

    digests = {name: verify_model(name) for name in found.models}
    if found.json:
        print_json(digests)
    elif not found.quiet:
        for name, digest in digests.items():
            say(f"{name}: whole, sha256 {digest}")


def _add(found: argparse.Namespace) -> None:
    from pathlib import Path

    from atomml.cli.display import print_json, say
    from atomml.registry import add_model

    if found.name and len(found.models) > 1:
        raise OptionError("--name names one model: add the others with commands of their own.")
    added = [add_model(file, found.name or Path(file).stem.lower()) for file in found.models]
    if found.json:
        print_json([entry.name for entry in added])
    elif not found.quiet:
        for entry in added:
            say(f"added {entry.name} ({entry.target})")


def _remove(found: argparse.Namespace) -> None:
    from atomml.cli.display import print_json, say
    from atomml.registry import remove_model

    for name in found.models:
        remove_model(name)
    if found.json:
        print_json(found.models)
    elif not found.quiet:
        say(f"removed {', '.join(found.models)}")


_ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "list": _list,
    "info": _info,
    "verify": _verify,
    "add": _add,
    "remove": _remove,
}

"""From options dataclasses to flags, and from flags, YAML and ``--set`` to checked values."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from atomml.config import OptionSpec, close_match, parse_assignment, read_yaml, resolve
from atomml.errors import OptionError
from atomml.option_types import describe_type

__all__ = ["Parser", "add_flags", "calculator_settings", "join_negative_values", "layers_of", "resolve_flags"]

_NUMBERS = re.compile(r"-\.?\d[\d.,eE+:-]*")
# What a run folder's config.yaml says beside its options. That code may be imported is said on
# the command line only: a file that came from elsewhere must not be able to.
_NOT_FROM_A_FILE = frozenset({"command", "version", "allow_code"})


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence and the exit code 2."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving.

        Raises:
            OptionError: Always.
        """
        raise OptionError(f"{message.rstrip('.')} ('{self.prog} --help' lists the options).")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse, with structures and flags in any order.

        Raises:
            OptionError: A flag that does not exist (with the closest one), or one without its value.
        """
        found, unknown = self.parse_known_intermixed_args(join_negative_values(argv))
        if unknown:
            flag = unknown[0].split("=")[0]
            hint = close_match(flag, self._option_string_actions, f"'{self.prog} --help' lists the options.")
            raise OptionError(f"{self.prog}: there is no option {flag}; {hint}")
        return found


def add_flags(parser: Parser, specs: Mapping[str, OptionSpec], title: str) -> None:
    """One flag per option, in a group of the help; a flag that is not given leaves no trace."""
    group = parser.add_argument_group(title)
    for spec in specs.values():
        if spec.is_group:
            continue
        text = _help(spec).replace("%", "%%")
        if spec.type is bool:
            group.add_argument(
                spec.flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            group.add_argument(
                spec.flag, default=argparse.SUPPRESS, metavar=_metavar(spec), help=text, dest=spec.name
            )


def resolve_flags(
    specs: Mapping[str, OptionSpec],
    found: argparse.Namespace,
    command: str,
    extra: Iterable[str] = (),
    weakest: Iterable[tuple[str, dict[str, Any]]] = (),
) -> dict[str, Any]:
    """Every option's value, after ``--config``, ``--set`` and flags.

    Args:
        specs: The options of the command.
        found: What was parsed; holds ``config`` and ``set`` beside the flags.
        command: The command, which a run folder's own ``config.yaml`` names.
        extra: Keys of the configuration that are no options, such as ``structures``; left out here.
        weakest: Values that all others stand above, with where they are from.

    Raises:
        OptionError: As :func:`atomml.config.resolve`.
    """
    skip = set(extra)
    layers = [
        (where, {k: v for k, v in values.items() if k not in skip})
        for where, values in layers_of(found, command)
    ]
    given = {name: value for name, value in vars(found).items() if name in specs}
    flags = [(specs[name].flag, {name: value}) for name, value in given.items()]
    return resolve(specs, [*weakest, *layers, *flags])


def layers_of(found: argparse.Namespace, command: str) -> list[tuple[str, dict[str, Any]]]:
    """What ``--config`` and each ``--set`` say, the weakest first.

    Raises:
        OptionError: The configuration is that of another command.
    """
    layers = []
    if found.config is not None:
        values = read_yaml(found.config)
        if values.get("command", command) != command:
            raise OptionError(
                f"{found.config} is a configuration of 'atomml {values['command']}', not of '{command}'."
            )
        layers.append((found.config, {k: v for k, v in values.items() if k not in _NOT_FROM_A_FILE}))
    layers += [(f"--set {text}", parse_assignment(text)) for text in found.set]
    return layers


def calculator_settings(found: argparse.Namespace, command: str, models: Sequence[Any]) -> dict[str, Any]:
    """Keyword arguments for the one model that is ``ase:MODULE:CLASS``: ``--set calculator.NAME=VALUE``.

    What a configuration file says may start programs (the command of a code that ASE calls), so it
    counts only with ``--allow-code``; text becomes a number, a truth value, a list ... where it is one.

    Raises:
        OptionError: There are some and no such model or several, or they come from a file alone.
    """
    settings: dict[str, Any] = {}
    for where, layer in layers_of(found, command):
        given = layer.get("calculator")
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise OptionError(f"{where}: calculator is a group: give calculator.NAME = value.")
        if where == found.config and given and not found.allow_code:
            raise OptionError(f"{where}: calculator.* may run code: pass it with --set, or add --allow-code.")
        settings |= {str(key): _literal(value) for key, value in given.items()}
    named = [str(model) for model in models if str(model).startswith("ase:")]
    if settings and len(named) != 1:
        problem = "several are named" if named else "none is named"
        raise OptionError(
            f"calculator.{next(iter(settings))} belongs to one --model ase:MODULE:CLASS, and {problem}."
        )
    return settings


def _literal(value: Any) -> Any:
    """Text as the number, list, truth value or None that it looks like; anything else as it is."""
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "none": None, "null": None}
    if value.strip().lower() in words:
        return words[value.strip().lower()]
    for read in (int, float, json.loads):
        try:
            return read(value)
        except ValueError:
            continue
    return value


def join_negative_values(argv: Sequence[str]) -> list[str]:
    """``--pressure -1e-3`` as ``--pressure=-1e-3``: argparse takes such a value for a flag."""
    joined: list[str] = []
    for word in argv:
        before = joined[-1] if joined else ""
        if _NUMBERS.fullmatch(word) and before.startswith("--") and "=" not in before and before != "--":
            joined[-1] = f"{before}={word}"
        else:
            joined.append(word)
    return joined


def _help(spec: OptionSpec) -> str:
    notes = [spec.unit] if spec.unit else []
    if spec.default is not None and spec.default != "":
        default = spec.default
        if isinstance(default, bool):
            default = "on" if default else "off"
        elif isinstance(default, tuple):
            default = ",".join(map(str, default))
        notes.append(f"default {default}")
    return f"{spec.help} [{', '.join(notes)}]" if notes else spec.help


def _metavar(spec: OptionSpec) -> str:
    if spec.metavar:
        return spec.metavar
    if spec.choices:
        return "|".join(spec.choices)
    words = {"a whole number": "N", "a number": "X", "text": "TEXT", "a path": "PATH"}
    return words.get(describe_type(spec.type), "A,B,...")

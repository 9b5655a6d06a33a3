"""One definition per option: a dataclass field that the command line, YAML and Python share.

A workflow declares a plain dataclass whose fields are made by :func:`option`; the
command line makes flags of them, ``--config`` reads them, and Python passes them as
keyword arguments. Nothing here imports more than the standard library, because
``atomml COMMAND --help`` reads these classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

__all__ = ["option"]


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: Sequence[str] = (),
    metavar: str = "",
) -> Any:
    """A dataclass field with its help text, unit and allowed range.

    Args:
        default: The value when nobody says otherwise; its type, with the annotation, is the option's type.
        help: One line for ``--help`` and the docs.
        unit: Unit of the value, shown in the help and in ``config.yaml``.
        minimum: Smallest allowed value (inclusive).
        maximum: Largest allowed value (inclusive).
        above: Lower bound that is itself not allowed.
        choices: The allowed strings, if there are few.
        metavar: What stands for the value in the help.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "choices": tuple(choices),
        "metavar": metavar,
    }
    if isinstance(default, (list, dict, set)):
        raise TypeError("use a tuple or None as the default of an option")
    return dataclasses.field(default=default, metadata=metadata)

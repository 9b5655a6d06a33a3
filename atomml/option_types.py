"""Values of options: text, YAML and Python objects turned into the type that an annotation names."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["as_type", "describe_type"]

_WORDS_TRUE = frozenset({"true", "yes", "on", "1"})
_WORDS_FALSE = frozenset({"false", "no", "off", "0"})


def as_type(value: Any, kind: Any) -> Any:
    """The value as ``kind``: bool, int, float, str, Path, a tuple, a Literal or a union of them.

    Raises:
        ValueError: It cannot be read as one; TypeError or OverflowError likewise.
    """
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _as_first_of(value, typing.get_args(kind))
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError
        return value
    if kind is tuple or origin is tuple:
        return _as_tuple(value, typing.get_args(kind))
    if kind is bool:
        return _as_bool(value)
    if isinstance(value, bool):
        raise TypeError
    if kind is int:
        return _as_int(value)
    if kind is float:
        return _as_float(value)
    if kind is str:
        return _as_text(value)
    if kind is Path:
        return Path(_as_text(value))
    raise TypeError(f"options of type {kind} are not supported")


def _as_first_of(value: Any, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            return as_type(value, kind)
        except (ValueError, TypeError, OverflowError):
            continue
    raise ValueError


def _as_tuple(value: Any, kinds: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(value, str):
        items: list[Any] = [part.strip() for part in value.split(",")] if value.strip() else []
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        items = [value]
    if not kinds:
        return tuple(items)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(as_type(item, kinds[0]) for item in items)
    return tuple(as_type(item, kind) for item, kind in zip(items, kinds, strict=True))


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _WORDS_TRUE | _WORDS_FALSE:
        raise ValueError
    return word in _WORDS_TRUE


def _as_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)  # 1e6 is a whole number too
    number = int(value)
    if number != value:
        raise ValueError
    return number


def _as_float(value: Any) -> float:
    if not isinstance(value, str | int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _as_text(value: Any) -> str:
    if not isinstance(value, str | int | float | Path):
        raise TypeError
    return str(value)


def describe_type(kind: Any) -> str:
    """What a value of this type is, in words: ``a whole number``."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    origin = typing.get_origin(kind)
    if kind in names:
        return names[kind]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(part) for part in typing.get_args(kind))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    parts = typing.get_args(kind)
    if origin is tuple and Ellipsis not in parts:
        return f"{len(parts)} values separated by commas, each {describe_type(parts[0])}"
    return "values separated by commas"

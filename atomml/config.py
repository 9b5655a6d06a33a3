"""Options from their dataclass: conversion, ranges, and the layers default < YAML < ``--set`` < flag.

Only the standard library is imported here: ``atomml COMMAND --help`` reads this module.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from atomml.errors import FileFormatError, OptionError
from atomml.option_types import as_type, describe_type

__all__ = [
    "OptionSpec",
    "as_config",
    "build_options",
    "close_match",
    "convert",
    "option_specs",
    "option_units",
    "parse_assignment",
    "read_yaml",
    "resolve",
]

T = TypeVar("T")
_LARGEST_YAML = 1 << 20


@dataclass(frozen=True)
class OptionSpec:
    """One option: a field of an options dataclass with its metadata.

    Attributes:
        name: Name of the field; the YAML key, the Python argument, and with dashes the flag.
        type: Its type without the ``None`` of an optional one; a dataclass for a nested group.
        optional: Whether None is allowed.
        default: Value when nobody says otherwise.
        help: One line.
        unit: Unit of the value.
        minimum: Smallest allowed value.
        maximum: Largest allowed value.
        above: Lower bound that is itself not allowed.
        choices: The allowed strings.
        metavar: What stands for the value in the help.
    """

    name: str
    type: Any
    optional: bool
    default: Any
    help: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_group(self) -> bool:
        """Whether the option is itself a dataclass of options, reached by ``--set name.key=value``."""
        return dataclasses.is_dataclass(self.type)

    def describe(self) -> str:
        """What a value must be, as the end of a sentence."""
        kind = "one of " + ", ".join(self.choices) if self.choices else describe_type(self.type)
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("above", self.above), ("at least", self.minimum), ("at most", self.maximum))
            if bound is not None
        ]
        text = f"{kind}, {' and '.join(bounds)}" if bounds else kind
        text += f" ({self.unit})" if self.unit else ""
        return text + (" or none" if self.optional else "")


def option_specs(cls: type) -> dict[str, OptionSpec]:
    """The options of a dataclass by name, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    specs = {}
    for entry in dataclasses.fields(cls):
        kind, optional = _without_none(hints[entry.name])
        if entry.default is not dataclasses.MISSING:
            default = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            default = entry.default_factory()
        else:
            raise TypeError(f"{cls.__name__}.{entry.name} needs a default to be an option")
        known = {
            key: value for key, value in entry.metadata.items() if key in OptionSpec.__dataclass_fields__
        }
        specs[entry.name] = OptionSpec(entry.name, kind, optional, default, **known)
    return specs


def option_units(cls: type) -> dict[str, str]:
    """Unit of each option that has one."""
    return {name: spec.unit for name, spec in option_specs(cls).items() if spec.unit}


def build_options(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of an options dataclass from values of any source, checked.

    Args:
        cls: The dataclass.
        values: Option by name; text is converted to the option's type.
        where: Source of the values for messages, such as a file name.

    Raises:
        OptionError: An option that does not exist, a value of the wrong type or out of its range.
    """
    return cls(**resolve(option_specs(cls), [(where, values)]))


def resolve(
    specs: Mapping[str, OptionSpec], layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Every option's value: the default, or what the last layer that names it says.

    Args:
        specs: The options that exist.
        layers: Pairs of a source for messages and its values, the weakest first.

    Raises:
        OptionError: An option that does not exist, a value of the wrong type or out of its range.
    """
    values = {name: spec.default for name, spec in specs.items()}
    for where, layer in layers:
        for key, value in layer.items():
            name = str(key).replace("-", "_")
            if name not in specs:
                raise OptionError(_unknown(str(key), specs, where))
            spec = specs[name]
            if spec.is_group:
                values[name] = _merge_group(spec, values[name], value, where)
            else:
                values[name] = convert(spec, value, where)
    return values


def convert(spec: OptionSpec, value: Any, where: str = "") -> Any:
    """The value in the option's type, checked against its range and choices.

    Raises:
        OptionError: One sentence with what the value must be.
    """
    if value is None or (
        isinstance(value, str) and value.strip().lower() in ("none", "null") and spec.optional
    ):
        if spec.optional:
            return None
        raise OptionError(_wrong(spec, value, where))
    try:
        converted = as_type(value, spec.type)
    except (ValueError, TypeError, OverflowError):
        raise OptionError(_wrong(spec, value, where)) from None
    if not _in_range(spec, converted):
        raise OptionError(_wrong(spec, value, where))
    return converted


def parse_assignment(text: str) -> dict[str, Any]:
    """``a.b=c`` as ``{"a": {"b": "c"}}``.

    Raises:
        OptionError: There is no ``=`` or a name is empty.
    """
    key, equals, value = text.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise OptionError(f"--set {text}: write it as NAME=VALUE or GROUP.NAME=VALUE.")
    nested: Any = value.strip()
    for name in reversed(names):
        nested = {name: nested}
    return dict(nested)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds one mapping; duplicate keys and aliases are refused.

    Raises:
        FileFormatError: The file cannot be read, is no YAML, or holds something else.
    """
    import yaml

    try:
        data = Path(path).read_bytes()
        if len(data) > _LARGEST_YAML:
            raise FileFormatError(f"{path}: larger than 1 MB, which no configuration is.")
        tree = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
        _check_tree(tree, path, set())
        content = yaml.safe_load(data) if tree is not None else {}
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8 text at byte {error.start}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise FileFormatError(
            f"{path}{line}: not YAML ({getattr(error, 'problem', None) or error})."
        ) from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: a configuration is a list of 'name: value' lines.")
    return content


def as_config(options: Any) -> dict[str, Any]:
    """An options dataclass as a mapping for ``config.yaml``; groups as nested mappings."""
    return dataclasses.asdict(options)


def close_match(word: str, known: Iterable[str], missing: str = "") -> str:
    """``did you mean 'x'?``, or ``missing`` where nothing is close."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{found[0]}'?" if found else missing


def _check_tree(node: Any, path: str | Path, seen: set[int]) -> None:
    """Refuse what safe_load passes over in silence: a key given twice, and aliases, which can blow up."""
    if node is None:
        return
    if id(node) in seen:
        raise FileFormatError(
            f"{path}, line {node.start_mark.line + 1}: aliases (&, *) are not allowed here."
        )
    seen.add(id(node))
    if node.id == "mapping":
        names: set[str] = set()
        for key, value in node.value:
            if key.value in names:
                raise FileFormatError(f"{path}, line {key.start_mark.line + 1}: {key.value} is given twice.")
            names.add(str(key.value))
            _check_tree(value, path, seen)
    elif node.id == "sequence":
        for item in node.value:
            _check_tree(item, path, seen)


def _merge_group(spec: OptionSpec, present: Any, value: Any, where: str) -> Any:
    if isinstance(value, spec.type):
        return value
    if not isinstance(value, Mapping):
        raise OptionError(f"{_place(where)}{spec.name} is a group of options: give {spec.name}.NAME = value.")
    layers = [("", dataclasses.asdict(present)), (where, value)]
    return spec.type(**resolve(option_specs(spec.type), layers))


def _place(where: str) -> str:
    return f"{where}: " if where else ""


def _wrong(spec: OptionSpec, value: Any, where: str) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{_place(where)}{spec.name} must be {spec.describe()}, not {shown}."


def _unknown(key: str, specs: Mapping[str, OptionSpec], where: str) -> str:
    shown = key if len(key) <= 60 else key[:57] + "..."
    hint = close_match(key.replace("-", "_"), specs, "the command's --help lists them.")
    return f"{_place(where)}there is no option {shown!r}; {hint}"


def _without_none(kind: Any) -> tuple[Any, bool]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = tuple(part for part in typing.get_args(kind) if part is not types.NoneType)
        if len(rest) < len(typing.get_args(kind)):
            return (rest[0] if len(rest) == 1 else typing.Union[rest]), True  # noqa: UP007 (made at run time)
    return kind, False


def _in_range(spec: OptionSpec, value: Any) -> bool:
    if spec.choices and any(
        item not in spec.choices for item in (value if isinstance(value, tuple) else (value,))
    ):
        return False
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if spec.above is not None and not number > spec.above:
            return False
        if spec.minimum is not None and number < spec.minimum:
            return False
        if spec.maximum is not None and number > spec.maximum:
            return False
    return True

"""The comment line of extended XYZ: ``key=value`` pairs, read strictly and written exactly.

The grammar is the one that ASE reads and writes: values bare or between ``""``, ``''``, ``{}`` or
``[]``, backslash as escape, arrays of numbers separated by blanks, ``T`` and ``F``, and JSON after
``_JSON``. What ASE passes over in silence is refused here: a quote that is never closed, a key
given twice, a key without a value after its ``=``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from atomml.errors import FileFormatError
from atomml.untrusted_json import parse_json

__all__ = ["MATRIX_KEYS", "format_pair", "parse_pairs", "parse_value"]

MATRIX_KEYS = ("Lattice", "stress", "virial")
"""Keys whose nine numbers are a matrix, its first index running fastest."""

VERBATIM_KEYS = ("uid",)
"""Keys (in lower case) whose value stays text whatever it looks like."""

INTEGER = re.compile(r"[+-]?[0-9]+")
REAL = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE
)
_BOOLEANS = {word: word[0] in "Tt" for word in ("T", "F", "true", "false", "True", "False", "TRUE", "FALSE")}
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}
_PLAIN = re.compile(r"[A-Za-z0-9_.:/+()^*@%-]+")


def parse_pairs(line: str) -> dict[str, Any]:
    """Keys and converted values of a comment line.

    Raises:
        FileFormatError: What is wrong, without the file's name, which the caller adds.
    """
    pairs: dict[str, Any] = {}
    for key, text in _split(line):
        if not key:
            raise FileFormatError("the comment line has a value without a key")
        if key in pairs:
            raise FileFormatError(f"the comment line gives {key} twice")
        pairs[key] = True if text is None else parse_value(key, text)
    return pairs


def parse_value(key: str, text: str) -> Any:
    """What a value's text stands for: number, boolean, array, JSON, or the text itself.

    Arrays of numbers are numpy arrays, arrays of booleans are too.
    """
    if key.lower() in VERBATIM_KEYS:
        return text
    words = re.findall(r"[^\s,]+", text)
    value: Any = text
    if words and all(INTEGER.fullmatch(word) for word in words):
        value = _integers(words)
    elif words and all(REAL.fullmatch(word) for word in words):
        value = _one_or_array([float(word) for word in words])
    elif words and all(word in _BOOLEANS for word in words):
        value = _one_or_array([_BOOLEANS[word] for word in words])
    elif text.startswith("_JSON "):
        value = _parse_json(key, text.removeprefix("_JSON "))
    elif text.startswith("[["):  # the nested arrays of newer writers
        value = _parse_json(key, text)
    return _matrix(key, value) if key in MATRIX_KEYS else value


def _integers(words: list[str]) -> Any:
    numbers = [int(word) for word in words]
    if max(map(abs, numbers)) > np.iinfo(np.int64).max:
        return _one_or_array([float(number) for number in numbers])
    return _one_or_array(numbers)


def _one_or_array(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else np.array(values)


def _matrix(key: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.size != 9 or value.dtype.kind not in "if":
        raise FileFormatError(f"{key} is not nine numbers")
    # nested arrays list rows; flat ones run down the columns of the matrix
    rows = value if value.shape == (3, 3) else value.reshape((3, 3), order="F")
    matrix = np.array(rows, dtype=float)
    return matrix.T if key == "Lattice" and value.shape == (3, 3) else matrix


def _parse_json(key: str, text: str) -> Any:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise FileFormatError(f"the JSON of {key} in the comment line is malformed") from error
    if isinstance(content, dict) and content.keys() == {"ragged"}:
        return content["ragged"]
    if not isinstance(content, list):
        return content
    try:
        array = np.array(content)
    except ValueError:  # lists of unequal length stay lists
        return content
    return array if array.dtype.kind in "ifb" else content


def _split(line: str) -> Iterator[tuple[str, str | None]]:
    """Keys and the raw text of their values; None for a key alone."""
    position = _skip_blanks(line, 0)
    while position < len(line):
        key, position = _piece(line, position, stop="=")
        after = _skip_blanks(line, position)
        if line[after : after + 1] != "=":
            yield key, None
            position = after
            continue
        start = _skip_blanks(line, after + 1)
        text, position = _piece(line, start, stop="")
        if start == len(line) or (start > after + 1 and _looks_like_pair(line[start:position])):
            raise FileFormatError(f"{key} in the comment line has no value after its '='")
        yield key, text
        position = _skip_blanks(line, position)


def _looks_like_pair(text: str) -> bool:
    return re.match(r"[A-Za-z_][\w-]*=", text) is not None


def _skip_blanks(line: str, position: int) -> int:
    while position < len(line) and line[position].isspace():
        position += 1
    return position


def _piece(line: str, position: int, stop: str) -> tuple[str, int]:
    """Text up to a blank or ``stop`` outside quotes and brackets, without its delimiters."""
    out: list[str] = []
    while position < len(line):
        char = line[position]
        if char.isspace() or char == stop:
            break
        if char == "\\":
            out.append(line[position + 1 : position + 2])
            position += 2
        elif char in _CLOSING:
            text, position = _delimited(line, position)
            out.append(text)
        else:
            out.append(char)
            position += 1
    return "".join(out), position


def _delimited(line: str, start: int) -> tuple[str, int]:
    """The inside of quotes or brackets, and the position after them; nested brackets are kept."""
    opening, closing = line[start], _CLOSING[line[start]]
    out: list[str] = []
    depth, position = 1, start + 1
    while position < len(line):
        char = line[position]
        if char == "\\":
            out.append(line[position + 1 : position + 2])
            position += 2
            continue
        if char == closing:
            depth -= 1
        elif char == opening:
            depth += 1
        if depth == 0:
            text = "".join(out)
            return (f"[{text}]" if opening == "[" and "[" in text else text), position + 1
        out.append(char)
        position += 1
    raise FileFormatError(f"the comment line opens {opening} and never closes it")


def format_pair(key: str, value: Any) -> str:
    """``key=value`` that :func:`parse_pairs` and ASE read back as the same value.

    Raises:
        TypeError: A value that JSON cannot hold.
    """
    if key.lower() in VERBATIM_KEYS:
        return f"{key}={_quote(str(value))}"
    if key in MATRIX_KEYS:
        return f'{key}="{" ".join(repr(float(v)) for v in np.ravel(value, order="F"))}"'
    return f"{key}={_format_value(key, value)}"


def _format_value(key: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        # an array of one or of no number, of booleans or with more axes keeps its shape as JSON
        if value.ndim == 1 and value.size > 1 and value.dtype.kind in "if":
            return '"' + " ".join(repr(v) for v in value.tolist()) + '"'
        return _format_json(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int) and abs(value) <= np.iinfo(np.int64).max:
        return repr(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and _is_safe_word(key, value):
        return value
    return _format_json(value)


def _is_safe_word(key: str, text: str) -> bool:
    """Whether text without quotes stays text, in ASE too."""
    return (
        _PLAIN.fullmatch(text) is not None and parse_value(key, text) == text and not _is_python_number(text)
    )


def _is_python_number(text: str) -> bool:
    """Whether Python, and so ASE, takes the text for a number, as it does ``1_000``."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _format_json(value: Any) -> str:
    return _quote("_JSON " + json.dumps(_even(value), ensure_ascii=True))


def _even(value: Any) -> Any:
    """Lists of unequal length make ASE fail when it reads them, so they are wrapped."""
    if isinstance(value, list | tuple):
        try:
            np.array(value)
        except ValueError:
            return {"ragged": value}
    return value


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

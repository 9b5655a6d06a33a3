"""The guard counts brackets as JSON does: not those in strings."""

from __future__ import annotations

import json

import pytest

from atomml.untrusted_json import DEEPEST, parse_json


@pytest.mark.parametrize("kind", [str, bytes])
def test_as_deep_as_allowed_and_no_deeper(kind: type) -> None:
    def text(depth: int) -> str | bytes:
        written = '{"a": ' * (depth - 1) + "[1]" + "}" * (depth - 1)
        return written if kind is str else written.encode()

    assert parse_json(text(DEEPEST)) == json.loads(text(DEEPEST))
    with pytest.raises(ValueError, match="deep"):
        parse_json(text(DEEPEST + 1))


@pytest.mark.parametrize(
    "value",
    ["[" * 500, '"[' * 300, "\\" * 301 + '"[{' * 200, [[], {}] * 400, {"k": {"[": "{" * 200}}, 1.5, None],
)
def test_brackets_in_strings_and_side_by_side_do_not_count(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


def test_what_is_no_json_is_a_value_error() -> None:
    for text in ("", "[1", '{"a": "unclosed', b"\xff\xfe", "]" * 300):
        with pytest.raises(ValueError):  # noqa: PT011 - json's own
            parse_json(text)

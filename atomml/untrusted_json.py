"""JSON from files that anybody may have written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["DEEPEST", "parse_json"]

DEEPEST = 100
"""Brackets within brackets; no file of ours has ten."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]')


def parse_json(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """``json.loads``, but a text nested deeper than ``DEEPEST`` is refused before it is parsed.

    Python's own guard is the recursion limit, and packages raise it for the whole process (symfc, under
    phonopy, does): a file of brackets then ends the process with a segmentation fault.

    Args:
        text: What was read.
        object_hook: As that of ``json.loads``.

    Raises:
        ValueError: No JSON, or nested too deep.
    """
    depth = 0
    for token in _TOKENS.finditer(text.encode() if isinstance(text, str) else text):
        first = token.group()[:1]
        if first in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} deep")
        elif first in b"]}":
            depth -= 1
    return json.loads(text, object_hook=object_hook)

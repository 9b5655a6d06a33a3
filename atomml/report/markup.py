"""Text into HTML without a way out: every string of a report passes through here."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from xml.etree import ElementTree

from atomml.errors import FileFormatError

__all__ = ["check_svg", "clean", "embed_json", "escape", "slug"]

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_UNSAFE_URL = re.compile(r"url\(\s*['\"]?(?!#)", re.IGNORECASE)
_FORBIDDEN = frozenset({"script", "foreignObject", "iframe", "a", "style", "animate", "set"})


def clean(text: object) -> str:
    """``str(text)`` with U+FFFD for control characters and lone surrogates, which a file name may hold."""
    return _NOT_TEXT.sub("\ufffd", str(text))


def escape(text: object) -> str:
    """``str(text)``, cleaned, safe as element content and inside quoted attributes."""
    return html.escape(clean(text), quote=True)


def embed_json(value: Any) -> str:
    """Compact JSON that may stand inside a ``<script type="application/json">`` element.

    ``<``, ``>`` and ``&`` are written as escapes, so no value can close the element; NaN and
    infinity, which JSON has no word for, raise ``ValueError``.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def slug(text: str) -> str:
    """``text`` as a part of an anchor: lower-case ASCII letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "section"


def check_svg(svg: str) -> str:
    """``svg`` itself, if it is one well-formed SVG element that runs nothing and loads nothing.

    Raises:
        FileFormatError: It does not parse, or holds a script, an event handler or an outside reference.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise FileFormatError(f"a plot's SVG is not well-formed XML ({error}): draw it again.") from error
    if not root.tag.endswith("svg") or "<!" in svg:
        raise FileFormatError("a plot is not a bare <svg> element: pass the string of a plot function.")
    for element in root.iter():
        for key, value in element.attrib.items():
            attribute = key.rpartition("}")[2].lower()
            outside = attribute == "href" and not value.startswith(("#", "data:image/png;base64,"))
            if attribute.startswith("on") or outside or _UNSAFE_URL.search(value):
                raise FileFormatError(
                    f"a plot's SVG holds the attribute {attribute}={value[:60]!r}: remove it."
                )
        name = str(element.tag).rpartition("}")[2]
        if name in _FORBIDDEN:
            raise FileFormatError(f"a plot's SVG holds a <{name}> element: remove it.")
    return svg

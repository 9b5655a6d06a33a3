"""What matplotlib's SVG needs to stand inside a page: less of it, no clashes, the page's colours."""

from __future__ import annotations

import hashlib
import re

from atomml.report.markup import escape

__all__ = ["INK", "PALETTE", "finish_svg"]

INK = "#0a0b0d"
"""Stands for the page's text colour while matplotlib draws."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, without black (the page's ink) and yellow (too pale on white)."""

_OPENING = re.compile(r'<svg\b[^>]*?viewBox="([^"]*)"[^>]*>', re.DOTALL)
_STYLE_SHEET = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_IDENTIFIER = re.compile(r'\sid="([^"]*)"')
_REFERENCE = re.compile(r'(?:xlink:href="#|url\(#)([^")]+)')
_PATH = re.compile(r'\bd="([^"]*)"')
_DECIMALS = re.compile(r"(-?\d+\.\d{3,})")
_DOT = re.compile(r"M (\S+) (\S+) *\nL \1 \2 *\n?")
_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
_FONT = re.compile(r"(font(?:-family)?: [^;\"]*?)'[^;\"]*")
_SPACE = re.compile(r">\s+<")


def finish_svg(svg: str, title: str) -> str:
    """The SVG document of matplotlib as one element that can stand in a page beside others.

    The document's head, its style sheet (which would apply to the whole page) and names that
    nothing refers to go; the names that stay begin with a digest of the drawing, so two plots
    never share one. Coordinates keep 0.01 pt. Ink becomes ``currentColor``, and the palette's
    colours become variables that the page may set, with the colour itself as the default.
    """
    body = svg[svg.index("<svg") :].strip()
    body = _STYLE_SHEET.sub("", body)
    body = _PATH.sub(lambda match: f'd="{_shorter(match[1])}"', body)
    body = _COLOUR.sub(_page_colour, body)
    body = _FONT.sub(r"\1system-ui, sans-serif", body)
    body = _own_names(body)
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="plot" '
        f'role="img" aria-label="{escape(title)}" viewBox="\\1" '
        'style="stroke-linejoin: round; stroke-linecap: butt">'
    )
    body = _OPENING.sub(lambda match: opening.replace("\\1", match[1]), body, count=1)
    return _SPACE.sub("><", body)


def _shorter(path: str) -> str:
    rounded = _DECIMALS.sub(lambda match: f"{float(match[1]):.2f}".rstrip("0").rstrip("."), path)
    return " ".join(_DOT.sub(r"M\1 \2h0", rounded + "\n").split())


def _page_colour(match: re.Match[str]) -> str:
    name, colour = match[1], match[2]
    if colour == INK:
        return f"{name}: currentColor"
    if colour in PALETTE:
        return f"{name}: var(--plot-{PALETTE.index(colour) + 1}, {colour})"
    return match[0]


def _own_names(body: str) -> str:
    prefix = "p" + hashlib.sha256(body.encode()).hexdigest()[:8] + "-"
    used = set(_REFERENCE.findall(body))
    body = _IDENTIFIER.sub(lambda match: f' id="{prefix}{match[1]}"' if match[1] in used else "", body)
    return _REFERENCE.sub(lambda match: match[0][: -len(match[1])] + prefix + match[1], body)

"""The page around the sections: head, style, scripts, contents, and the limit on its size."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from atomml import __version__
from atomml.report.markup import escape, slug
from atomml.report.sections import Paragraphs, Plot, Section, Table, Viewer

__all__ = ["MAX_BYTES", "Header", "fit", "render"]

MAX_BYTES = 2_000_000 - 20_000
"""The page's limit of 2 MB, less a margin for sentences that say what was left out."""

_MAX_WARNINGS = 100
_SCRIPTS = ("geometry.js", "viewer.js", "page.js")


@dataclass(frozen=True)
class Header:
    """What stands above the sections."""

    title: str
    subtitle: str
    status: tuple[str, bool] | None
    warnings: tuple[str, ...]


def render(header: Header, sections: Sequence[Section]) -> str:
    """The page as one string.

    A content security policy names the digests of our own scripts, so that the browser runs
    nothing else and loads nothing, whatever the page's text may hold.
    """
    anchors = _anchors(sections)
    more = dict.fromkeys(section.script for section in sections if section.script)
    scripts = [asset(name) for name in (*_SCRIPTS, *more)] if sections else []
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f'<meta name="generator" content="atomml {escape(__version__)}">\n',
            f"<title>{escape(header.title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>\n",
            _top(header, sections, anchors),
            "<main>\n",
            *(_section(section, anchor) for section, anchor in zip(sections, anchors, strict=True)),
            f"</main>\n<footer>Written by atomml {escape(__version__)}; it needs no network.</footer>\n",
            *(f"<script>{script}</script>\n" for script in scripts),
            "</body>\n</html>\n",
        )
    )


def fit(header: Header, sections: Sequence[Section], limit: int) -> list[Section]:
    """``sections``, with frames, then rows, then plots left out until the page is below ``limit`` bytes."""
    fitted = list(sections)
    while True:
        sizes = [_size(section) for section in fitted]
        excess = len(render(header, []).encode()) + _scripts_size(fitted) + sum(sizes) - limit
        if excess <= 0:
            return fitted
        smaller = _reduce(fitted, sizes, excess)
        if smaller is None:
            return [section for section in fitted if not isinstance(section, Plot | Paragraphs)]
        fitted = smaller


@cache
def asset(name: str) -> str:
    """A file of this package as text."""
    return files("atomml.report").joinpath(name).read_text(encoding="utf-8")


def _reduce(sections: list[Section], sizes: list[int], excess: int) -> list[Section] | None:
    """The sections with the largest one of the first kind that can shrink made smaller, or None."""
    for kind in (Viewer, Table, Plot):
        candidates = [
            i for i, section in enumerate(sections) if isinstance(section, kind) and _can_shrink(section)
        ]
        if candidates:
            largest = max(candidates, key=lambda i: sizes[i])
            share = max(0.0, min(0.95, 1 - 1.02 * excess / max(1, sizes[largest])))
            return [*sections[:largest], _shrunk(sections[largest], share), *sections[largest + 1 :]]
    return None


def _can_shrink(section: Section) -> bool:
    if isinstance(section, Viewer):
        return len(section.frames) > 0
    return len(section.rows) > 10 if isinstance(section, Table) else isinstance(section, Plot)


def _shrunk(section: Section, share: float) -> Section:
    if isinstance(section, Viewer):
        return section.thinned(max(1, int(share * len(section.frames))) if len(section.frames) > 1 else 0)
    if isinstance(section, Table):
        return section.shortened(max(10, int(share * len(section.rows))))
    return Paragraphs(section.title, "This plot was left out to keep the file small.")


def _size(section: Section) -> int:
    return len(_section(section, "x" * 60).encode()) + 200  # the second term: its line in the contents


def _scripts_size(sections: Sequence[Section]) -> int:
    more = dict.fromkeys(section.script for section in sections if section.script)
    return sum(len(asset(name).encode()) + 100 for name in (*_SCRIPTS, *more))


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _anchors(sections: Sequence[Section]) -> list[str]:
    """One unlike name per section, from its title."""
    seen: dict[str, int] = {}
    anchors = []
    for section in sections:
        name = slug(section.title)
        seen[name] = seen.get(name, 0) + 1
        anchors.append(name if seen[name] == 1 else f"{name}--{seen[name]}")
    return anchors


def _top(header: Header, sections: Sequence[Section], anchors: Sequence[str]) -> str:
    badge = ""
    if header.status is not None:
        text, good = header.status
        badge = (
            f'<span class="badge {"good" if good else "bad"}">{"✓" if good else "✗"} {escape(text)}</span>'
        )
    subtitle = f'<p class="subtitle">{escape(header.subtitle)}</p>' if header.subtitle else ""
    links = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for section, anchor in zip(sections, anchors, strict=True)
    )
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n' if len(sections) > 1 else ""
    return (
        f"<header><h1>{escape(header.title)} {badge}</h1>{subtitle}</header>\n{contents}{_warnings(header)}"
    )


def _warnings(header: Header) -> str:
    if not header.warnings:
        return ""
    shown = "".join(f"<li>{escape(text[:2000])}</li>" for text in header.warnings[:_MAX_WARNINGS])
    more = len(header.warnings) - _MAX_WARNINGS
    rest = f"<li>and {more:,} more, in summary.json</li>" if more > 0 else ""
    word = "Warning" if len(header.warnings) == 1 else "Warnings"
    return f'<aside class="warnings" role="note"><h2>{word}</h2><ul>{shown}{rest}</ul></aside>\n'


def _section(section: Section, anchor: str) -> str:
    width = "wide" if section.wide else "half"
    heading = f"<h2>{escape(section.title)}</h2>"
    return f'<section id="{anchor}" class="{width}">{heading}{section.body(anchor)}</section>\n'
